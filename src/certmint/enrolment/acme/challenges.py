"""Answering a challenge: one look at the network, and what follows for authorization and orders."""

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial

from certmint.enrolment.acme import limits as rates
from certmint.enrolment.acme.authorizations import VALID_LIFE
from certmint.enrolment.acme.limits import GENEROUS, Limits
from certmint.enrolment.acme.lines import ResolverBeside, dialing
from certmint.model.acme import (
    Account,
    Authorization,
    AuthorizationEvent,
    AuthorizationState,
    Challenge,
    ChallengeEvent,
    ChallengeState,
    ChallengeType,
    OrderEvent,
    OrderState,
)
from certmint.model.errors import BadInput, NotFound, Unavailable, WrongState
from certmint.model.names import DNSName, Name
from certmint.registry import fibres, reads, writes
from certmint.registry.engine import Database, Transaction
from certmint.validation import dns01, http01, tlsalpn01
from certmint.validation.dns import Resolver
from certmint.validation.reach import Dial, Failed, Reach, dial

VALIDATORS = 16
PERSISTENT_LIFE = dt.timedelta(days=10)  # BR 3.2.2.4.22: a persistent record is no older proof
_GIVEN_UP = json.dumps({"type": "unauthorized", "detail": "an authorization was deactivated"})


Taken = tuple[Authorization, Challenge]
"""A challenge that is being validated, and the authorization that it is for."""


@dataclass(frozen=True)
class Network:
    """How validators reach the world: from `threads`, for its answers take their time."""

    resolver: Resolver
    reach: Reach
    dial: Dial = dial
    threads: Executor = field(default_factory=partial(ThreadPoolExecutor, VALIDATORS, "validator"))


@dataclass(frozen=True)
class Place:
    """What a DNS record says of us: the account's URL, and the issuer's domain name (CAA's)."""

    account_url: str
    issuer: str = ""


def begin(
    db: Database,
    account: Account,
    challenge_id: str,
    now: dt.datetime,
    limits: Limits = GENEROUS,
) -> Taken | None:
    """Take a challenge for validation; None if it was taken or is over already.

    Raises NotFound `challenge-unknown`, WrongState `authorization-over`, BadInput
    `attestation-missing` for one that is answered otherwise, RateLimited after too many failures.
    """
    with db.read() as tx:
        found = waiting(tx, account, challenge_id, now, limits)
    if found is None:
        return None
    if found[1].type is ChallengeType.DEVICE_ATTEST_01:
        raise BadInput("attestation-missing", "device-attest-01 is answered with an attObj")
    try:
        db.write(  # if the power fails before it is durable, the challenge is still to be answered
            lambda tx: writes.move_acme_challenge(
                tx, account.tenant_id, challenge_id, ChallengeState.PENDING,
                ChallengeEvent.ANSWERED, at=now,
            )
        )  # fmt: skip
    except WrongState:
        return None
    return found


def waiting(
    tx: Transaction, account: Account, challenge_id: str, now: dt.datetime, limits: Limits
) -> Taken | None:
    """A challenge that may be answered now; None if it was taken or is over already.

    Raises NotFound `challenge-unknown`, WrongState `authorization-over`, RateLimited.
    """
    found = reads.acme_challenge(tx, account.id, challenge_id)
    if found is None:
        raise NotFound("challenge-unknown", "there is no such challenge")
    authorization, challenge = found
    if challenge.state is not ChallengeState.PENDING:
        return None
    if authorization.state is not AuthorizationState.PENDING or now >= authorization.expires_at:
        raise WrongState("authorization-over", "the authorization is not pending any more")
    rates.check(tx, rates.failures(tx, account, limits), now)
    return found


def validate(
    db: Database,
    account: Account,
    taken: Taken,
    place: Place,
    network: Network,
    now: dt.datetime,
    limits: Limits = GENEROUS,
) -> None:
    """Look, and write down what was seen; the authorization and its orders follow.

    `taken` is what `begin` gave. If the process dies here the challenge stays `processing`, and
    the job of stale challenges looks again.
    """
    authorization, challenge = taken
    try:
        seen = _seen(account, authorization, challenge, place, network, now)
    except (Failed, Unavailable) as failure:
        kind = failure.kind if isinstance(failure, Failed) else "dns"
        error = json.dumps({"type": kind, "detail": failure.detail})

        def fail(tx: Transaction) -> None:
            rates.count(tx, rates.failures(tx, account, limits), limits, now)
            fail_challenge(tx, authorization, challenge, error, now)

        db.write(fail)
    else:
        life = PERSISTENT_LIFE if challenge.type is ChallengeType.DNS_PERSIST_01 else VALID_LIFE
        db.write(lambda tx: pass_challenge(tx, authorization, challenge, seen, life, now))


def foresee(
    db: Database,
    account: Account,
    authorizations: Sequence[Authorization],
    place: Place,
    network: Network,
    now: dt.datetime,
) -> None:
    """Look for persistent records before the client says that they are there.

    One that is there makes its authorization valid at once; one that is not costs nothing: the
    challenge waits for the client as any other.
    """
    for authorization in authorizations:
        for challenge in authorization.challenges:
            if (
                challenge.type is not ChallengeType.DNS_PERSIST_01
                or challenge.state is not ChallengeState.PENDING
                or authorization.state is not AuthorizationState.PENDING
            ):
                continue
            try:
                seen = _seen(account, authorization, challenge, place, network, now)
            except (Failed, Unavailable):
                continue
            try:
                db.write(partial(_foreseen, authorization, challenge, seen, now))
            except WrongState:
                continue  # the client was quicker


def _foreseen(
    authorization: Authorization,
    challenge: Challenge,
    seen: dict[str, object],
    now: dt.datetime,
    tx: Transaction,
) -> None:
    writes.move_acme_challenge(
        tx, authorization.tenant_id, challenge.id, ChallengeState.PENDING,
        ChallengeEvent.ANSWERED, at=now,
    )  # fmt: skip
    pass_challenge(tx, authorization, challenge, seen, PERSISTENT_LIFE, now)


def _seen(
    account: Account,
    authorization: Authorization,
    challenge: Challenge,
    place: Place,
    network: Network,
    now: dt.datetime,
) -> dict[str, object]:
    """What `_look` saw: an http-01 is soon over and needs no thread, everything else has one."""
    if challenge.type is ChallengeType.HTTP_01 and fibres.inside():
        threads = network.threads
        beside = ResolverBeside(network.resolver, threads)
        network = replace(network, resolver=beside, dial=dialing(threads))
        return _look(account, authorization, challenge, place, network, now)
    look = partial(_look, account, authorization, challenge, place, network, now)
    return fibres.aside(network.threads, look)


def _look(
    account: Account,
    authorization: Authorization,
    challenge: Challenge,
    place: Place,
    network: Network,
    now: dt.datetime,
) -> dict[str, object]:
    name: Name | None = authorization.identifier.name
    if name is None:
        raise Failed("malformed", "hardware is not seen from the network: it attests itself")
    proof = f"{challenge.token}.{account.thumbprint}"
    if challenge.type is ChallengeType.HTTP_01:
        return http01.check(
            name, challenge.token, proof, network.resolver, network.reach, network.dial
        )
    if challenge.type is ChallengeType.TLS_ALPN_01:
        return tlsalpn01.check(name, proof, network.resolver, network.reach)
    if not isinstance(name, DNSName):
        raise Failed("malformed", "an address is not validated in the DNS (RFC 8738 7)")
    if challenge.type is ChallengeType.DNS_PERSIST_01:
        return dns01.check_persistent(
            name, place.issuer, place.account_url, network.resolver, now,
            is_wildcard=authorization.is_wildcard or authorization.covers_subdomains,
        )  # fmt: skip
    is_for_account = challenge.type is ChallengeType.DNS_ACCOUNT_01
    url = place.account_url if is_for_account else None
    return dns01.check(name, proof, network.resolver, url)


def fail_challenge(
    tx: Transaction,
    authorization: Authorization,
    challenge: Challenge,
    error: str,
    now: dt.datetime,
) -> None:
    """A challenge that was taken failed: so do its authorization and the orders that need it."""
    tenant = authorization.tenant_id
    writes.move_acme_challenge(
        tx, tenant, challenge.id, ChallengeState.PROCESSING, ChallengeEvent.FAILED,
        error=error, at=now,
    )  # fmt: skip
    writes.move_acme_authorization(
        tx, tenant, authorization.id, AuthorizationState.PENDING, AuthorizationEvent.FAILED,
        by="validation", at=now,
    )  # fmt: skip
    for order in reads.acme_orders_of_authorization(tx, authorization.id):
        if order.state is OrderState.PENDING:
            writes.move_acme_order(
                tx, tenant, order.id, OrderState.PENDING, OrderEvent.FAILED, error=error, at=now
            )


def pass_challenge(
    tx: Transaction,
    authorization: Authorization,
    challenge: Challenge,
    seen: Mapping[str, object],
    life: dt.timedelta,
    now: dt.datetime,
) -> None:
    """A challenge that was taken is satisfied; orders that waited for it alone are ready."""
    tenant = authorization.tenant_id
    writes.move_acme_challenge(
        tx, tenant, challenge.id, ChallengeState.PROCESSING, ChallengeEvent.VALIDATED,
        validated_at=now, at=now,
    )  # fmt: skip
    writes.move_acme_authorization(
        tx, tenant, authorization.id, AuthorizationState.PENDING, AuthorizationEvent.VALIDATED,
        evidence=json.dumps(seen, sort_keys=True), expires_at=now + life,
        by="validation", at=now,
    )  # fmt: skip
    for order in reads.acme_orders_of_authorization(tx, authorization.id):
        if order.state is not OrderState.PENDING:
            continue
        others = [each for each in order.authorization_ids if each != authorization.id]
        held = reads.acme_authorizations(tx, authorization.account_id, others)
        if all(each.state is AuthorizationState.VALID for each in held.values()):
            writes.move_acme_order(
                tx, tenant, order.id, OrderState.PENDING, OrderEvent.AUTHORIZED, at=now
            )


def deactivate(
    db: Database, account: Account, authorization: Authorization, now: dt.datetime
) -> Authorization:
    """Give an authorization up, and with it every open order that needs it (RFC 8555 7.1.6).

    Raises WrongState, NotFound.
    """

    def work(tx: Transaction) -> None:
        writes.move_acme_authorization(
            tx, account.tenant_id, authorization.id, authorization.state,
            AuthorizationEvent.DEACTIVATED, by=f"account:{account.id}", at=now,
        )  # fmt: skip
        for order in reads.acme_orders_of_authorization(tx, authorization.id):
            if order.state in (OrderState.PENDING, OrderState.READY):
                writes.move_acme_order(
                    tx, account.tenant_id, order.id, order.state, OrderEvent.FAILED,
                    error=_GIVEN_UP, at=now,
                )  # fmt: skip

    db.write(work)
    with db.read() as tx:
        found = reads.acme_authorization(tx, account.id, authorization.id)
    if found is None:
        raise NotFound("authorization-unknown", "there is no such authorization")
    return found
