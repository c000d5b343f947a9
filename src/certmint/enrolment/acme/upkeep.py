"""What a crash leaves of ACME, put right: challenges and orders that nobody works on any more."""

import datetime as dt
from functools import partial

from certmint.enrolment.acme.challenges import Network, validate
from certmint.enrolment.reconcile import GRACE
from certmint.model.acme import OrderEvent, OrderState
from certmint.model.errors import WrongState
from certmint.registry import reads, writes
from certmint.registry.engine import Database

CHALLENGE_PATIENCE = dt.timedelta(minutes=2)  # many times a validator's deadline
ORDER_PATIENCE = GRACE + dt.timedelta(minutes=5)  # reconcile has revoked the serial by then
_BATCH = 100


def tidy(db: Database, network: Network, now: dt.datetime) -> tuple[int, int]:
    """Look again for stale challenges, reopen stale orders, forget nonces that ran out.

    How many challenges and orders were taken up.
    """
    with db.read() as tx:
        challenges = reads.stale_acme_challenges(tx, now - CHALLENGE_PATIENCE, _BATCH)
        orders = reads.acme_stale_orders(tx, now - ORDER_PATIENCE, _BATCH)
    for authorization, challenge in challenges:
        with db.read() as tx:
            waiting = reads.acme_orders_of_authorization(tx, authorization.id)
            account = None
            if waiting:
                account = reads.acme_account(tx, waiting[0].directory, authorization.account_id)
        if account is not None:
            validate(db, account, challenge.id, "", network, now)
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
    while db.write(partial(writes.forget_acme_nonces, before=now)):
        pass
    return len(challenges), reopened
