"""From an order to a request that the gate takes: names, key, and the proof for each name."""

import dataclasses
import datetime as dt
from collections.abc import Sequence

from certmint.enrolment.acme.authorizations import held, maker_validation, scope_of
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
from certmint.model.evidence import ControlsNames
from certmint.model.names import Name
from certmint.model.profile import Profile
from certmint.model.request import CertificateRequest, Requester, RequesterKind
from certmint.registry import reads
from certmint.registry.engine import Transaction


def check_names(order: Order, csr: CSR) -> None:
    """The CSR names exactly what the order does (RFC 8555 7.4). Raises BadInput `csr-names`."""
    wanted = {identifier.name for identifier in order.identifiers}
    asked: set[Name] = set(csr.names)
    if csr.common_name is not None:
        named = {name for name in wanted if str(name) == csr.common_name.lower()}
        if not named:
            raise BadInput("csr-names", "the CSR's common name is not one of the order's names")
        asked |= named
    if asked != wanted:
        raise BadInput("csr-names", "the CSR's names are not exactly those of the order")


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

    Raises Refused `authorization-stale`.
    """
    found = reads.acme_authorizations(tx, account.id, order.authorization_ids)
    for authorization in found.values():
        if authorization.state is not AuthorizationState.VALID or now >= authorization.expires_at:
            raise _stale(authorization.identifier)
    missing = _unproved(order, list(found.values()))
    if missing:
        raise _stale(missing[0])
    evidence = _evidence(order, list(found.values()), now)
    request = _request(tx, directory, account, order, csr, evidence, lifetime)
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
    missing = _unproved(order, known)
    if missing:
        scope = scope_of(tx, account)
        domains = reads.verified_domains(tx, directory.tenant_id) if scope.binding else ()
        for identifier in missing:
            if maker_validation(identifier.name, domains) is None:
                raise _stale(identifier)
    return _request(tx, directory, account, order, csr, _evidence(order, known, now), lifetime)


def profile_of(tx: Transaction, directory: Directory, order: Order) -> Profile:
    """The profile that the order was made for, as it is now. Raises NotFound."""
    return profile_named(tx, directory.tenant_id, order.profile)


def _unproved(order: Order, found: Sequence[Authorization]) -> list[Identifier]:
    return [each for each in order.identifiers if not any(a.covers(each) for a in found)]


def _stale(identifier: Identifier) -> Refused:
    return Refused("authorization-stale", f"{identifier.value} is not authorized any more")


def _evidence(order: Order, found: Sequence[Authorization], now: dt.datetime) -> ControlsNames:
    own = [each for each in found if not each.is_delegated]
    proved = tuple(i.name for i in order.identifiers if any(each.covers(i) for each in own))
    delegated = tuple(i.name for i in order.identifiers if i.name not in proved)
    return ControlsNames(proved, now, delegated)


def _request(
    tx: Transaction,
    directory: Directory,
    account: Account,
    order: Order,
    csr: CSR,
    evidence: ControlsNames,
    lifetime: dt.timedelta | None,
) -> CertificateRequest:
    scope = scope_of(tx, account)
    return CertificateRequest(
        tenant_id=directory.tenant_id,
        authority_id=directory.authority_id,
        profile=profile_of(tx, directory, order),
        key=csr,
        requester=Requester(RequesterKind.ACCOUNT, account.id),
        evidence=(evidence,),
        names=tuple(identifier.name for identifier in order.identifiers),
        device_id=scope.device.id if scope.device else None,
        lifetime=lifetime,
    )
