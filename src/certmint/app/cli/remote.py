"""What a command asks of a running server, as an operator with a token: `certmint.client` at work.

Few commands do: those that need an operator's own word, or a running process's numbers. The token
comes from a file, so that it is in no list of processes and no shell's history.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from certmint.app.cli.common import config_option, read_file
from certmint.model.errors import (
    BadInput,
    CertmintError,
    Conflict,
    Forbidden,
    NotFound,
    TooOften,
    Unauthenticated,
    Unavailable,
)

if TYPE_CHECKING:
    from certmint.client import Client

_KINDS: dict[int, type[CertmintError]] = {
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    429: TooOften,
}


def server_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--token-file`, and which server to ask."""
    for option in (
        config_option,
        click.option("--ca-file", type=click.Path(path_type=Path), default=None,
                     help="What to trust.  [tls/root.pem of the installation]"),
        click.option("--server", default="", help="Base URL.  [the installation's own]"),
        click.option("--token-file", type=click.Path(path_type=Path), required=True,
                     help="File with the operator's API token."),
    ):  # fmt: skip
        command = option(command)
    return command


@contextmanager
def client_of(
    config_path: Path, server: str, ca_file: Path | None, token_file: Path
) -> Iterator["Client"]:
    """A client of the server that was named, or of the one that the configuration describes.

    Raises BadInput `file-unreadable`, Unavailable `server-unreachable`, and what the server's
    problem documents say.
    """
    from certmint.app import config
    from certmint.app.servercert import ROOT_FILE
    from certmint.client import Client, ClientError, Problem

    token = read_file(token_file, "the token", 4096).decode("utf-8", "replace").strip()
    if not server or ca_file is None:
        loaded = config.load(config_path)
        server = server or loaded.base_url
        ca_file = ca_file or loaded.resolve(ROOT_FILE)
    try:
        with Client(server, token, ca_file=str(ca_file)) as opened:
            yield opened
    except Problem as problem:
        kind = _KINDS.get(problem.status, Unavailable if problem.status >= 500 else BadInput)
        raise kind(problem.code, problem.detail) from None
    except ClientError as error:
        raise Unavailable("server-unreachable", f"{server} gives no answer: {error}") from None


@click.command()
@server_options
def metrics(config_path: Path, server: str, ca_file: Path | None, token_file: Path) -> None:
    """Print a running node's numbers for Prometheus; for operators of `instance`."""
    with client_of(config_path, server, ca_file, token_file) as client:
        click.echo(client.show_metrics(), nl=False)
