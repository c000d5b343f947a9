"""What the demo says: steps, what was done, and what proved it."""

import time
from dataclasses import dataclass, field

import click

from certmint.model.errors import CertmintError


class NotProved(CertmintError):
    """The demo saw something else than the story tells."""


@dataclass
class Narrator:
    """Prints the story and keeps the proofs for the table at the end."""

    proofs: list[tuple[str, str]] = field(default_factory=list)
    _step: str = ""
    _began: float = field(default_factory=time.monotonic)

    def step(self, number: str, title: str) -> None:
        self._step = number
        click.secho(f"\n{number}. {title}", bold=True)

    def did(self, text: str) -> None:
        click.echo(f"   {text}")

    def proved(self, text: str, holds: bool = True) -> None:
        """One proof. Raises NotProved `demo-failed` when it does not hold."""
        if not holds:
            raise NotProved("demo-failed", f"step {self._step}: not true: {text}")
        self.proofs.append((self._step, text))
        click.echo(click.style("   ✓ ", fg="green") + text)

    def absent(self, tool: str, text: str) -> None:
        """A proof that needs a tool which this machine does not have."""
        click.echo(click.style("   - ", fg="yellow") + f"{text}: {tool} is not installed here")

    def table(self) -> None:
        """What was proved, step by step."""
        click.secho("\nWhat was proved", bold=True)
        last = ""
        for step, text in self.proofs:
            click.echo(f" {step if step != last else ' ':>2}  {text}")
            last = step
        click.echo(f"\n{len(self.proofs)} proofs in {time.monotonic() - self._began:.1f} s")
