"""`certmint manufacturer | operator`."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from certmint.app.cli.common import (
    config_option,
    console_operator,
    days,
    installation,
    json_option,
    print_item,
    print_rows,
    tenant_of,
    tenant_option,
)
from certmint.model.entities import Operator, Role

if TYPE_CHECKING:
    from certmint.app.wiring import Installation
    from certmint.enrolment.operators import NewToken


@click.group()
def manufacturer() -> None:
    """Manufacturers: the tenants. Nothing crosses between them."""


@manufacturer.command()
@click.argument("slug")
@click.option("--subject", required=True, help="'C=US, O=Example Router Inc'")
@config_option
@json_option
def add(config_path: Path, slug: str, subject: str, as_json: bool) -> None:
    """Add the manufacturer SLUG, with the built-in profiles."""
    from certmint.enrolment.manufacturers import add_manufacturer
    from certmint.model.subject import DistinguishedName

    with installation(config_path) as here:
        made = add_manufacturer(
            here.db, slug, DistinguishedName.parse(subject), by=console_operator(),
            now=here.clock(), random_bytes=here.random_bytes,
        )  # fmt: skip
    print_item({"id": made.id, "slug": made.slug, "subject": str(made.subject)}, as_json=as_json)


@manufacturer.command("list")
@config_option
@json_option
def list_manufacturers(config_path: Path, as_json: bool) -> None:
    """List the manufacturers of this installation."""
    from certmint.registry import reads

    with installation(config_path) as here, here.db.read() as tx:
        rows = [
            {"slug": each.slug, "subject": str(each.subject), "created_at": each.created_at}
            for each in reads.manufacturers(tx, None, 1000)
        ]
    print_rows(rows, as_json=as_json, empty="no manufacturers yet")


@manufacturer.command()
@click.argument("slug")
@config_option
@json_option
def show(config_path: Path, slug: str, as_json: bool) -> None:
    """Show the manufacturer SLUG."""
    from certmint.enrolment.manufacturers import manufacturer as named

    with installation(config_path) as here:
        found = named(here.db, slug)
    print_item(
        {"id": found.id, "slug": found.slug, "subject": str(found.subject),
         "created_at": found.created_at},
        as_json=as_json,
    )  # fmt: skip


def _token_options(command: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.option("--lifetime", default="90d", show_default=True, help="Of the token."),
        click.option("--scope", "scopes", multiple=True, metavar="SCOPE",
                     help="Narrow the token, such as devices:read.  [all that the role has]"),
    ):  # fmt: skip
        command = option(command)
    return command


@click.group()
def operator() -> None:
    """Operators and their API tokens."""


@operator.command("add")
@click.argument("name")
@click.option("--role", type=click.Choice([role.value for role in Role]), required=True)
@_token_options
@config_option
@tenant_option
@json_option
def add_operator(
    config_path: Path,
    slug: str | None,
    name: str,
    role: str,
    lifetime: str,
    scopes: tuple[str, ...],
    as_json: bool,
) -> None:
    """Add an operator and print the API token, which is shown this once only."""
    from certmint.enrolment.operators import add_operator as use_case

    with installation(config_path) as here:
        made, token = use_case(
            here.db, tenant_of(here, slug), name, Role(role), lifetime=days(lifetime),
            scopes=scopes or None,
            by=console_operator(), now=here.clock(), random_bytes=here.random_bytes,
        )  # fmt: skip
    print_item({"id": made.id, "name": name, "role": role} | _shown(token), as_json=as_json)


@operator.command("list")
@config_option
@tenant_option
@json_option
def list_operators(config_path: Path, slug: str | None, as_json: bool) -> None:
    """List operators; their tokens are known to nobody but them."""
    from certmint.registry import reads

    with installation(config_path) as here:
        tenant = tenant_of(here, slug)
        with here.db.read() as tx:
            rows = [
                {"id": each.id, "name": each.name, "role": each.role.value,
                 "disabled": each.disabled}
                for each in reads.operators(tx, tenant.id)
            ]  # fmt: skip
    print_rows(rows, as_json=as_json, empty="no operators yet")


@operator.command("show")
@click.argument("name")
@config_option
@tenant_option
@json_option
def show_operator(config_path: Path, slug: str | None, name: str, as_json: bool) -> None:
    """Show the operator NAME, and what the role lets do."""
    from certmint.enrolment.access import operations_of
    from certmint.enrolment.operators import operator_named

    with installation(config_path) as here:
        tenant = tenant_of(here, slug)
        found = operator_named(here.db, tenant.id, name)
        allowed = operations_of(found, tenant)
    print_item(
        {"id": found.id, "name": found.name, "role": found.role.value,
         "disabled": found.disabled, "operations": [each.value for each in allowed]},
        as_json=as_json,
    )  # fmt: skip


@operator.group()
def sessions() -> None:
    """An operator's logins at the console."""


@sessions.command("close")
@click.argument("name")
@config_option
@tenant_option
@json_option
def close_sessions(config_path: Path, slug: str | None, name: str, as_json: bool) -> None:
    """End every session of the operator NAME; tokens stay."""
    from certmint.enrolment import operators

    with installation(config_path) as here:
        found = _named(here, slug, name)
        ended = operators.close_sessions(
            here.db, found.tenant_id, found.id, by=console_operator(), now=here.clock()
        )
    print_item({"name": name, "ended": ended}, as_json=as_json)


@operator.command("change")
@click.argument("name")
@click.option("--role", type=click.Choice([role.value for role in Role]), default=None)
@click.option("--disable/--enable", "disabled", default=None, help="Shut out, or let in again.")
@config_option
@tenant_option
@json_option
def change(
    config_path: Path,
    slug: str | None,
    name: str,
    role: str | None,
    disabled: bool | None,
    as_json: bool,
) -> None:
    """Give an operator another role, or shut one out; sessions end at once."""
    from certmint.enrolment.operators import change_operator

    with installation(config_path) as here:
        before = _named(here, slug, name)
        now_is = change_operator(
            here.db, before, role=Role(role) if role else before.role,
            disabled=before.disabled if disabled is None else disabled,
            by=console_operator(), now=here.clock(),
        )  # fmt: skip
    print_item(
        {"id": now_is.id, "name": name, "role": now_is.role.value, "disabled": now_is.disabled},
        as_json=as_json,
    )


def _link_options(command: Callable[..., None]) -> Callable[..., None]:
    for option in (
        tenant_option,
        config_option,
        click.option("--issuer", required=True, help="The provider, as [[oidc.operators]] has it."),
        click.option("--subject", required=True, help="The provider's claim `sub`."),
        click.argument("name"),
    ):
        command = option(command)
    return command


@operator.command("link")
@_link_options
def link(config_path: Path, slug: str | None, name: str, issuer: str, subject: str) -> None:
    """Let a person of the OpenID provider log in at the console as the operator NAME."""
    from certmint.enrolment import operatorlogins

    with installation(config_path) as here:
        found = _named(here, slug, name)
        operatorlogins.link(
            here.db, found, issuer, subject, by=console_operator(), now=here.clock()
        )
    click.echo(f"{subject} of {issuer} is the operator {name}")


@operator.command("unlink")
@_link_options
def unlink(config_path: Path, slug: str | None, name: str, issuer: str, subject: str) -> None:
    """End such a link, and the operator's sessions with it."""
    from certmint.enrolment import operatorlogins

    with installation(config_path) as here:
        found = _named(here, slug, name)
        operatorlogins.unlink(
            here.db, found, issuer, subject, by=console_operator(), now=here.clock()
        )
    click.echo(f"{subject} of {issuer} is the operator {name} no more")


@operator.group()
def token() -> None:
    """API tokens of an operator: shown once, known by their hash."""


@token.command("add")
@click.argument("name")
@click.option("--label", default="token", show_default=True, help="What the token is for.")
@_token_options
@config_option
@tenant_option
@json_option
def add_token(
    config_path: Path,
    slug: str | None,
    name: str,
    label: str,
    lifetime: str,
    scopes: tuple[str, ...],
    as_json: bool,
) -> None:
    """Add a token to the operator NAME and print it, this once only."""
    from certmint.enrolment.operators import add_token as use_case

    with installation(config_path) as here:
        found = _named(here, slug, name)
        made = use_case(
            here.db, found.tenant_id, found.id, label, days(lifetime), scopes=scopes or None,
            by=console_operator(), now=here.clock(), random_bytes=here.random_bytes,
        )  # fmt: skip
    print_item(_shown(made), as_json=as_json)


@token.command("list")
@click.argument("name")
@config_option
@tenant_option
@json_option
def list_tokens(config_path: Path, slug: str | None, name: str, as_json: bool) -> None:
    """List the tokens of the operator NAME, without their values."""
    from certmint.registry import reads

    with installation(config_path) as here:
        found = _named(here, slug, name)
        with here.db.read() as tx:
            rows = [
                {"id": each.id, "label": each.name, "expires_at": each.expires_at,
                 "revoked_at": each.revoked_at,
                 "scopes": "all" if each.scopes is None else sorted(each.scopes)}
                for each in reads.tokens(tx, found.tenant_id, found.id, limit=1_000)
            ]  # fmt: skip
    print_rows(rows, as_json=as_json, empty="no tokens")


@token.command("revoke")
@click.argument("token_id")
@config_option
@tenant_option
def revoke_token(config_path: Path, slug: str | None, token_id: str) -> None:
    """Revoke the token with this id; it is refused from the next request on."""
    from certmint.enrolment.operators import revoke_token as use_case

    with installation(config_path) as here:
        use_case(
            here.db, tenant_of(here, slug).id, token_id, by=console_operator(), now=here.clock()
        )
    click.echo(f"token {token_id} is revoked")


def _named(here: "Installation", slug: str | None, name: str) -> Operator:
    from certmint.enrolment.operators import operator_named

    return operator_named(here.db, tenant_of(here, slug).id, name)


def _shown(made: "NewToken | None") -> dict[str, object]:
    if made is None:
        return {}
    scopes = "all" if made.token.scopes is None else sorted(made.token.scopes)
    return {
        "token_id": made.token.id,
        "expires_at": made.token.expires_at,
        "scopes": scopes,
        "token": made.secret,
    }
