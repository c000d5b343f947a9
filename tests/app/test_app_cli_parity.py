"""Whatever the API can, the command line can: docs/cli.md says how, and is whole and true."""

import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from certmint.app.cli import COMMANDS, root
from certmint.model.operations import Operation

PAGE = (Path(__file__).parents[2] / "docs/cli.md").read_text()
# Wire doors, simulations and the installation itself have no operations, and no such table.
NOT_LISTED = {"acme", "simulate", "lab", "demo", "init", "serve", "doctor"}


def command_named(words: str) -> click.Command | None:
    """The command behind `noun verb …`."""
    found: click.Command | None = root
    for word in words.split():
        if not isinstance(found, click.Group):
            return None
        found = found.get_command(click.Context(found), word)
    return found


def verbs(command: click.Command, path: str = "") -> set[str]:
    """Every verb below a noun, as it is typed."""
    if not isinstance(command, click.Group):
        return {path}
    context = click.Context(command)
    found: set[str] = set()
    for name in command.list_commands(context):
        below = command.get_command(context, name)
        assert below is not None
        found |= verbs(below, f"{path} {name}".strip())
    return found


def test_every_operation_has_its_command() -> None:
    """The table names each operation of the REST door, and commands that are there."""
    rows = dict(re.findall(r"^\| `([a-z_]+)` \| (.+) \|$", PAGE, re.MULTILINE))

    assert set(rows) == {each.value for each in Operation}
    for operation, said in rows.items():
        commands = re.findall(r"`([a-z -]+)`", said)
        assert commands, operation
        for words in commands:
            path, _, option = words.partition(" --")
            found = command_named(path)
            assert found is not None, words
            offered = {name for each in found.params for name in each.opts}
            assert not option or f"--{option}" in offered, words


@pytest.mark.parametrize("noun", sorted(set(COMMANDS) - NOT_LISTED))
def test_every_verb_is_on_the_page(noun: str) -> None:
    """The row of a noun names all of its verbs and no other."""
    (row,) = re.findall(rf"^\| `certmint {noun}` \| (.*) \|$", PAGE, re.MULTILINE)
    command = command_named(noun)
    assert command is not None
    if not isinstance(command, click.Group):
        return

    assert set(re.findall(r"`([a-z-]+(?: [a-z-]+)?)`", row)) == verbs(command)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_names_our_command(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each shell gets a script that asks `certmint`."""
    root.main(["completion", shell], standalone_mode=False)

    said = capsys.readouterr().out
    assert "_CERTMINT_COMPLETE" in said
    assert "certmint" in said


def test_completion_completes() -> None:
    """What the script asks is answered: the verbs of a noun, without a configuration."""
    command = Path(sys.executable).with_name("certmint")
    done = subprocess.run(
        [command], capture_output=True, text=True, check=True, timeout=30,
        env={"_CERTMINT_COMPLETE": "bash_complete", "COMP_WORDS": "certmint job ",
             "COMP_CWORD": "2", "PYTHONPATH": str(Path(__file__).parents[2] / "src")},
    )  # fmt: skip

    assert done.stdout.split() == ["plain,cancel", "plain,list", "plain,show"]
