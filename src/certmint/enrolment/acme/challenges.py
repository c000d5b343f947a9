"""Answering a challenge: one look at the network, and what follows for authorization and orders."""

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
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


class Taken:
    """A challenge that is being validated, and the authorization that it is for.

    `challenge` is as the registry has it: pending until `mark` writes down that it is looked at.
    """

    def __init__(self, authorization: Authorization, challenge: Challenge) -> None:
        self.authorization, self.challenge = authorization, challenge

    def mark(self, db: Database, now: dt.datetime) -> None:
        """Let everybody see that it is looked at, after a power failure too.

        Raises WrongState if it was taken or is over already.
        """

        def work(tx: Transaction) -> None:
            writes.move_acme_challenge(
                tx, self.authorization.tenant_id, self.challenge.id, ChallengeState.PENDING,
                ChallengeEvent.ANSWERED, at=now,
            )  # fmt: skip
            self.challenge = replace(self.challenge, state=ChallengeState.PROCESSING)

        db.write(work)


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
    """Take a challenge for validation, for all nodes; None if it was taken or is over already.

    Raises what `answered` does.
    """
    taken = answered(db, account, challenge_id, now, limits)
    if taken is None:
        return None
    try:
        taken.mark(db, now)
    except WrongState:
        return None
    return taken


def answered(
    db: Database,
    account: Account,
    challenge_id: str,
    now: dt.datetime,
    limits: Limits = GENEROUS,
) -> Taken | None:
    """A challenge that a client says is ready; None if it was taken or is over already.

    Nothing is written. Raises NotFound `challenge-unknown`, WrongState `authorization-over`,
    BadInput `attestation-missing` for one that is answered otherwise, RateLimited after too many
    failures.
    """
    with db.read() as tx:
        found = waiting(tx, account, challenge_id, now, limits)
    if found is not None and found[1].type is ChallengeType.DEVICE_ATTEST_01:
        raise BadInput("attestation-missing", "device-attest-01 is answered with an attObj")
    return None if found is None else Taken(*found)


def waiting(
    tx: Transaction, account: Account, challenge_id: str, now: dt.datetime, limits: Limits
) -> tuple[Authorization, Challenge] | None:
    """A challenge that may be answered now; None if it was taken or is over already.

    Raises NotFound `challenge-unknown`, WrongState `authorization-over`, RateLimited.
    """
    found = reads.acme_challenge(tx, account.id, challenge_id)
    if found is None:
        raise NotFound("challenge-unknown", "there is no such challenge")
    authorization, challenge = found
    is_won = authorization.state is AuthorizationState.VALID  # by another one: no need to look
    if challenge.state is not ChallengeState.PENDING or is_won:
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

    If the process dies here a challenge that was marked stays `processing`, and the job of stale
    challenges looks again; any other is still to be answered. Where the authorization was decided
    meanwhile, by another challenge or by its account, this one ends alone, as it was seen.
    """
    authorization = taken.authorization
    try:
        seen = _seen(account, authorization, taken.challenge, place, network, now)
    except (Failed, Unavailable) as failure:
        kind = failure.kind if isinstance(failure, Failed) else "dns"
        error = json.dumps({"type": kind, "detail": failure.detail})
        alone = partial(writes.move_acme_challenge, event=ChallengeEvent.FAILED, error=error)

        def outcome(tx: Transaction) -> None:
            rates.count(tx, rates.failures(tx, account, limits), limits, now)
            fail_challenge(tx, authorization, taken.challenge, error, now)
    else:
        is_persistent = taken.challenge.type is ChallengeType.DNS_PERSIST_01
        life = PERSISTENT_LIFE if is_persistent else VALID_LIFE
        alone = partial(
            writes.move_acme_challenge, event=ChallengeEvent.VALIDATED, validated_at=now
        )

        def outcome(tx: Transaction) -> None:
            pass_challenge(tx, authorization, taken.challenge, seen, life, now)

    try:
        db.write(outcome)
    except WrongState:
        # A challenge that stayed `processing` would be looked at again for ever.
        ended = partial(
            alone, tenant_id=authorization.tenant_id, challenge_id=taken.challenge.id,
            from_state=taken.challenge.state, at=now,
        )  # fmt: skip
        with suppress(WrongState):  # another node was quicker
            db.write(ended)


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
            passed = partial(
                pass_challenge, authorization=authorization, challenge=challenge, seen=seen,
                life=PERSISTENT_LIFE, now=now,
            )  # fmt: skip
            with suppress(WrongState):  # the client was quicker
                db.write(passed)


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
    """A challenge failed: so do its authorization and the orders that need it.

    `challenge` is as the registry has it, pending or processing. Raises WrongState otherwise.
    """
    tenant = authorization.tenant_id
    writes.move_acme_challenge(
        tx, tenant, challenge.id, challenge.state, ChallengeEvent.FAILED,
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
    """A challenge is satisfied; orders that waited for it alone are ready.

    `challenge` is as the registry has it, pending or processing. Raises WrongState otherwise.
    """
    tenant = authorization.tenant_id
    writes.move_acme_challenge(
        tx, tenant, challenge.id, challenge.state, ChallengeEvent.VALIDATED,
        validated_at=now, at=now,
    )  # fmt: skip
    writes.move_acme_authorization(
        tx, tenant, authorization.id, AuthorizationState.PENDING, AuthorizationEvent.VALIDATED,
        evidence=json.dumps(seen, sort_keys=True), expires_at=now + life,
        by="validation", at=now,
    )  # fmt: skip
    for order_id in reads.acme_orders_authorized(tx, authorization.id):
        writes.move_acme_order(
            tx, tenant, order_id, OrderState.PENDING, OrderEvent.AUTHORIZED, at=now
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
