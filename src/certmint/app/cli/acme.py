"""`certmint acme`: directories and external account bindings."""

import base64
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
from certmint.model.errors import BadInput


@click.group()
def acme() -> None:
    """ACME directories, and who may open accounts at them."""


@acme.command()
@click.argument("name")
@click.option("--authority", required=True, help="The issuing authority.")
@click.option("--profile", "profiles", multiple=True, default=("service",), show_default=True)
@click.option("--eab", "requires_binding", is_flag=True, help="Accounts need a binding.")
@config_option
@tenant_option
@json_option
def add(
    config_path: Path,
    slug: str | None,
    name: str,
    authority: str,
    profiles: tuple[str, ...],
    requires_binding: bool,
    as_json: bool,
) -> None:
    """Open the directory NAME; prints the URL that clients are given."""
    from certmint.enrolment.acme.directories import add_directory

    with installation(config_path) as here:
        tenant = tenant_of(here, slug)
        made = add_directory(
            here.db, tenant, name, authority, profiles, requires_binding=requires_binding,
            by=console_operator(), now=here.clock(), random_bytes=here.random_bytes,
        )  # fmt: skip
        url = f"{here.config.base_url}/acme/{tenant.slug}/{made.name}/directory"
    print_item(
        {"name": made.name, "profiles": made.profiles, "eab": requires_binding, "url": url},
        as_json=as_json,
    )


@acme.command("list")
@config_option
@tenant_option
@json_option
def list_directories(config_path: Path, slug: str | None, as_json: bool) -> None:
    """List the directories and their URLs."""
    from certmint.registry import reads

    with installation(config_path) as here:
        tenant = tenant_of(here, slug)
        with here.db.read() as tx:
            rows = [
                {"name": each.name, "profiles": each.profiles, "eab": each.requires_binding,
                 "url": f"{here.config.base_url}/acme/{tenant.slug}/{each.name}/directory"}
                for each in reads.acme_directories(tx, tenant.id)
            ]  # fmt: skip
    print_rows(rows, as_json=as_json, empty="no directories yet: `certmint acme add NAME`")


@acme.command()
@click.argument("directory_name")
@click.option("--device", "serial_number", default=None, help="Bind one device's names.")
@click.option("--product", "product_name", default=None, help="Bind one product.")
@click.option("--reusable", is_flag=True, help="May open several accounts.")
@click.option("--lifetime", default="365d", show_default=True)
@config_option
@tenant_option
@json_option
def bind(
    config_path: Path,
    slug: str | None,
    directory_name: str,
    serial_number: str | None,
    product_name: str | None,
    reusable: bool,
    lifetime: str,
    as_json: bool,
) -> None:
    """Make an external account binding; the MAC key is shown this once only.

    Without --device or --product it reaches everything of the manufacturer.
    """
    from certmint.app.wiring import vault
    from certmint.enrolment.acme.accounts import new_binding
    from certmint.enrolment.acme.directories import directory_named
    from certmint.enrolment.devices import view_by_serial_number
    from certmint.enrolment.products import product_named

    if serial_number and product_name:
        raise BadInput("binding-scope", "a binding is for a device or for a product, not for both")
    with installation(config_path) as here:
        tenant = tenant_of(here, slug)
        device = (
            view_by_serial_number(here.db, tenant.id, serial_number).device
            if serial_number else None
        )  # fmt: skip
        product = product_named(here.db, tenant, product_name) if product_name else None
        made, secret = new_binding(
            here.db, vault(here.config), directory_named(here.db, tenant.slug, directory_name),
            product=product, device=device, is_reusable=reusable, lifetime=days(lifetime),
            by=console_operator(), now=here.clock(), random_bytes=here.random_bytes,
        )  # fmt: skip
    key = base64.urlsafe_b64encode(secret).rstrip(b"=").decode()
    print_item({"kid": made.id, "hmac_key": key, "expires_at": made.expires_at}, as_json=as_json)


@acme.command()
@click.argument("binding_id")
@config_option
@tenant_option
def rebind(config_path: Path, slug: str | None, binding_id: str) -> None:
    """Let a spent binding open one more account: the device was re-imaged."""
    from certmint.registry import writes

    with installation(config_path) as here:
        tenant = tenant_of(here, slug)
        here.db.write(
            lambda tx: writes.rebind_acme_binding(
                tx, tenant.id, binding_id, by=console_operator(), at=here.clock()
            )
        )
    click.echo(f"{binding_id} may open one more account")


@acme.command()
@click.argument("binding_id")
@config_option
@tenant_option
def unbind(config_path: Path, slug: str | None, binding_id: str) -> None:
    """Revoke a binding; accounts that were opened with it order nothing more."""
    from certmint.registry import writes

    with installation(config_path) as here:
        tenant = tenant_of(here, slug)
        here.db.write(
            lambda tx: writes.revoke_acme_binding(
                tx, tenant.id, binding_id, by=console_operator(), at=here.clock()
            )
        )
    click.echo(f"{binding_id} is revoked")
