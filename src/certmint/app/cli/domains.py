"""`certmint domain`: DNS records, and proof of control."""

import json
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
)
from certmint.model.entities import DomainValidation, ValidationMethod
from certmint.model.errors import BadInput


@click.group()
def domain() -> None:
    """DNS records and proof of control of domains."""


@domain.command()
@click.argument("name")
@click.option(
    "--method", type=click.Choice(["dns-txt", "dns-cname"]), default="dns-txt", show_default=True
)
@click.option("--assert", "asserted", is_flag=True, help="Take my word: private names only.")
@config_option
@tenant_option
@json_option
def add(
    config_path: Path, slug: str | None, name: str, method: str, asserted: bool, as_json: bool
) -> None:
    """Begin to prove control of the domain NAME; prints the record to publish (BR 3.2.2.4.7)."""
    from certmint.enrolment import domains

    with installation(config_path) as here:
        tenant = tenant_of(here, slug)
        now, by = here.clock(), console_operator()
        if asserted:
            made = domains.assert_domain(
                here.db, tenant, name, by=by, now=now, random_bytes=here.random_bytes
            )
        else:
            made = domains.begin_validation(
                here.db, tenant, name, ValidationMethod(method),
                by=by, now=now, random_bytes=here.random_bytes,
            )  # fmt: skip
    item = _describe(made)
    if not asserted:
        item |= {"record": str(domains.challenge_record(made)), "publish_before": made.expires_at}
    print_item(item, as_json=as_json)


@domain.command()
@click.argument("validation_id")
@config_option
@tenant_option
@json_option
def verify(config_path: Path, slug: str | None, validation_id: str, as_json: bool) -> None:
    """Look for the record of VALIDATION_ID in the DNS and keep what is seen as evidence."""
    from certmint.enrolment import domains

    with installation(config_path) as here:
        done = domains.verify_domain(
            here.db, tenant_of(here, slug), validation_id, here.resolver,
            by=console_operator(), now=here.clock(),
        )  # fmt: skip
    print_item(_describe(done), as_json=as_json)


@domain.command("list")
@config_option
@tenant_option
@json_option
def list_domains(config_path: Path, slug: str | None, as_json: bool) -> None:
    """List the domains and the age of their evidence."""
    from certmint.registry import reads

    with installation(config_path) as here:
        tenant = tenant_of(here, slug)
        with here.db.read() as tx:
            rows = [_describe(each) for each in reads.domain_validations(tx, tenant.id)]
    for row in rows:
        row.pop("evidence")
    print_rows(rows, as_json=as_json, empty="no domains yet: `certmint domain add NAME`")


@domain.command()
@click.argument("name")
@click.option("--address", required=True, help="The router's address on its LAN.")
@click.option("--server", default=None, help="Apply to this authoritative server (RFC 2136).")
@click.option("--zone", default=None, help="The zone to update [the last two labels of NAME].")
@click.option(
    "--tsig-file", type=click.Path(path_type=Path), default=None,
    help="File with 'hmac-sha256:NAME:BASE64'.",
)  # fmt: skip
@json_option
def dns(
    name: str,
    address: str,
    server: str | None,
    zone: str | None,
    tsig_file: Path | None,
    as_json: bool,
) -> None:
    """Print the zone lines that tie NAME and its wildcard to a LAN address.

    With --server and --tsig-file, write them there and check the answer.
    """
    from certmint.enrolment import domains
    from certmint.validation.dns import Nameserver
    from certmint.validation.dnsupdate import TSIGKey

    records = domains.address_records(name, address)
    if server is None:
        for record in records:
            click.echo(str(record))
        return
    if tsig_file is None:
        raise BadInput("tsig-missing", "an update needs --tsig-file with the server's TSIG key")
    key = TSIGKey.parse(read_file(tsig_file, "the TSIG key", 4096).decode("ascii", "replace"))
    chosen = zone or ".".join(name.split(".")[-2:])
    proof = domains.apply_records(Nameserver.parse(server), chosen, records, key)
    if as_json:
        print_item({"records": list(map(str, records)), "proof": proof}, as_json=True)
        return
    for line in proof:
        click.echo(f"applied and answered: {line}")


@domain.command("publish")
@click.argument("validation_id")
@click.option("--server", required=True, help="The authoritative server.")
@click.option("--zone", default=None, help="The zone to update [the validated domain].")
@click.option("--tsig-file", type=click.Path(path_type=Path), required=True)
@config_option
@tenant_option
def publish(
    config_path: Path,
    slug: str | None,
    validation_id: str,
    server: str,
    zone: str | None,
    tsig_file: Path,
) -> None:
    """Write the record of VALIDATION_ID to the authoritative server (RFC 2136)."""
    from certmint.enrolment import domains
    from certmint.validation.dns import Nameserver
    from certmint.validation.dnsupdate import TSIGKey

    key = TSIGKey.parse(read_file(tsig_file, "the TSIG key", 4096).decode("ascii", "replace"))
    with installation(config_path) as here:
        attempt = domains.validation(here.db, tenant_of(here, slug), validation_id)
    record = domains.challenge_record(attempt)
    for line in domains.apply_records(
        Nameserver.parse(server), zone or attempt.domain, (record,), key
    ):
        click.echo(f"applied and answered: {line}")


def _describe(found: DomainValidation) -> dict[str, object]:
    return {
        "id": found.id,
        "domain": found.domain,
        "method": found.method.value,
        "verified_at": found.verified_at,
        "evidence": json.loads(found.evidence) if found.evidence else None,
    }
