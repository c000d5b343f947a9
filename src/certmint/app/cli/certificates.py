"""`certmint certificate | audit`."""

from pathlib import Path

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
    write_new_file,
)
from certmint.model.entities import RevocationReason
from certmint.model.errors import Misconfigured, NotFound

_REASONS = [r.value for r in RevocationReason if r is not RevocationReason.CA_COMPROMISE]


@click.group()
def certificate() -> None:
    """Certificates: issue, show, revoke."""


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
    from certmint.app.cli.common import days
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
    from certmint.model.serial import parse_serial
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
@click.argument("serial")
@click.option(
    "--reason", default=RevocationReason.UNSPECIFIED.value, show_default=True,
    type=click.Choice(_REASONS),
)  # fmt: skip
@config_option
@tenant_option
@json_option
def revoke(config_path: Path, slug: str | None, serial: str, reason: str, as_json: bool) -> None:
    """Revoke a certificate; OCSP says so at once, and a new CRL is published."""
    from certmint.enrolment.revocation import revoke as use_case
    from certmint.model.serial import parse_serial

    with installation(config_path) as here:
        tenant = tenant_of(here, slug)
        done = use_case(
            here.db, here.keys, tenant.id, parse_serial(serial), RevocationReason(reason),
            by=console_operator(), now=here.clock(),
        )  # fmt: skip
    when = done.revocation.revoked_at if done.revocation else None
    print_item({"serial": done.serial, "revoked_at": when, "reason": reason}, as_json=as_json)


@click.group()
def audit() -> None:
    """The audit log: every change, each linked to the one before by hash."""


@audit.command()
@config_option
@json_option
def verify(config_path: Path, as_json: bool) -> None:
    """Walk the whole chain and say whether anything was changed."""
    from certmint.registry import audit as chain

    with installation(config_path) as here, here.db.read() as tx:
        report = chain.verify(tx)
    if report.broken_at is not None:
        raise Misconfigured(
            "audit-broken", f"the audit chain is broken at event {report.broken_at}"
        )
    print_item({"events": report.events, "head": report.head_hash}, as_json=as_json)


@audit.command("list")
@click.option("--after", default=0, show_default=True, help="Number to continue after.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True)
@config_option
@tenant_option
@json_option
def list_events(config_path: Path, slug: str | None, after: int, limit: int, as_json: bool) -> None:
    """List audit events, oldest first."""
    from certmint.registry import reads

    with installation(config_path) as here:
        tenant = tenant_of(here, slug)
        with here.db.read() as tx:
            rows = [
                {"number": each.seq, "at": each.at, "actor": each.actor, "action": each.action,
                 "subject": each.subject, "detail": each.detail}
                for each in reads.audit_events(tx, tenant.id, after, limit)
            ]  # fmt: skip
    print_rows(rows, as_json=as_json, empty="no events")
