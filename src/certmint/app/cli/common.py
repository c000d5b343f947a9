"""What every command shares: opening the installation, printing, and failing well."""

import contextlib
import datetime as dt
import getpass
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from certmint.model.errors import (
    BadInput,
    CertmintError,
    Conflict,
    Forbidden,
    Misconfigured,
    NotFound,
    Pending,
    Refused,
    TooOften,
    Unauthenticated,
    Unavailable,
    WrongState,
)

if TYPE_CHECKING:
    from certmint.app.wiring import Installation
    from certmint.model.entities import Manufacturer

# Documented in docs/cli.md; a test compares the two.
EXIT_CODES: Mapping[type[CertmintError], int] = {
    BadInput: 2,
    Refused: 3,
    Unauthenticated: 3,
    Forbidden: 3,
    NotFound: 4,
    Conflict: 5,
    WrongState: 5,
    Pending: 6,
    TooOften: 6,
    Unavailable: 6,
    Misconfigured: 7,
}
INTERRUPTED = 130
CONFIG_VARIABLE = "CERTMINT_CONFIG"
MANUFACTURER_VARIABLE = "CERTMINT_MANUFACTURER"


class Failing:
    """Runs the command line; every expected failure becomes one sentence and an exit code."""

    def __init__(self, command: click.Command) -> None:
        self._command = command

    def run(self) -> None:
        try:
            code = self._command.main(standalone_mode=False)
        except CertmintError as error:
            click.echo(f"certmint: {error} [{error.code}]", err=True)
            code = EXIT_CODES[type(error)]
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            code = 2
        except click.ClickException as error:
            error.show()
            code = error.exit_code
        except (click.Abort, KeyboardInterrupt):
            click.echo("certmint: interrupted", err=True)
            code = INTERRUPTED
        except BrokenPipeError:
            sys.stderr.close()
            code = 0
        sys.exit(code if isinstance(code, int) else 0)


def config_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--config FILE`."""
    return click.option(
        "--config", "config_path", envvar=CONFIG_VARIABLE, default="certmint.toml",
        type=click.Path(path_type=Path), show_default=True, help="The configuration file.",
    )(command)  # fmt: skip


def tenant_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--manufacturer SLUG`, not needed where there is only one."""
    return click.option(
        "--manufacturer", "-m", "slug", envvar=MANUFACTURER_VARIABLE, default=None,
        help="The manufacturer's short name; not needed where there is only one.",
    )(command)  # fmt: skip


def json_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")(command)


@contextlib.contextmanager
def installation(config_path: Path) -> Iterator["Installation"]:
    """The installation that a configuration file describes."""
    from certmint.app import config, wiring

    loaded = config.load(config_path)
    log_to_stderr(loaded.settings.log.level)
    opened = wiring.open_installation(loaded)
    try:
        yield opened
    finally:
        opened.close()


def log_to_stderr(level: str) -> None:
    """Plain lines with a UTC time on standard error."""
    logging.basicConfig(
        level=level.upper(),
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        datefmt="%Y-%m-%dT%H:%M:%SZ",
        force=True,
    )
    logging.Formatter.converter = time.gmtime
    for chatty in ("alembic", "uvicorn", "uvicorn.error"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def tenant_of(here: "Installation", slug: str | None) -> "Manufacturer":
    """The manufacturer that was named, or the only one. Raises BadInput `manufacturer-choice`."""
    from certmint.app.servercert import SLUG
    from certmint.enrolment.manufacturers import manufacturer
    from certmint.registry import reads

    if slug is not None:
        return manufacturer(here.db, slug)
    with here.db.read() as tx:
        known = [each for each in reads.manufacturers(tx, None, 3) if each.slug != SLUG]
    if len(known) == 1:
        return known[0]
    hint = "name one with --manufacturer" if known else "make one: `certmint manufacturer add`"
    raise BadInput("manufacturer-choice", f"there are {len(known) or 'no'} manufacturers: {hint}")


def console_operator() -> str:
    """Who acts at this console, for the audit log: `console:<user>`."""
    try:
        return f"console:{getpass.getuser()}"
    except (KeyError, OSError):
        return "console:unknown"


def print_rows(rows: Sequence[Mapping[str, Any]], *, as_json: bool, empty: str) -> None:
    """A table for people, or JSON lines for programs."""
    if as_json:
        for row in rows:
            click.echo(json.dumps(row, default=_plain))
        return
    if not rows:
        click.echo(empty)
        return
    columns = list(rows[0])
    cells = [[_cell(row[column]) for column in columns] for row in rows]
    widths = [
        max(len(column), *(len(line[place]) for line in cells))
        for place, column in enumerate(columns)
    ]
    for line in ([column.upper().replace("_", " ") for column in columns], *cells):
        click.echo("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip())


def print_item(item: Mapping[str, Any], *, as_json: bool) -> None:
    """One thing: `key: value` lines for people, one JSON object for programs."""
    if as_json:
        click.echo(json.dumps(item, default=_plain))
        return
    width = max(len(key) for key in item) + 1
    for key, value in item.items():
        click.echo(f"{(key.replace('_', ' ') + ':').ljust(width)} {_cell(value)}")


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, dt.datetime):
        return value.strftime("%Y-%m-%d %H:%M:%SZ")
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return str(value)


def _plain(value: Any) -> Any:
    """What JSON has no word for."""
    if isinstance(value, dt.datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%SZ")
    return str(value)


def read_file(path: Path, what: str, most: int = 64 * 1024 * 1024) -> bytes:
    """A file's content. Raises BadInput `file-unreadable`."""
    try:
        if path.stat().st_size > most:
            raise BadInput("file-unreadable", f"{what} {path} is longer than {most} bytes")
        return path.read_bytes()
    except OSError as error:
        raise BadInput(
            "file-unreadable", f"{what} {path} cannot be read: {error.strerror}"
        ) from None


def read_list(path: Path, what: str) -> list[str]:
    """The lines of a file, or of standard input for `-`, each once.

    Raises BadInput `file-unreadable` or `list-empty`.
    """
    data = sys.stdin.buffer.read() if path == Path("-") else read_file(path, what)
    lines = (line.strip() for line in data.decode("utf-8", "replace").splitlines())
    found = list(dict.fromkeys(line for line in lines if line))
    if not found:
        raise BadInput("list-empty", f"{what} {path} names nothing: give one on each line")
    return found


@contextlib.contextmanager
def new_secret_file(path: Path) -> Iterator[TextIO]:
    """A new file that only its owner may read. Raises BadInput `file-unwritable`."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise BadInput("file-unwritable", f"{path} cannot be made: {error.strerror}") from None
    with os.fdopen(descriptor, "w") as file:
        yield file


def write_new_file(path: Path, content: str | bytes) -> None:
    """Write a result that a person asked for. Raises BadInput `file-unwritable`."""
    try:
        data = content.encode() if isinstance(content, str) else content
        path.write_bytes(data)
    except OSError as error:
        raise BadInput("file-unwritable", f"{path} cannot be written: {error.strerror}") from None


def days(text: str) -> dt.timedelta:
    """A duration as people type it: `90d`, `12h`, `30m`. Raises BadInput `duration-syntax`."""
    units = {"d": "days", "h": "hours", "m": "minutes", "s": "seconds", "y": "years"}
    unit = units.get(text[-1:])
    if unit is None or not text[:-1].isdigit():
        raise BadInput("duration-syntax", f"{text!r} is not a duration such as 90d, 12h or 30m")
    count = int(text[:-1])
    try:
        return dt.timedelta(days=365 * count) if unit == "years" else dt.timedelta(**{unit: count})
    except OverflowError:
        raise BadInput("duration-syntax", f"{text!r} is too long a duration") from None
