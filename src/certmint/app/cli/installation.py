"""`certmint init | serve | config | database | reconcile`."""

import importlib.metadata
import os
import secrets
from pathlib import Path

import click

from certmint.app.cli.common import (
    config_option,
    installation,
    json_option,
    log_to_stderr,
    print_item,
)
from certmint.model.errors import BadInput, Conflict, Misconfigured


@click.command()
@click.argument("folder", type=click.Path(path_type=Path), default=Path())
@click.option("--database", default="sqlite:certmint.db", show_default=True, help="Database URL.")
@click.option("--https", default="127.0.0.1:8443", show_default=True, help="TLS listener.")
@click.option("--http", default="127.0.0.1:8080", show_default=True, help="Status listener.")
@click.option("--status-url", default=None, help="Public base of --http [http://<--http>].")
@click.option("--name", "names", multiple=True, help="Name of the server [localhost, 127.0.0.1].")
@click.option("--resolver", "resolvers", multiple=True, help="DNS resolver [the system's].")
def init(
    folder: Path,
    database: str,
    https: str,
    http: str,
    status_url: str | None,
    names: tuple[str, ...],
    resolvers: tuple[str, ...],
) -> None:
    """Make a new installation in FOLDER (default: here).

    Writes certmint.toml, a random passphrase for authority keys, the database, and the server's
    own certificate. Nothing that exists is overwritten; an init that was cut off can be repeated.
    """
    from certmint.app import config, servercert, wiring
    from certmint.registry.engine import open_database

    path = folder / config.FILE_NAME
    marker = folder / ".init"
    if path.exists() and not marker.exists():
        raise Conflict("installation-exists", f"{path} exists already: choose an empty folder")
    text = config.example(
        database=database,
        https=https,
        http=http,
        names=names or ("localhost", "127.0.0.1"),
        status=status_url or f"http://{http}",
        resolvers=resolvers or config.system_resolvers(),
    )
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        marker.touch()  # until it is gone, `init` may be repeated after a crash
        path.write_text(text)
        for name in ("keys", "secrets", "tls"):
            (folder / name).mkdir(exist_ok=True, mode=0o700)
        _write_passphrase(folder / "secrets" / "keys.passphrase")
    except OSError as error:
        raise BadInput(
            "folder-unusable", f"{folder} cannot be used: {error.strerror}: choose another folder"
        ) from None
    try:
        loaded = config.load(path)
    except Misconfigured:
        path.unlink()
        marker.unlink()
        raise
    log_to_stderr("warning")
    db = open_database(loaded.database_url)
    try:
        db.migrate()
    finally:
        db.close()
    here = wiring.open_installation(loaded)
    try:
        servercert.ensure(here)
    finally:
        here.close()
    marker.unlink()
    click.echo(f"A new installation is in {folder.resolve()}")
    click.echo(f"  configuration   {path}")
    click.echo(f"  passphrase      {folder / 'secrets/keys.passphrase'}: keep a copy elsewhere")
    click.echo(f"  trust anchor    {folder / servercert.ROOT_FILE}: clients of https://{https}")
    click.echo(f"Next: certmint manufacturer add SLUG --subject 'C=US, O=…' --config {path}")


def _write_passphrase(path: Path) -> None:
    if path.exists():
        return
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_urlsafe(32) + "\n")


@click.command()
@config_option
def serve(config_path: Path) -> None:
    """Run the server: REST over TLS, and CRLs, OCSP and AIA over plain HTTP."""
    from certmint.app.serve import serve as run

    with installation(config_path) as here:
        run(here, importlib.metadata.version("certmint"))


@click.group()
def config() -> None:
    """Check or show the configuration."""


@config.command()
@config_option
def check(config_path: Path) -> None:
    """Read the configuration and say whether it is sound."""
    from certmint.app import config as configuration

    loaded = configuration.load(config_path)
    click.echo(f"{loaded.path} is sound")


@config.command()
def example() -> None:
    """Print the commented configuration file."""
    from certmint.app import config as configuration

    click.echo(configuration.example(), nl=False)


@click.group()
def database() -> None:
    """Migrate or check the database."""


@database.command()
@config_option
def migrate(config_path: Path) -> None:
    """Bring the database to this version's schema. Safe to repeat after a crash."""
    from certmint.app import config as configuration
    from certmint.registry.engine import open_database

    loaded = configuration.load(config_path)
    log_to_stderr("warning")
    db = open_database(loaded.database_url)
    try:
        before = db.schema_revision()
        db.migrate()
        click.echo(f"the database is at revision {db.head_revision()} (was {before})")
    finally:
        db.close()


@database.command("check")
@config_option
def check_database(config_path: Path) -> None:
    """Ask the database whether its files are whole."""
    with installation(config_path) as here:
        problems = here.db.integrity_check()
    if problems:
        raise Misconfigured("database-corrupt", f"the database is damaged: {problems[0]}")
    click.echo("the database is whole")


@click.command()
@click.option("--now", "at_once", is_flag=True, help="Do not wait for signatures under way.")
@config_option
@json_option
def reconcile(config_path: Path, at_once: bool, as_json: bool) -> None:
    """Revoke the serials of issuances that a crash cut off.

    A running server does this by itself. With --now, intents of the last minutes are taken too:
    only when no certmint process is running.
    """
    import datetime as dt

    from certmint.enrolment.reconcile import GRACE
    from certmint.enrolment.reconcile import reconcile as run

    with installation(config_path) as here:
        grace = dt.timedelta(0) if at_once else GRACE
        abandoned = run(here.db, here.keys, here.clock(), grace)
    print_item(
        {"revoked": len(abandoned), "serials": [each.serial for each in abandoned[:20]]},
        as_json=as_json,
    )
