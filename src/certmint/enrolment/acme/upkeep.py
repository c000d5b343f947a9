"""What a crash leaves of ACME, put right: challenges and orders that nobody works on any more."""

import datetime as dt
from collections.abc import Callable
from functools import partial

from certmint.enrolment.acme.challenges import Network, Place, Taken, validate
from certmint.enrolment.acme.limits import GENEROUS, Limits
from certmint.enrolment.reconcile import GRACE
from certmint.model.acme import Account, Authorization, Directory, OrderEvent, OrderState
from certmint.model.errors import WrongState
from certmint.registry import reads, writes
from certmint.registry.engine import Database, Transaction

CHALLENGE_PATIENCE = dt.timedelta(minutes=2)  # many times a validator's deadline
ORDER_PATIENCE = GRACE + dt.timedelta(minutes=5)  # reconcile has revoked the serial by then
_BATCH = 100

PlaceOf = Callable[[str, Directory, Account], Place]
"""Where an account is, by the manufacturer's word in the URL, its directory, and itself."""


def tidy(
    db: Database,
    network: Network,
    place_of: PlaceOf,
    now: dt.datetime,
    limits: Limits = GENEROUS,
) -> tuple[int, int]:
    """Look again for stale challenges, reopen stale orders, forget nonces and counts that ran out.

    How many challenges and orders were taken up.
    """
    with db.read() as tx:
        challenges = reads.stale_acme_challenges(tx, now - CHALLENGE_PATIENCE, _BATCH)
        orders = reads.acme_stale_orders(tx, now - ORDER_PATIENCE, _BATCH)
    for authorization, challenge in challenges:
        with db.read() as tx:
            found = _owner(tx, authorization)
        if found is not None:
            slug, directory, account = found
            place = place_of(slug, directory, account)
            validate(db, account, Taken(authorization, challenge), place, network, now, limits)
    reopened = 0
    for order in orders:
        try:
            db.write(
                partial(
                    writes.move_acme_order, tenant_id=order.tenant_id, order_id=order.id,
                    from_state=OrderState.PROCESSING, event=OrderEvent.DECLINED, at=now,
                )
            )  # fmt: skip
        except WrongState:
            continue  # it was finished after all
        reopened += 1
    for forget in (writes.forget_acme_nonces, writes.forget_acme_counts):
        while db.write(partial(forget, before=now)):
            pass
    return len(challenges), reopened


def _owner(tx: Transaction, authorization: Authorization) -> tuple[str, Directory, Account] | None:
    account = reads.acme_account_by_id(tx, authorization.account_id)
    found = reads.acme_directory_by_id(tx, account.directory) if account else None
    return (*found, account) if found is not None and account is not None else None
