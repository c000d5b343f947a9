"""`certmint domain`: DNS records, and proof of control by DNS, e-mail or the hash of a CSR."""

import datetime as dt
import json
from pathlib import Path
from typing import TYPE_CHECKING

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
from certmint.model.errors import BadInput, Misconfigured

if TYPE_CHECKING:
    from certmint.app.wiring import Installation
    from certmint.enrolment.emailing import Post
    from certmint.model.entities import Manufacturer
    from certmint.model.mail import DomainMail

_METHODS = ["dns-txt", "dns-cname", "dns-persist", "email", "cname-csr-hash", "http-csr-hash"]


@click.group()
def domain() -> None:
    """DNS records and proof of control of domains."""


@domain.command()
@click.argument("name")
@click.option(
    "--method",
    type=click.Choice(_METHODS),
    default=_METHODS[0],
    show_default=True,
    help="dns-persist is a record that stays and is looked at again.",
)
@click.option("--to", "recipients", multiple=True, help="email: whom to ask; may be repeated.")
@click.option(
    "--csr",
    "csr_path",
    type=click.Path(path_type=Path),
    default=None,
    help="…-csr-hash: the CSR in PEM or DER.",
)
@click.option("--unique", default="", help="…-csr-hash: what tells this use of the CSR apart.")
@click.option("--assert", "asserted", is_flag=True, help="Take my word: private names only.")
@config_option
@tenant_option
@json_option
def add(
    config_path: Path,
    slug: str | None,
    name: str,
    method: str,
    recipients: tuple[str, ...],
    csr_path: Path | None,
    unique: str,
    asserted: bool,
    as_json: bool,
) -> None:
    """Begin to prove control of the domain NAME; prints what to publish, or whom was written to.

    BR 3.2.2.4.7, .22 (dns-persist), .4 (email), .18 (http-csr-hash).
    """
    from certmint.enrolment import domains

    with installation(config_path) as here:
        tenant = tenant_of(here, slug)
        now, by = here.clock(), console_operator()
        if asserted:
            made = domains.assert_domain(
                here.db, tenant, name, by=by, now=now, random_bytes=here.random_bytes
            )
            item = _describe(made)
        elif method == ValidationMethod.EMAIL:
            item = _write_to(here, tenant, name, recipients, by, now)
        elif ValidationMethod(method) in domains.REQUEST_TOKENS:
            item = _begin_token(here, tenant, name, method, csr_path, unique, by, now)
        else:
            item = _begin_record(here, tenant, name, method, by, now)
    print_item(item, as_json=as_json)


def _begin_record(
    here: "Installation", tenant: "Manufacturer", name: str, method: str, by: str, now: dt.datetime
) -> dict[str, object]:
    from certmint.app.wiring import maker_account
    from certmint.enrolment import domains

    made = domains.begin_validation(
        here.db, tenant, name, ValidationMethod(method), by=by, now=now,
        random_bytes=here.random_bytes, account=maker_account(here.config, tenant.slug),
    )  # fmt: skip
    return _describe(made) | {
        "record": str(domains.challenge_record(made)),
        "publish_before": made.expires_at,
    }


def _begin_token(
    here: "Installation",
    tenant: "Manufacturer",
    name: str,
    method: str,
    csr_path: Path | None,
    unique: str,
    by: str,
    now: dt.datetime,
) -> dict[str, object]:
    from certmint.app.wiring import own_domain
    from certmint.enrolment import csrhash, domains
    from certmint.model.csr import parse_csr

    if csr_path is None:
        raise BadInput("csr-missing", f"--method {method} needs --csr FILE")
    made = csrhash.begin_csr_hash(
        here.db, tenant, parse_csr(read_file(csr_path, "the CSR", 65_536)), name,
        ValidationMethod(method), ca_domain=own_domain(here.config), unique_value=unique,
        by=by, now=now, random_bytes=here.random_bytes,
    )  # fmt: skip
    item = _describe(made)
    if made.method is ValidationMethod.HTTP_CSR_HASH:
        item |= {"url": made.record_name, "content": made.random_value}
    else:
        item["record"] = str(domains.challenge_record(made))
    return item | {"publish_before": made.expires_at}


def _write_to(
    here: "Installation",
    tenant: "Manufacturer",
    name: str,
    recipients: tuple[str, ...],
    by: str,
    now: dt.datetime,
) -> dict[str, object]:
    from certmint.enrolment import emailing

    outlet = _post(here)
    made, mails = emailing.begin(
        here.db, tenant, outlet, name, recipients, by=by, now=now, random_bytes=here.random_bytes
    )
    sent = [mail.recipient for mail in mails if _delivered(here, outlet, mail)]
    return _describe(made) | {"written_to": sent, "answer_before": made.expires_at}


def _delivered(here: "Installation", outlet: "Post", mail: "DomainMail") -> bool:
    """What cannot be sent now is told, and stays for the server's job."""
    from certmint.enrolment import emailing
    from certmint.model.errors import CertmintError, Refused

    try:
        return emailing.deliver(here.db, outlet, mail, here.clock())
    except CertmintError as error:
        later = "" if isinstance(error, Refused) else "; `certmint serve` will try again"
        click.echo(f"not sent to {mail.recipient}: {error} [{error.code}]{later}", err=True)
        return False


def _post(here: "Installation") -> "Post":
    from certmint.app.wiring import post

    outlet = post(here.config)
    if outlet is None:
        raise Misconfigured(
            "mail-missing", "this installation sends no mail: name a server in [mail]"
        )
    return outlet


@domain.command()
@click.argument("name")
def addresses(name: str) -> None:
    """Print who may be asked about NAME by e-mail: five contacts of it and of each parent."""
    from certmint.enrolment.emailing import accepted_addresses

    for address in accepted_addresses(name):
        click.echo(address)


@domain.command()
@click.argument("validation_id")
@config_option
@tenant_option
@json_option
def resend(config_path: Path, slug: str | None, validation_id: str, as_json: bool) -> None:
    """Send the messages of VALIDATION_ID again, as they were; at most once an hour."""
    from certmint.enrolment import emailing

    with installation(config_path) as here:
        sent = emailing.resend(
            here.db, tenant_of(here, slug), _post(here), validation_id,
            by=console_operator(), now=here.clock(),
        )  # fmt: skip
    rows = [{"recipient": mail.recipient, "message": mail.id} for mail in sent]
    print_rows(rows, as_json=as_json, empty="nothing is open: every message was answered or failed")


@domain.command()
@config_option
@tenant_option
@json_option
def ages(config_path: Path, slug: str | None, as_json: bool) -> None:
    """List the newest proof of each domain, and how long it counts."""
    from certmint.enrolment import domains

    with installation(config_path) as here:
        now = here.clock()
        found = domains.ages(here.db, tenant_of(here, slug))
    rows = [
        {
            "domain": age.proof.domain,
            "method": age.proof.method.value,
            "verified_at": age.verified_at,
            "public_until": age.public_until,
            "private_until": age.private_until,
            "days_left": age.days_left(now),
        }
        for age in found
    ]
    print_rows(rows, as_json=as_json, empty="no proofs yet: `certmint domain add NAME`")


@domain.command()
@click.argument("validation_id")
@config_option
@tenant_option
@json_option
def verify(config_path: Path, slug: str | None, validation_id: str, as_json: bool) -> None:
    """Look for what VALIDATION_ID was to publish and keep what is seen as evidence."""
    from certmint.app.wiring import world
    from certmint.enrolment import domains

    with installation(config_path) as here:
        done = domains.verify_domain(
            here.db, tenant_of(here, slug), validation_id, world(here),
            by=console_operator(), now=here.clock(),
        )  # fmt: skip
    print_item(_describe(done), as_json=as_json)


@domain.command()
@click.argument("validation_id")
@config_option
@tenant_option
@json_option
def show(config_path: Path, slug: str | None, validation_id: str, as_json: bool) -> None:
    """Show one attempt to prove a domain: what to publish, and what was seen."""
    from certmint.enrolment import domains, proving

    with installation(config_path) as here:
        found = domains.validation(here.db, tenant_of(here, slug), validation_id)
    todo = proving.todo(found)
    more = {
        "record_name": todo.place or None,
        "record_type": todo.kind or None,
        "record_value": todo.value or None,
        "expires_at": found.expires_at,
    }
    print_item(_describe(found) | more, as_json=as_json)


@domain.command("list")
@click.option("--domain", "name", default=None, help="Proofs of this domain only.")
@config_option
@tenant_option
@json_option
def list_domains(config_path: Path, slug: str | None, name: str | None, as_json: bool) -> None:
    """List the proofs of domains and their evidence, oldest first."""
    from certmint.registry import reads

    with installation(config_path) as here:
        tenant = tenant_of(here, slug)
        with here.db.read() as tx:
            rows = [_describe(each) for each in reads.domain_validations(tx, tenant.id, name)]
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
