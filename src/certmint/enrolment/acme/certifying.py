"""From an order to a request that the gate takes: names, key, and the proof for each name.

Hardware in an order is proved by an attestation of the very key in the CSR. The CSR may leave it
out, and then the certificate does not tell which device has it (draft-ietf-acme-device-attest).
"""

import dataclasses
import datetime as dt
from collections.abc import Sequence

from certmint.enrolment.acme.attesting import attestation_of
from certmint.enrolment.acme.authorizations import (
    Scope,
    held,
    maker_validation,
    scope_of,
    validated_domains,
)
from certmint.enrolment.acme.replacing import replaced_serial
from certmint.enrolment.authorities import profile_named
from certmint.model.acme import (
    Account,
    Authorization,
    AuthorizationState,
    Directory,
    Identifier,
    Order,
)
from certmint.model.csr import CSR
from certmint.model.errors import BadInput, Refused
from certmint.model.evidence import Attestation, ControlsNames, Evidence
from certmint.model.names import Name
from certmint.model.profile import Profile
from certmint.model.request import CertificateRequest, Requester, RequesterKind
from certmint.registry import reads
from certmint.registry.engine import Transaction


def check_names(order: Order, csr: CSR) -> None:
    """The CSR names exactly what the order does (RFC 8555 7.4), but for hardware it leaves out.

    Raises BadInput `csr-names`.
    """
    wanted = set(_names(order))
    asked: set[Name] = set(csr.names)
    if csr.common_name is not None:
        named = {name for name in wanted if str(name) == csr.common_name.lower()}
        if not named:
            raise BadInput("csr-names", "the CSR's common name is not one of the order's names")
        asked |= named
    if asked != wanted:
        raise BadInput("csr-names", "the CSR's names are not exactly those of the order")
    if not set(csr.hardware) <= {identifier.hardware for identifier in order.identifiers}:
        raise BadInput("csr-names", "the CSR names hardware that the order does not")
    if not asked and not csr.hardware:
        raise BadInput("csr-names", "the CSR names nothing: write the order's hardware into it")


def request_for(
    tx: Transaction,
    directory: Directory,
    account: Account,
    order: Order,
    csr: CSR,
    now: dt.datetime,
    *,
    lifetime: dt.timedelta | None = None,
) -> CertificateRequest:
    """What the gate is asked for a ready order: its own authorizations are the proof.

    Raises Refused `authorization-stale`, BadInput `csr-not-attested`.
    """
    found = reads.acme_authorizations(tx, account.id, order.authorization_ids)
    for authorization in found.values():
        if authorization.state is not AuthorizationState.VALID or now >= authorization.expires_at:
            raise _stale(authorization.identifier)
    missing = _unproved(order, list(found.values()))
    if missing:
        raise _stale(missing[0])
    controls = _evidence(order, list(found.values()), now)
    scope = scope_of(tx, account)
    attested = _attestations(list(found.values()), csr)
    request = _request(tx, directory, account, scope, order, csr, (controls, *attested), lifetime)
    if order.replaces is None:
        return request
    return dataclasses.replace(request, replaces=replaced_serial(order.replaces))


def request_again(
    tx: Transaction,
    directory: Directory,
    account: Account,
    order: Order,
    csr: CSR,
    now: dt.datetime,
    lifetime: dt.timedelta,
) -> CertificateRequest:
    """The same for a later certificate of a self-renewing order: every name is weighed anew.

    What counts is what the account holds now, by whatever order it got it, and the maker's own
    validation for bound accounts. Raises Refused `authorization-stale`.
    """
    known = [
        each
        for each in held(tx, directory, account, order.identifiers, now)
        if each.state is AuthorizationState.VALID
    ]
    scope = scope_of(tx, account)
    missing = _unproved(order, known)
    if missing:
        domains = validated_domains(tx, directory, scope)
        for identifier in missing:
            name = identifier.name
            if name is None or maker_validation(name, domains) is None:
                raise _stale(identifier)
    controls = _evidence(order, known, now)
    return _request(tx, directory, account, scope, order, csr, (controls,), lifetime)


def profile_of(tx: Transaction, directory: Directory, order: Order) -> Profile:
    """The profile that the order was made for, as it is now. Raises NotFound."""
    return profile_named(tx, directory.tenant_id, order.profile)


def _unproved(order: Order, found: Sequence[Authorization]) -> list[Identifier]:
    return [each for each in order.identifiers if not any(a.covers(each) for a in found)]


def _stale(identifier: Identifier) -> Refused:
    return Refused("authorization-stale", f"{identifier.value} is not authorized any more")


def _names(order: Order) -> tuple[Name, ...]:
    return tuple(name for i in order.identifiers if (name := i.name) is not None)


def _evidence(order: Order, found: Sequence[Authorization], now: dt.datetime) -> ControlsNames:
    own = [each for each in found if not each.is_delegated]
    proved = tuple(
        name
        for i in order.identifiers
        if (name := i.name) is not None and any(each.covers(i) for each in own)
    )
    delegated = tuple(name for name in _names(order) if name not in proved)
    return ControlsNames(proved, now, delegated)


def _attestations(found: Sequence[Authorization], csr: CSR) -> tuple[Attestation, ...]:
    """What hardware attested for this order. Raises BadInput `csr-not-attested`.

    The gate compares the keys again; here it is told before the order is taken, so that it stays
    ready for the right CSR.
    """
    attested = tuple(attestation_of(each) for each in found if each.identifier.is_hardware)
    if any(each.key_fingerprint != csr.key.fingerprint for each in attested):
        raise BadInput("csr-not-attested", "the CSR's key is not the one that was attested")
    return attested


def _request(
    tx: Transaction,
    directory: Directory,
    account: Account,
    scope: Scope,
    order: Order,
    csr: CSR,
    evidence: tuple[Evidence, ...],
    lifetime: dt.timedelta | None,
) -> CertificateRequest:
    return CertificateRequest(
        tenant_id=directory.tenant_id,
        authority_id=directory.authority_id,
        profile=profile_of(tx, directory, order),
        key=csr,
        requester=Requester(RequesterKind.ACCOUNT, account.id),
        evidence=evidence,
        names=_names(order),
        hardware=csr.hardware,
        device_id=scope.device.id if scope.device else None,
        lifetime=lifetime,
    )
