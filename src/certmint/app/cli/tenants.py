"""`certmint manufacturer | operator`."""

from pathlib import Path

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
from certmint.model.entities import Role


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


@click.group()
def operator() -> None:
    """Operators and their API tokens."""


@operator.command("add")
@click.argument("name")
@click.option("--role", type=click.Choice([role.value for role in Role]), required=True)
@click.option("--lifetime", default="90d", show_default=True, help="How long the token lives.")
@config_option
@tenant_option
@json_option
def add_operator(
    config_path: Path, slug: str | None, name: str, role: str, lifetime: str, as_json: bool
) -> None:
    """Add an operator and print the API token, which is shown this once only."""
    from certmint.enrolment.manufacturers import add_operator as use_case

    with installation(config_path) as here:
        made, token = use_case(
            here.db, tenant_of(here, slug), name, Role(role), days(lifetime),
            by=console_operator(), now=here.clock(), random_bytes=here.random_bytes,
        )  # fmt: skip
    print_item(
        {"id": made.id, "name": name, "role": role, "expires_at": made.token_expires_at,
         "token": token},
        as_json=as_json,
    )  # fmt: skip


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
                {"name": each.name, "role": each.role.value, "expires_at": each.token_expires_at,
                 "disabled": each.disabled}
                for each in reads.operators(tx, tenant.id)
            ]  # fmt: skip
    print_rows(rows, as_json=as_json, empty="no operators yet")
