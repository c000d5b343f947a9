"""`certmint product`."""

from pathlib import Path

import click

from certmint.app.cli.common import (
    config_option,
    console_operator,
    days,
    installation,
    json_option,
    print_item,
    read_file,
    tenant_of,
    tenant_option,
)
from certmint.app.cli.paging import Paging, paging_options, print_pages
from certmint.model.entities import Product

_ACCEPT = (
    "Which proofs buy a certificate: 'renewing: identity-certificate | service-certificate', for "
    "first, renewing, expired, re-imaged; or 'strict'. Several; what is not said is the default."
)


_APPROVE = (
    "When an operator has to approve as well: first, renewing, expired or re-imaged (several), or "
    "always or none alone."
)
_LINKED = "A CSR that comes by EST names its TLS 1.2 connection."


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
@click.option("--accept", "accepts", multiple=True, metavar="SITUATION:PROOFS", help=_ACCEPT)
@click.option("--grace", default=None, help="How long an expired certificate counts [profile's].")
@click.option("--approve", "approval", multiple=True, metavar="SITUATION", help=_APPROVE)
@click.option("--channel-linking", is_flag=True, help=_LINKED)
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
    accepts: tuple[str, ...],
    grace: str | None,
    approval: tuple[str, ...],
    channel_linking: bool,
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
            accepts=accepts,
            grace=days(grace) if grace is not None else None,
            approval=approval,
            channel_linking=channel_linking,
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


@product.command("accept")
@click.argument("name")
@click.argument("accepts", nargs=-1, metavar="[SITUATION:PROOFS]...")
@click.option("--grace", default=None, help="How long an expired certificate counts.")
@click.option("--approve", "approval", multiple=True, metavar="SITUATION", help=_APPROVE)
@click.option("--channel-linking/--no-channel-linking", default=None, help=_LINKED)
@config_option
@tenant_option
@json_option
def change(
    config_path: Path,
    slug: str | None,
    name: str,
    accepts: tuple[str, ...],
    grace: str | None,
    approval: tuple[str, ...],
    channel_linking: bool | None,
    as_json: bool,
) -> None:
    """Change what the product NAME asks of its devices; what is not said stays.

    `certmint product change router 'expired: owner-login+identity-certificate | attestation'`
    """
    from certmint.enrolment.products import product_named, set_policy

    with installation(config_path) as here:
        found = product_named(here.db, tenant_of(here, slug), name)
        changed = set_policy(
            here.db, found, accepts, grace=days(grace) if grace is not None else None,
            approval=approval, channel_linking=channel_linking,
            by=console_operator(), now=here.clock(),
        )  # fmt: skip
    print_item(_describe(changed), as_json=as_json)


product.add_command(change, "change")  # the name that the other nouns have


@product.command("trust-attestation")
@click.argument("name")
@click.option("--format", "kind", required=True, help="tpm, tpm-ek, android-key, apple or step.")
@click.option("--root", required=True, type=click.Path(path_type=Path), help="CAs in PEM.")
@config_option
@tenant_option
def trust_attestation(
    config_path: Path, slug: str | None, name: str, kind: str, root: Path
) -> None:
    """Let the CAs in a file vouch for the hardware of the product NAME, in one format."""
    from certmint.enrolment import attesting
    from certmint.enrolment.products import product_named

    pem = read_file(root, "the roots", 1024 * 1024)
    with installation(config_path) as here:
        found = product_named(here.db, tenant_of(here, slug), name)
        trusted = attesting.trust(
            here.db, found, kind, pem, by=console_operator(), now=here.clock()
        )
    for fingerprint in trusted:
        click.echo(f"{name} trusts {fingerprint} for {kind}")


@product.command("list")
@paging_options
@config_option
@tenant_option
@json_option
def list_products(config_path: Path, slug: str | None, paging: Paging, as_json: bool) -> None:
    """List the products by name."""
    from certmint.registry import reads

    with installation(config_path) as here:
        tenant = tenant_of(here, slug)

        def fetch(after: str | None, limit: int) -> list[Product]:
            with here.db.read() as tx:
                return reads.products(tx, tenant.id, after=after, limit=limit)

        print_pages(
            paging, fetch, _describe, lambda each: each.name, as_json=as_json,
            empty="no products yet: `certmint product add NAME`",
        )  # fmt: skip


@product.command()
@click.argument("name")
@config_option
@tenant_option
@json_option
def show(config_path: Path, slug: str | None, name: str, as_json: bool) -> None:
    """Show the product NAME, with its authorities."""
    from certmint.enrolment.products import product_named
    from certmint.registry import reads

    with installation(config_path) as here:
        tenant = tenant_of(here, slug)
        found = product_named(here.db, tenant, name)
        with here.db.read() as tx:
            names = {each.id: each.name for each in reads.authorities(tx, tenant.id)}
    issued_by = {
        "identity_authority": names[found.identity_authority_id],
        "service_authority": names[found.service_authority_id],
    }
    print_item({"id": found.id} | _describe(found) | issued_by, as_json=as_json)


def _describe(found: Product) -> dict[str, object]:
    return {
        "name": found.name,
        "names": [*found.name_patterns, *map(str, found.shared_names)],
        "identity_profile": found.identity_profile,
        "service_profile": found.service_profile,
        "renew_at": round(found.renew_at, 3),
        "accepts": list(found.accepts.lines()),
        "grace_days": None if found.grace is None else found.grace.days,
        "approval": sorted(found.approval) or None,
        "channel_linking": found.channel_linking,
    }
