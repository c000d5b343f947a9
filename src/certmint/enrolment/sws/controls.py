"""Control of the domains of an order: which are proved, what else could be done, looking once more.

A domain whose control the manufacturer has shown before, by whatever method, needs nothing more.
"""

import datetime as dt
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from certmint.enrolment import csrhash, emailing, proving
from certmint.enrolment.proving import Proofs, Todo
from certmint.model.csr import CSR, parse_csr
from certmint.model.entities import DomainValidation, Manufacturer, ValidationMethod
from certmint.model.errors import CertmintError
from certmint.model.names import DNSName, IPName, Name, parse_name
from certmint.model.profile import Trust
from certmint.model.sws import Control, Order, method_of
from certmint.policy.domains import covers, is_fresh
from certmint.registry import reads

_AT_ONCE = 10  # looks at one order: a dead network costs ten seconds each
# Done, and still not proved: the proof is too old by now.
_BEGIN_ANEW = ("validation-expired", "validation-unknown", "validation-done")


def domain_behind(name: Name) -> str:
    """What is proved for a name: without the label of a wildcard."""
    return name.base.value if isinstance(name, DNSName) else str(name)


def controls_for(
    names: Sequence[Name], choices: Mapping[str, str], before: Sequence[Control]
) -> tuple[Control, ...]:
    """One for each domain of the names; what was chosen and begun before stays.

    `choices` has a `dcv` for names or their domains, "" for none. Raises BadInput `dcv-method`.
    """
    known = {each.domain: each for each in before}
    chosen = {domain_behind(parse_name(name)): dcv for name, dcv in choices.items() if dcv}
    for dcv in chosen.values():
        method_of(dcv)
    made = {}
    for domain in map(domain_behind, names):
        control = known.get(domain, Control(domain))
        dcv = chosen.get(domain, control.dcv)
        made[domain] = control if dcv == control.dcv else Control(domain, dcv)
    return tuple(made.values())


def unproved(proofs: Proofs, order: Order, now: dt.datetime) -> list[str]:
    """The names of the order without a proof that counts now."""
    with proofs.db.read() as tx:
        found = reads.verified_domains(tx, order.tenant_id)
    fresh = [each for each in found if is_fresh(each, Trust.PRIVATE, now)]
    return [
        name for name in order.names if not any(covers(each, parse_name(name)) for each in fresh)
    ]


def look(
    proofs: Proofs, tenant: Manufacturer, order: Order, now: dt.datetime
) -> tuple[Control, ...]:
    """Look for what the customer was to publish; an attempt that is missing is begun first.

    Those that were looked at longest ago come first, and the others another time.
    What was begun and not kept, for the power failed, is begun again: for e-mail that is another
    message, of which there are few a day.
    """
    missing = {domain_behind(parse_name(name)) for name in unproved(proofs, order, now)}
    open_ones = [each for each in order.controls if each.domain in missing]
    open_ones.sort(key=lambda each: each.attempted_at or dt.datetime.min.replace(tzinfo=dt.UTC))
    csr = parse_csr(order.csr)
    seen = {
        each.domain: _looked(proofs, tenant, order, csr, each, now)
        for each in [each for each in open_ones if each.dcv][:_AT_ONCE]
    }
    seen |= {each.domain: replace(each, said="dcv-missing") for each in open_ones if not each.dcv}
    return tuple(
        seen.get(each.domain, each) if each.domain in missing else replace(each, said="")
        for each in order.controls
    )


def _looked(
    proofs: Proofs,
    tenant: Manufacturer,
    order: Order,
    csr: CSR,
    control: Control,
    now: dt.datetime,
) -> Control:
    by = f"operator:{order.operator_id}"
    method = method_of(control.dcv)
    recipients = (control.dcv,) if method is ValidationMethod.EMAIL else ()
    wanted = proving.Wanted(control.domain, method, recipients, csr, order.unique_value)
    control = replace(control, attempted_at=now, said="")
    try:
        if not control.attempt_id:
            begun = proving.begin(proofs, tenant, wanted, by=by, now=now)
            control = replace(control, attempt_id=begun.id)
        proving.look(proofs, tenant, control.attempt_id, by=by, now=now)
    except CertmintError as refusal:
        attempt = "" if refusal.code in _BEGIN_ANEW else control.attempt_id
        return replace(control, attempt_id=attempt, said=refusal.code)
    return control


@dataclass(frozen=True)
class Ways:
    """How control of one domain can be shown: by mail to these, by a file, by a record."""

    domain: str
    addresses: tuple[str, ...]
    file: Todo | None
    record: Todo | None


@dataclass(frozen=True)
class Hashes:
    """The hashes of a CSR, as request tokens spell them."""

    md5: str
    sha256: str


def hashes_of(csr: CSR) -> Hashes:
    """What names a token's place, and what proves."""
    md5 = hashlib.md5(csr.der, usedforsecurity=False).hexdigest()
    return Hashes(md5, hashlib.sha256(csr.der).hexdigest())


def ways(proofs: Proofs, csr: CSR | None, domain: str, unique_value: str) -> Ways:
    """Everything that may be chosen for a name. Raises BadInput `name-syntax`.

    Request tokens need a CSR, and mail an outlet; an address in a network has no way here.
    """
    name = parse_name(domain)
    if isinstance(name, IPName):
        return Ways(str(name), (), None, None)
    return Ways(
        domain_behind(name),
        _addresses(proofs, domain_behind(name)),
        None if csr is None or name.is_wildcard else _file(proofs, csr, name, unique_value),
        None if csr is None else _record(proofs, csr, name, unique_value),
    )


def _addresses(proofs: Proofs, domain: str) -> tuple[str, ...]:
    if proofs.post is None:
        return ()
    try:
        return emailing.accepted_addresses(domain)
    except CertmintError:
        return ()  # a domain that nobody registered has no contacts


def _file(proofs: Proofs, csr: CSR, name: DNSName, unique_value: str) -> Todo:
    method = ValidationMethod.HTTP_CSR_HASH
    place, content = csrhash.token(csr, name.value, method, proofs.ca_domain, unique_value)
    return Todo("FILE", place, content)


def _record(proofs: Proofs, csr: CSR, name: DNSName, unique_value: str) -> Todo:
    method = ValidationMethod.CNAME_CSR_HASH
    place, target = csrhash.token(csr, domain_behind(name), method, proofs.ca_domain, unique_value)
    return Todo("CNAME", place, target)


def attempts(proofs: Proofs, order: Order) -> dict[str, DomainValidation]:
    """The attempts of an order that were begun, by domain."""
    with proofs.db.read() as tx:
        found = {
            each.domain: reads.domain_validation(tx, order.tenant_id, each.attempt_id)
            for each in order.controls
            if each.attempt_id
        }
    return {domain: attempt for domain, attempt in found.items() if attempt is not None}
