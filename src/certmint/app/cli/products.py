"""`certmint product`."""

from pathlib import Path

import click

from certmint.app.cli.common import (
    config_option,
    console_operator,
    installation,
    json_option,
    print_item,
    print_rows,
    tenant_of,
    tenant_option,
)
from certmint.model.entities import Product


@click.group()
def product() -> None:
    """Device models: names, profiles, authorities, renewal."""


@product.command()
@click.argument("name")
@click.option("--identity-authority", required=True, help="Issues identity certificates.")
@click.option("--service-authority", required=True, help="Issues service certificates.")
@click.option("--identity-profile", default="identity", show_default=True)
@click.option("--service-profile", default="service", show_default=True)
@click.option("--name-pattern", "patterns", multiple=True, help="'{id}.dev.example.com'")
@click.option("--shared-name", "shared", multiple=True, help="A name every device may carry.")
@click.option("--renew-at", type=float, default=2 / 3, help="Share of the lifetime [0.667].")
@config_option
@tenant_option
@json_option
def add(
    config_path: Path,
    slug: str | None,
    name: str,
    identity_authority: str,
    service_authority: str,
    identity_profile: str,
    service_profile: str,
    patterns: tuple[str, ...],
    shared: tuple[str, ...],
    renew_at: float,
    as_json: bool,
) -> None:
    """Add the product NAME."""
    from certmint.enrolment.products import add_product

    with installation(config_path) as here:
        made = add_product(
            here.db,
            tenant_of(here, slug),
            name,
            identity=(identity_profile, identity_authority),
            service=(service_profile, service_authority),
            patterns=patterns,
            shared_names=shared,
            renew_at=renew_at,
            by=console_operator(),
            now=here.clock(),
            random_bytes=here.random_bytes,
        )
    print_item(_describe(made), as_json=as_json)
    if shared:
        click.echo(
            f"note: every device of {name} can impersonate {', '.join(shared)} to the owner of "
            "another; prefer names of their own",
            err=True,
        )


@product.command("list")
@config_option
@tenant_option
@json_option
def list_products(config_path: Path, slug: str | None, as_json: bool) -> None:
    """List the products."""
    from certmint.registry import reads

    with installation(config_path) as here:
        tenant = tenant_of(here, slug)
        with here.db.read() as tx:
            rows = [_describe(each) for each in reads.products(tx, tenant.id)]
    print_rows(rows, as_json=as_json, empty="no products yet: `certmint product add NAME`")


def _describe(found: Product) -> dict[str, object]:
    return {
        "name": found.name,
        "names": [*found.name_patterns, *map(str, found.shared_names)],
        "identity_profile": found.identity_profile,
        "service_profile": found.service_profile,
        "renew_at": round(found.renew_at, 3),
    }
