"""`certmint acme`: directories and external account bindings."""

import base64
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
    read_file,
    tenant_of,
    tenant_option,
)
from certmint.model.errors import BadInput

if TYPE_CHECKING:  # the command line starts without what only one command needs
    from certmint.model.acme import ChallengeType, RenewalTerms


@click.group()
def acme() -> None:
    """ACME directories, and who may open accounts at them."""


@acme.command()
@click.argument("name")
@click.option("--authority", required=True, help="The issuing authority.")
@click.option("--profile", "profiles", multiple=True, default=("service",), show_default=True)
@click.option("--eab", "requires_binding", is_flag=True, help="Accounts need a binding.")
@click.option(
    "--challenge", "challenges", multiple=True, metavar="TYPE",
    help="A challenge type to offer; several in order. Default: http-01, dns-01, tls-alpn-01.",
)  # fmt: skip
@click.option("--terms", default="", help="URL of the terms that accounts must agree to.")
@click.option("--website", default="", help="URL of a page about this service.")
@click.option("--caa", "caa", multiple=True, help="Our domain name in CAA and in TXT records.")
@click.option("--subdomains", is_flag=True, help="A domain may be proved for all names below it.")
@click.option(
    "--star",
    default=None,
    metavar="LIFETIME/DURATION",
    help="Certificates may renew themselves, such as 1d/365d: shortest life, longest time.",
)
@click.option("--star-get", is_flag=True, help="… and be fetched without an account.")
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
    challenges: tuple[str, ...],
    terms: str,
    website: str,
    caa: tuple[str, ...],
    subdomains: bool,
    star: str | None,
    star_get: bool,
    as_json: bool,
) -> None:
    """Open the directory NAME; prints the URL that clients are given."""
    from certmint.enrolment.acme.directories import Offer, add_directory
    from certmint.model.acme import DEFAULT_CHALLENGES

    offer = Offer(
        tuple(map(_challenge, challenges)) or DEFAULT_CHALLENGES, terms, website,
        tuple(each.lower() for each in caa), subdomains, _star(star, allows_get=star_get),
    )  # fmt: skip
    with installation(config_path) as here:
        tenant = tenant_of(here, slug)
        made = add_directory(
            here.db, tenant, name, authority, profiles, requires_binding=requires_binding,
            by=console_operator(), now=here.clock(), random_bytes=here.random_bytes, offer=offer,
        )  # fmt: skip
        url = f"{here.config.base_url}/acme/{tenant.slug}/{made.name}/directory"
    print_item(
        {"name": made.name, "profiles": made.profiles, "eab": requires_binding,
         "challenges": tuple(made.challenges), "url": url},
        as_json=as_json,
    )  # fmt: skip


def _challenge(text: str) -> "ChallengeType":
    from certmint.model.acme import ChallengeType

    try:
        return ChallengeType(text)
    except ValueError:
        known = ", ".join(ChallengeType)
        raise BadInput(
            "directory-syntax", f"{text!r} is no challenge type: choose from {known}"
        ) from None


def _star(text: str | None, *, allows_get: bool) -> "RenewalTerms | None":
    from certmint.model.acme import RenewalTerms

    if text is None:
        return None
    lifetime, _, duration = text.partition("/")
    return RenewalTerms(days(lifetime), days(duration), allows_get)


@acme.command()
@click.argument("directory_name")
@click.argument("url")
@config_option
@tenant_option
def terms(config_path: Path, slug: str | None, directory_name: str, url: str) -> None:
    """Set a directory's terms of service to URL; accounts must agree before they order again.

    An empty URL asks for no agreement.
    """
    from certmint.enrolment.acme.directories import change_terms, directory_named

    with installation(config_path) as here:
        tenant = tenant_of(here, slug)
        found = directory_named(here.db, tenant.slug, directory_name)
        change_terms(here.db, found, url, by=console_operator(), now=here.clock())
    click.echo(f"{directory_name} asks for agreement to {url}" if url else
               f"{directory_name} asks for no agreement")  # fmt: skip


@acme.group()
def anchor() -> None:
    """CAs of hardware makers that a directory trusts (device-attest-01)."""


@anchor.command("add")
@click.argument("directory_name")
@click.option("--format", "kind", required=True, help="tpm, step, android-key or apple.")
@click.option(
    "--certificate", required=True, type=click.Path(path_type=Path), help="CA certificates in PEM."
)
@config_option
@tenant_option
def add_anchor(
    config_path: Path, slug: str | None, directory_name: str, kind: str, certificate: Path
) -> None:
    """Let CAs vouch for hardware of one format; prints their SHA-256."""
    from certmint.enrolment.acme.attesting import add_anchors
    from certmint.enrolment.acme.directories import directory_named

    with installation(config_path) as here:
        found = directory_named(here.db, tenant_of(here, slug).slug, directory_name)
        added = add_anchors(
            here.db, found, kind, read_file(certificate, "the certificate"),
            by=console_operator(), now=here.clock(),
        )  # fmt: skip
    for fingerprint in added:
        click.echo(fingerprint)


@anchor.command("list")
@click.argument("directory_name")
@config_option
@tenant_option
@json_option
def list_anchors(config_path: Path, slug: str | None, directory_name: str, as_json: bool) -> None:
    """List the CAs that vouch for hardware at a directory."""
    from certmint.enrolment.acme.directories import directory_named
    from certmint.registry import reads

    with installation(config_path) as here:
        found = directory_named(here.db, tenant_of(here, slug).slug, directory_name)
        with here.db.read() as tx:
            rows = [
                {"format": each.format, "sha256": each.fingerprint, "added_at": each.added_at}
                for each in reads.acme_anchors(tx, found)
            ]
    print_rows(rows, as_json=as_json, empty="no hardware is trusted here")


@anchor.command("remove")
@click.argument("directory_name")
@click.argument("fingerprint", metavar="SHA256")
@config_option
@tenant_option
def drop_anchor(config_path: Path, slug: str | None, directory_name: str, fingerprint: str) -> None:
    """Trust a CA no longer; certificates that it helped to get stay."""
    from certmint.enrolment.acme.attesting import remove_anchor
    from certmint.enrolment.acme.directories import directory_named

    with installation(config_path) as here:
        found = directory_named(here.db, tenant_of(here, slug).slug, directory_name)
        remove_anchor(here.db, found, fingerprint, by=console_operator(), now=here.clock())
    click.echo(f"{directory_name} does not trust {fingerprint} any more")


@acme.group()
def account() -> None:
    """ACME accounts: who there is, and closing one."""


@account.command("list")
@click.option("--after", default=None, help="Show those after this id.")
@click.option("--limit", default=100, show_default=True)
@config_option
@tenant_option
@json_option
def list_accounts(
    config_path: Path, slug: str | None, after: str | None, limit: int, as_json: bool
) -> None:
    """List accounts, by id."""
    from certmint.registry import reads

    with installation(config_path) as here:
        tenant = tenant_of(here, slug)
        with here.db.read() as tx:
            names = {each.id: each.name for each in reads.acme_directories(tx, tenant.id)}
            rows = [
                {"id": each.id, "directory": names[each.directory], "state": each.state.value,
                 "binding": each.binding_id, "created_at": each.created_at}
                for each in reads.acme_accounts(tx, tenant.id, after, limit)
            ]  # fmt: skip
    print_rows(rows, as_json=as_json, empty="no accounts")


@account.command("revoke")
@click.argument("account_id")
@config_option
@tenant_option
def revoke_account(config_path: Path, slug: str | None, account_id: str) -> None:
    """Close an account for good; what it had under way ends. Its certificates stay."""
    from certmint.enrolment.acme.accounts import account_named, revoke

    with installation(config_path) as here:
        tenant = tenant_of(here, slug)
        found = account_named(here.db, tenant.id, account_id)
        revoke(here.db, found, by=console_operator(), now=here.clock())
    click.echo(f"{account_id} is revoked")


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
                 "challenges": tuple(each.challenges), "terms": each.terms,
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
