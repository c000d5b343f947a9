"""Orders whose certificate renews itself (STAR, RFC 8739): for private profiles only.

The i-th nominal renewal date is i lifetimes after finalize. Each certificate is issued ahead of
its date, by two thirds of a lifetime or by what the client wished for if that is more, and ends a
lifetime behind it, or with the order (3.5). So the next one is there when a third of the nominal
life of the one before is over. What the account may have is weighed anew each time.

A `start-date` is not served: an order begins when it is finalized.
"""

import dataclasses
import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from certmint.enrolment.acme.certifying import profile_of, request_again
from certmint.enrolment.issue import Gate
from certmint.model.acme import (
    Account,
    AccountState,
    AutoRenewal,
    AutoRenewalEvent,
    AutoRenewalState,
    Directory,
    Order,
)
from certmint.model.csr import CSR, parse_csr
from certmint.model.entities import Certificate
from certmint.model.errors import BadInput, CertmintError, Refused, WrongState
from certmint.model.profile import Profile, Trust
from certmint.registry import reads, writes
from certmint.registry.engine import Database, Transaction

_AHEAD = 2 / 3
_SHORTEST = dt.timedelta(minutes=5)  # policy signs nothing that lives shorter
_LEASE = dt.timedelta(minutes=5)  # at least; a node that dies is followed by another one after it
_PATIENCE = 1 / 12  # of a lifetime, for longer ones: what is refused is not asked for all the time
_BATCH = 100


@dataclass(frozen=True)
class Wish:
    """The `auto-renewal` object of newOrder (3.1.1)."""

    ends_at: dt.datetime
    lifetime: dt.timedelta
    adjust: dt.timedelta
    allows_get: bool


def accept(
    directory: Directory, profile: Profile, order: Order, wish: Wish, now: dt.datetime
) -> AutoRenewal:
    """How the order will renew itself. Raises BadInput `auto-renewal`."""
    terms = directory.auto_renewal
    problem = None
    if terms is None:
        problem = "this directory has no orders that renew themselves"
    elif profile.trust is not Trust.PRIVATE:
        problem = "no publicly trusted certificate renews itself"
    elif order.replaces is not None:
        problem = "an order that renews itself replaces nothing"
    elif wish.lifetime < terms.min_lifetime:
        problem = f"a lifetime below {terms.min_lifetime.total_seconds():.0f} seconds"
    elif not now + wish.lifetime <= wish.ends_at <= now + terms.max_duration:
        problem = (
            "end-date is not between a lifetime and "
            f"{terms.max_duration.total_seconds():.0f} seconds from now"
        )
    elif profile.lifetime and 2 * wish.lifetime + profile.backdate > profile.lifetime:
        problem = f"a lifetime of more than about half of the profile's {profile.lifetime}"
    if terms is None or problem is not None:
        raise BadInput("auto-renewal", f"auto-renewal: {problem}")
    return AutoRenewal(
        order_id=order.id,
        tenant_id=order.tenant_id,
        account_id=order.account_id,
        state=AutoRenewalState.ACTIVE,
        ends_at=wish.ends_at,
        lifetime=wish.lifetime,
        adjust=min(wish.adjust, wish.lifetime),
        allows_get=wish.allows_get and terms.allows_get,
    )


def ahead(renewal: AutoRenewal) -> dt.timedelta:
    """How long before its nominal date a certificate is issued (3.5)."""
    return max(renewal.adjust, renewal.lifetime * _AHEAD)


def turn(renewal: AutoRenewal, began_at: dt.datetime, now: dt.datetime) -> int:
    """Which certificate it is time for, counted from 0."""
    return int((now - began_at + ahead(renewal)) / renewal.lifetime) if now > began_at else 0


def lifetime(
    renewal: AutoRenewal, profile: Profile, began_at: dt.datetime, now: dt.datetime
) -> dt.timedelta:
    """What to ask of the gate, so that the certificate ends when 3.5 says, or a second before.

    Policy dates it back by the profile's hour or by a tenth of its life, whichever is shorter.
    """
    nominal = began_at + renewal.lifetime * (turn(renewal, began_at, now) + 1)
    left = min(nominal, renewal.ends_at) - now
    whole = min(left + profile.backdate, left / 0.9)
    return dt.timedelta(seconds=int(whole.total_seconds()))


def record(
    tx: Transaction,
    renewal: AutoRenewal,
    made: Certificate,
    csr: CSR,
    *,
    began_at: dt.datetime,
    now: dt.datetime,
) -> None:
    """Write down a certificate of the order, and when the next one is due."""
    count = turn(renewal, began_at, now)
    next_at: dt.datetime | None = began_at + renewal.lifetime * (count + 1) - ahead(renewal)
    if began_at + renewal.lifetime * (count + 1) >= renewal.ends_at:
        next_at = None  # this one lasts to the end
    writes.record_acme_renewal(
        tx, renewal, made.authority_id, made.serial,
        next_at=next_at, csr=csr.der, began_at=began_at,
    )  # fmt: skip


def renew_due(db: Database, gate: Gate, now: dt.datetime) -> list[tuple[str, CertmintError | None]]:
    """Issue what is due: ids of orders, each with what refused it or None.

    If the power fails with a certificate signed and not stored, its serial is revoked by
    `reconcile`, and the order's turn comes again when the lease is over.
    """
    with db.read() as tx:
        due = reads.due_acme_auto_renewals(tx, now, _BATCH)
    done: list[tuple[str, CertmintError | None]] = []
    for renewal in due:
        until = now + max(_LEASE, renewal.lifetime * _PATIENCE)
        if not db.write(partial(writes.postpone_acme_renewal, renewal=renewal, until=until)):
            continue
        try:
            _renew(db, gate, dataclasses.replace(renewal, next_at=until), now)
        except CertmintError as error:
            done.append((renewal.order_id, error))
        else:
            done.append((renewal.order_id, None))
    return done


def _renew(db: Database, gate: Gate, renewal: AutoRenewal, now: dt.datetime) -> None:
    began_at = renewal.began_at
    with db.read() as tx:
        found = _context(tx, renewal)
        if found is None or began_at is None:
            raise WrongState("wrong-state", f"order {renewal.order_id!r} was never finalized")
        directory, account, order = found
        wanted = lifetime(renewal, profile_of(tx, directory, order), began_at, now)
    if account.state is not AccountState.VALID:
        stop(db, renewal, AutoRenewalEvent.STOPPED, by="job:acme", now=now)
        raise Refused("account-gone", f"account {account.id!r} is {account.state}")
    if wanted < _SHORTEST:  # the server was down until there was nothing left to certify
        db.write(partial(writes.postpone_acme_renewal, renewal=renewal, until=None))
        return
    csr = parse_csr(renewal.csr)
    with db.read() as tx:
        request = request_again(tx, directory, account, order, csr, now, wanted)

    def along(tx: Transaction, issued: Sequence[Certificate]) -> None:
        record(tx, renewal, issued[0], csr, began_at=began_at, now=now)

    gate.issue_one(request, now, along)


def _context(tx: Transaction, renewal: AutoRenewal) -> tuple[Directory, Account, Order] | None:
    account = reads.acme_account_by_id(tx, renewal.account_id)
    order = reads.acme_order(tx, renewal.account_id, renewal.order_id)
    place = reads.acme_directory_by_id(tx, order.directory) if order else None
    if account is None or order is None or place is None:
        return None
    return place[1], account, order


def cancel(db: Database, renewal: AutoRenewal, now: dt.datetime) -> None:
    """For the client (3.1.2). Raises WrongState `auto-renewal-over` for one that is not valid."""
    if renewal.serial is None or not is_running(renewal, now):
        raise WrongState("auto-renewal-over", "the order is not one that renews itself now")
    stop(db, renewal, AutoRenewalEvent.CANCELED, by=f"account:{renewal.account_id}", now=now)


def stop(
    db: Database, renewal: AutoRenewal, event: AutoRenewalEvent, *, by: str, now: dt.datetime
) -> None:
    """End an order's renewals. Raises WrongState `wrong-state`."""
    db.write(lambda tx: writes.move_acme_auto_renewal(tx, renewal, event, by=by, at=now))


def is_running(renewal: AutoRenewal, now: dt.datetime) -> bool:
    """Whether its certificates are still being issued and shown."""
    return renewal.state is AutoRenewalState.ACTIVE and now < renewal.ends_at


def current(tx: Transaction, renewal: AutoRenewal, now: dt.datetime) -> Certificate:
    """The newest certificate (3.3).

    Raises Refused `auto-renewal-canceled` or `auto-renewal-expired`, WrongState `order-not-ready`.
    """
    if renewal.state is not AutoRenewalState.ACTIVE:
        raise Refused("auto-renewal-canceled", "the order's certificate renews itself no more")
    if now >= renewal.ends_at:
        raise Refused("auto-renewal-expired", "the order's certificate has come to its end date")
    found = None
    if renewal.serial is not None:
        found = reads.certificate(tx, renewal.tenant_id, renewal.serial, renewal.authority_id)
    if found is None:
        raise WrongState("order-not-ready", "the order has no certificate yet")
    return found
