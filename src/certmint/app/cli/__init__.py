"""The command line: `certmint <noun> <verb>`.

Each noun is a module that is imported when it is named, so that the shell does not wait for
libraries that a command does not use. Errors are one sentence and an exit code (docs/cli.md).
"""

import importlib

import click

from certmint.app.cli.common import Failing

# Noun -> (module below this package, what it is for).
COMMANDS = {
    "init": ("installation", "Make a new installation in a folder."),
    "serve": ("installation", "Run the server."),
    "doctor": ("doctor", "Say what is wrong with this installation, in plain words."),
    "config": ("installation", "Check or show the configuration."),
    "database": ("installation", "Migrate or check the database."),
    "reconcile": ("installation", "Revoke the serials of issuances that a crash cut off."),
    "manufacturer": ("tenants", "Manufacturers: the tenants."),
    "operator": ("tenants", "Operators and their API tokens."),
    "domain": ("domains", "DNS records and proof of control of domains."),
    "authority": ("authorities", "Roots, issuing CAs and constrained SubCAs."),
    "profile": ("profiles", "What kinds of certificates look like."),
    "product": ("products", "Device models."),
    "device": ("devices", "Devices: list, show, history, claim, suspend, retire."),
    "owner": ("owners", "Customers who own devices, and their logins."),
    "batch": ("batches", "Factory runs: submit, mint, resume, show."),
    "certificate": ("certificates", "Certificates: list, issue, show, revoke."),
    "campaign": ("campaigns", "Replace or revoke a chosen set of certificates by a deadline."),
    "audit": ("audits", "The audit log: list, verify, report."),
    "approval": ("approvals", "What waits for a second operator."),
    "job": ("jobs", "Long work: list, show, follow, cancel."),
    "metrics": ("remote", "A running node's numbers for Prometheus."),
    "acme": ("acme", "ACME directories and account bindings."),
    "lab": ("lab", "An ACME server on loopback for clients to be tried against."),
    "simulate": ("simulate", "A fleet over years, on the real policy and a fast clock."),
    "completion": ("completion", "What makes a shell complete our commands."),
    "demo": ("demo", "Play the whole router story, on real parts."),
}


class Nouns(click.Group):
    """Imports the module of a noun when it is needed."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, _ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module = importlib.import_module(f"certmint.app.cli.{COMMANDS[name][0]}")
        command: click.Command = getattr(module, name)
        return command

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, about) for name, (_, about) in COMMANDS.items()])


@click.command(cls=Nouns, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="certmint", prog_name="certmint")
def root() -> None:
    """Certificates for connected devices, from the factory to the end of their lives."""


def main() -> None:
    """The entry point of the `certmint` script."""
    Failing(root).run()
