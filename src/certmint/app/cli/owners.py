"""`certmint owner`."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from certmint.app.cli.common import (
    config_option,
    console_operator,
    installation,
    json_option,
    print_item,
    print_rows,
    read_file,
    tenant_of,
    tenant_option,
)
from certmint.app.cli.fleet import owner_named
from certmint.app.cli.paging import Paging, paging_options, print_pages
from certmint.model.errors import NotFound

if TYPE_CHECKING:
    from certmint.app.wiring import Installation
    from certmint.model.entities import Manufacturer, Owner


@click.group()
def owner() -> None:
    """Customers who own devices."""


@owner.command()
@click.argument("username")
@click.option("--password-file", type=click.Path(path_type=Path), default=None,
              help="File with the password [asked for].")  # fmt: skip
@config_option
@tenant_option
def add(config_path: Path, slug: str | None, username: str, password_file: Path | None) -> None:
    """Add an account for a customer."""
    from certmint.enrolment import devices

    if password_file is not None:
        password = read_file(password_file, "the password", 4096).decode().rstrip("\r\n")
    else:
        password = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    with installation(config_path) as here:
        tenant = tenant_of(here, slug)
        devices.add_owner(
            here.db, tenant, username, password,
            by=console_operator(), now=here.clock(), random_bytes=here.random_bytes,
        )  # fmt: skip
    click.echo(f"owner {username} added; logs in as {tenant.slug}/{username}")


@owner.command("list")
@paging_options
@config_option
@tenant_option
@json_option
def list_owners(config_path: Path, slug: str | None, paging: Paging, as_json: bool) -> None:
    """List owners by user name."""
    from certmint.registry import reads

    with installation(config_path) as here:
        tenant = tenant_of(here, slug)

        def fetch(after: str | None, limit: int) -> "list[Owner]":
            with here.db.read() as tx:
                return reads.owners(tx, tenant.id, after=after, limit=limit)

        print_pages(
            paging, fetch, _row, lambda each: each.username, as_json=as_json, empty="no owners yet"
        )


@owner.command()
@click.argument("username")
@config_option
@tenant_option
@json_option
def show(config_path: Path, slug: str | None, username: str, as_json: bool) -> None:
    """Show an owner; `certmint device list --owner USERNAME` lists the devices."""
    with installation(config_path) as here:
        found = owner_named(here, tenant_of(here, slug), username)
    print_item(_row(found), as_json=as_json)


def _row(found: "Owner") -> dict[str, object]:
    return {"id": found.id, "username": found.username, "created_at": found.created_at}


def _link_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """An owner, and who that is at which provider."""
    for option in (
        tenant_option,
        config_option,
        click.option("--issuer", default=None, help="[the manufacturer's configured provider]"),
        click.option("--subject", required=True, help="The provider's claim `sub`."),
        click.argument("username"),
    ):
        command = option(command)
    return command


@owner.command()
@_link_options
def link(
    config_path: Path, slug: str | None, username: str, subject: str, issuer: str | None
) -> None:
    """Let the owner USERNAME log in at the manufacturer's OpenID provider."""
    from certmint.enrolment import oidc

    with installation(config_path) as here:
        tenant = tenant_of(here, slug)
        oidc.link(
            here.db, tenant, username, issuer or _issuer(here, tenant), subject,
            by=console_operator(), now=here.clock(),
        )  # fmt: skip
    click.echo(f"{subject} is the owner {username}")


@owner.command()
@_link_options
def unlink(
    config_path: Path, slug: str | None, username: str, subject: str, issuer: str | None
) -> None:
    """End such a link, and the owner's sessions with it."""
    from certmint.enrolment import oidc

    with installation(config_path) as here:
        tenant = tenant_of(here, slug)
        oidc.unlink(
            here.db, tenant, username, issuer or _issuer(here, tenant), subject,
            by=console_operator(), now=here.clock(),
        )  # fmt: skip
    click.echo(f"{subject} is no longer the owner {username}")


@owner.command()
@click.option("--after", nargs=2, default=None, metavar="ISSUER SUBJECT", help="Continue there.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True)
@config_option
@tenant_option
@json_option
def identities(
    config_path: Path, slug: str | None, after: tuple[str, str] | None, limit: int, as_json: bool
) -> None:
    """List who is linked with which owner."""
    from certmint.enrolment import oidc

    with installation(config_path) as here:
        found = oidc.identities(here.db, tenant_of(here, slug), after, limit)
    print_rows([vars(each) for each in found], as_json=as_json, empty="nobody is linked")


def _issuer(here: "Installation", tenant: "Manufacturer") -> str:
    for each in here.config.settings.oidc.providers:
        if each.manufacturer == tenant.slug:
            return each.issuer
    raise NotFound(
        "provider-unknown", f"{tenant.slug} has no OpenID provider: configure one, or name --issuer"
    )
