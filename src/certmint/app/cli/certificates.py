"""`certmint certificate`."""

import datetime as dt
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
    read_list,
    tenant_of,
    tenant_option,
    write_new_file,
)
from certmint.app.cli.fleet import certificate_row
from certmint.app.cli.paging import Paging, paging_options, print_pages
from certmint.model.entities import Certificate, RevocationReason
from certmint.model.errors import Conflict, NotFound, Refused
from certmint.model.serial import Serial, parse_serial

if TYPE_CHECKING:
    from certmint.app.wiring import Installation
    from certmint.registry.engine import Transaction

_REASONS = [r.value for r in RevocationReason if r is not RevocationReason.CA_COMPROMISE]


@click.group()
def certificate() -> None:
    """Certificates: list, issue, show, revoke."""


@certificate.command()
@click.option("--authority", "authority_name", required=True, help="The issuing authority.")
@click.option("--name", "names", multiple=True, required=True, help="A validated name.")
@click.option("--csr", type=click.Path(path_type=Path), required=True, help="PKCS#10, PEM or DER.")
@click.option("--profile", "profile_name", default="service", show_default=True)
@click.option("--lifetime", default=None, help="Shorter than the profile's, such as 30d.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Chain, leaf first.")
@config_option
@tenant_option
@json_option
def issue(
    config_path: Path,
    slug: str | None,
    authority_name: str,
    names: tuple[str, ...],
    csr: Path,
    profile_name: str,
    lifetime: str | None,
    out: Path,
    as_json: bool,
) -> None:
    """Issue a certificate for a server that is no device, on your own authority as operator."""
    from certmint.enrolment import certificates, chains
    from certmint.model.csr import parse_csr

    wish = certificates.Wish(
        authority_name, profile_name, names, parse_csr(read_file(csr, "the CSR", 65536)),
        days(lifetime) if lifetime else None,
    )  # fmt: skip
    with installation(config_path) as here:
        issued, above = certificates.issue(
            here.db, here.gate, tenant_of(here, slug), wish,
            operator_id=console_operator(), now=here.clock(),
        )  # fmt: skip
    write_new_file(out, chains.pem(issued.der) + above)
    print_item(
        {"serial": issued.serial, "names": issued.names, "not_after": issued.not_after,
         "written_to": str(out)},
        as_json=as_json,
    )  # fmt: skip


@certificate.command()
@click.argument("serial")
@click.option("--out", type=click.Path(path_type=Path), default=None, help="Write PEM here.")
@config_option
@tenant_option
@json_option
def show(config_path: Path, slug: str | None, serial: str, out: Path | None, as_json: bool) -> None:
    """Show the certificate with this SERIAL (hex, as openssl prints it)."""
    from certmint.enrolment import chains
    from certmint.registry import reads

    with installation(config_path) as here:
        tenant = tenant_of(here, slug)
        with here.db.read() as tx:
            found = reads.certificate(tx, tenant.id, parse_serial(serial))
    if found is None:
        raise NotFound("certificate-unknown", f"there is no certificate with serial {serial}")
    if out is not None:
        write_new_file(out, chains.pem(found.der))
        return
    print_item(
        {
            "serial": found.serial,
            "profile": f"{found.profile} {found.profile_version}",
            "subject": found.subject or None,
            "names": found.names,
            "not_before": found.not_before,
            "not_after": found.not_after,
            "issued_at": found.issued_at,
            "key_sha256": found.key_fingerprint,
            "revoked_at": found.revocation.revoked_at if found.revocation else None,
            "reason": found.revocation.reason.value if found.revocation else None,
            "successor": found.successor,
        },
        as_json=as_json,
    )


@certificate.command()
@click.argument("serials", nargs=-1, metavar="[SERIAL]...")
@click.option(
    "--from", "path", type=click.Path(path_type=Path), default=None,
    help="File with serials, one on each line; - is standard input.",
)  # fmt: skip
@click.option(
    "--reason", default=RevocationReason.UNSPECIFIED.value, show_default=True,
    type=click.Choice(_REASONS),
)  # fmt: skip
@config_option
@tenant_option
@json_option
def revoke(
    config_path: Path,
    slug: str | None,
    serials: tuple[str, ...],
    path: Path | None,
    reason: str,
    as_json: bool,
) -> None:
    """Revoke certificates; OCSP says so at once, and new CRLs are published.

    A serial that nobody knows refuses them all; of many, those that are revoked already are passed
    over, so that a command which was cut off can be given again. A file names no authority's.
    """
    listed = read_list(path, "the list of serials") if path else []
    wanted = list(dict.fromkeys(map(parse_serial, [*serials, *listed])))
    if not wanted:
        raise click.UsageError("name a SERIAL, or a file of them with --from")
    with installation(config_path) as here:
        tenant = tenant_of(here, slug)
        _check(here, tenant.id, wanted, set(map(parse_serial, listed)))
        revoked = _revoke(here, tenant.id, wanted, RevocationReason(reason))
    rows = [
        {"serial": each.serial, "reason": reason,
         "revoked_at": each.revocation.revoked_at if each.revocation else None}
        for each in revoked
    ]  # fmt: skip
    print_rows(rows, as_json=as_json, empty="all of them are revoked already")


def _check(here: "Installation", tenant_id: str, wanted: list[Serial], listed: set[Serial]) -> None:
    """Every serial is known, and a list names no authority's: that one is meant, or a mistake."""
    from certmint.registry import reads

    with here.db.read() as tx:
        for serial in wanted:
            found = reads.certificate(tx, tenant_id, serial)
            if found is None:
                raise NotFound(
                    "certificate-unknown", f"there is no certificate with serial {serial}"
                )
            if found.purpose.is_authority and serial in listed:
                raise Refused(
                    "authority-certificate",
                    f"certificate {serial} is an authority's: name it on the command line, since "
                    "everything below it ends with it",
                )


def _revoke(
    here: "Installation", tenant_id: str, wanted: list[Serial], reason: RevocationReason
) -> list[Certificate]:
    from certmint.enrolment import revocation

    by, revoked, is_one = console_operator(), list[Certificate](), len(wanted) == 1
    try:
        for serial in wanted:
            try:
                done = revocation.revoke(
                    here.db, here.keys, tenant_id, serial, reason, by=by, now=here.clock(),
                    publish=is_one,
                )  # fmt: skip
                revoked.append(done)
            except Conflict:
                if is_one:
                    raise
    finally:
        if revoked and not is_one:  # interrupted, too: what is revoked has to be on a CRL
            revocation.publish_everywhere(here.db, here.keys, tenant_id, here.clock())
    return revoked


@certificate.command("list")
@click.option("--ending", default=None, metavar="TIME", help="In force, to end within 30d, say.")
@click.option("--authority", "authority_name", default=None, metavar="NAME")
@click.option("--profile", default=None, metavar="NAME")
@click.option("--revoked/--not-revoked", "revoked", default=None, help="[both]")
@paging_options
@config_option
@tenant_option
@json_option
def list_certificates(
    config_path: Path,
    slug: str | None,
    ending: str | None,
    authority_name: str | None,
    profile: str | None,
    revoked: bool | None,
    paging: Paging,
    as_json: bool,
) -> None:
    """List certificates in the order of their issuance, or with --ending of their ends."""
    from certmint.enrolment.authorities import authority_named
    from certmint.registry import reads

    if ending is not None and (authority_name or profile or revoked is not None):
        raise click.UsageError("--ending goes with no other choice")
    within = days(ending) if ending is not None else None
    with installation(config_path) as here:
        tenant, now = tenant_of(here, slug), here.clock()
        authority_id = None
        if authority_name:
            with here.db.read() as tx:
                authority_id = authority_named(tx, tenant.id, authority_name).id

        def fetch(after: str | None, limit: int) -> list[Certificate]:
            with here.db.read() as tx:
                if within is not None:
                    return reads.ending_certificates(
                        tx, tenant.id, now + within, since=now,
                        after=_place(tx, tenant.id, after), limit=limit,
                    )  # fmt: skip
                return reads.certificates(
                    tx, tenant.id, authority_id=authority_id, profile=profile, is_revoked=revoked,
                    with_der=False, after=after, limit=limit,
                )  # fmt: skip

        def row(found: Certificate) -> dict[str, object]:
            return certificate_row(found, now) | {"names": found.names or found.subject}

        print_pages(
            paging, fetch, row, lambda each: each.serial, as_json=as_json, empty="no certificates"
        )


def _place(
    tx: "Transaction", tenant_id: str, after: str | None
) -> tuple[dt.datetime, Serial] | None:
    """Where a certificate stands among those that end."""
    from certmint.registry import reads

    if after is None:
        return None
    found = reads.certificate(tx, tenant_id, parse_serial(after))
    if found is None:
        raise NotFound("certificate-unknown", f"there is no certificate with serial {after}")
    return found.not_after, found.serial
