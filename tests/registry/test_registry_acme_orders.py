"""ACME's orders, authorizations and challenges."""

import concurrent.futures
import dataclasses
import datetime as dt
from typing import Any

import pytest

from certmint.model.acme import (
    AUTHORIZATION,
    CHALLENGE,
    ORDER,
    AuthorizationEvent,
    AuthorizationState,
    ChallengeEvent,
    ChallengeState,
    Identifier,
    IdentifierType,
    OrderEvent,
    OrderState,
)
from certmint.model.errors import CertmintError, Conflict, NotFound, WrongState
from certmint.registry import audit, reads, writes
from certmint.registry.engine import Database

NOW = dt.datetime(2026, 11, 23, 12, 0, 0, 123456, tzinfo=dt.UTC)
SECOND = dt.timedelta(seconds=1)
DAY = dt.timedelta(days=1)


def authorization(client, authorization_id: str) -> Any:
    """An authorization of the client as it is stored now."""
    with client.tenant.db.read() as tx:
        return reads.acme_authorization(tx, client.account.id, authorization_id)


def move_order(client, order_id: str, state: OrderState, event: OrderEvent, **more: Any) -> Any:
    at = more.pop("at", NOW)
    return client.tenant.db.write(
        lambda tx: writes.move_acme_order(
            tx, client.tenant.id, order_id, state, event, at=at, **more
        )
    )


def move_challenge(
    client, challenge_id: str, state: ChallengeState, event: ChallengeEvent, **more: Any
) -> Any:
    at = more.pop("at", NOW)
    return client.tenant.db.write(
        lambda tx: writes.move_acme_challenge(
            tx, client.tenant.id, challenge_id, state, event, at=at, **more
        )
    )


@pytest.fixture
def sqlite_client(sqlite_db: Database, make_tenant, make_client) -> Any:
    """For walks through a whole table of states, which need no second database."""
    return make_client(make_tenant(sqlite_db, "alpha"))


def test_an_order_comes_back_equal(db: Database, client) -> None:
    """With its identifiers and its authorizations in their order, whatever their ids."""
    made = [client.new_authorization(f"r{n}.example.com") for n in range(12)]
    wildcard = dataclasses.replace(client.new_authorization("example.com"), is_wildcard=True)
    address = client.new_authorization(
        identifier=Identifier(IdentifierType.IP, "2001:db8::1"), challenges=()
    )
    order = client.order(
        wildcard, *reversed(made), address,
        identifiers=(Identifier(IdentifierType.DNS, "*.example.com"), address.identifier),
        replaces="keyid.serial", error='{"type":"x"}',
    )  # fmt: skip

    assert client.stored(order) == order
    for each in (wildcard, made[3], address):
        assert authorization(client, each.id) == each
    with db.read() as tx:
        found = reads.acme_authorizations(
            tx, client.account.id, [*order.authorization_ids, "absent"]
        )
    assert found == {each.id: each for each in (wildcard, *made, address)}


def test_an_order_may_need_no_authorization(client, db: Database) -> None:
    """Such as one under the manufacturer's own validation."""
    order = client.new_order(state=OrderState.READY)
    db.write(lambda tx: writes.add_acme_order(tx, order, ()))

    assert client.stored(order) == order


def test_an_order_uses_authorizations_that_are_there(client, db: Database) -> None:
    """It stores the new ones only; both orders are found from the one that they share."""
    shared, new = client.new_authorization(), client.new_authorization("r2.example.com")
    first = client.order(shared)
    second = client.new_order(new, shared, created_at=NOW + SECOND)
    db.write(lambda tx: writes.add_acme_order(tx, second, [new]))

    assert client.stored(second) == second
    with db.read() as tx:
        assert reads.acme_orders_of_authorization(tx, shared.id) == [first, second]
        assert reads.acme_orders_of_authorization(tx, new.id) == [second]
        assert reads.acme_orders_of_authorization(tx, "absent") == []


def test_an_order_cannot_use_another_account_s_authorization(
    client, maker, make_client, db: Database
) -> None:
    """The database refuses what no use case should ask, and stores nothing of the order."""
    other = make_client(maker, "lab")
    foreign = other.new_authorization()
    other.order(foreign)
    new = client.new_authorization()
    stolen = client.new_order(new, foreign)

    for order in (stolen, dataclasses.replace(stolen, authorization_ids=(new.id, "absent"))):
        with pytest.raises(NotFound) as refusal:
            db.write(lambda tx, o=order: writes.add_acme_order(tx, o, [new]))
        assert refusal.value.code == "reference-unknown"
        assert client.stored(order) is None
        assert authorization(client, new.id) is None


def test_an_order_is_stored_once(client, db: Database) -> None:
    """An id that is taken is a conflict, and what hangs below is not stored twice."""
    order = client.order()

    with pytest.raises(Conflict) as refusal:
        db.write(lambda tx: writes.add_acme_order(tx, order, ()))

    assert refusal.value.code == "already-exists"
    assert client.stored(order) == order


def test_an_account_sees_nothing_of_another_one(client, maker, make_client, db: Database) -> None:
    """Not by the id of an order, an authorization or a challenge, nor by an identifier."""
    other = make_client(maker, "lab")
    made = client.new_authorization(state=AuthorizationState.VALID)
    pending = client.new_authorization()
    order = client.order(made, pending)
    wanted = [("dns", "r1.example.com", False)]

    def seen(account_id: str) -> list[object]:
        with db.read() as tx:
            return [
                reads.acme_order(tx, account_id, order.id),
                reads.acme_orders(tx, account_id, now=NOW),
                reads.count_pending_acme_orders(tx, account_id, NOW),
                reads.acme_authorization(tx, account_id, made.id),
                reads.acme_authorizations(tx, account_id, [made.id, pending.id]),
                reads.acme_challenge(tx, account_id, made.challenges[0].id),
                reads.valid_acme_authorizations(tx, account_id, wanted, NOW),
                reads.live_acme_authorizations(tx, account_id, wanted, NOW),
            ]

    assert all(seen(client.account.id))
    assert not any(seen(other.account.id))


@pytest.mark.parametrize("state", list(OrderState))
@pytest.mark.parametrize("event", list(OrderEvent))
def test_an_order_moves_as_its_table_says(
    sqlite_client, state: OrderState, event: OrderEvent
) -> None:
    """Every state and every event: the table's move happens, any other is WrongState."""
    client = sqlite_client
    made = client.order(state=state)
    expected = ORDER[state].get(event)

    if expected is None:
        with pytest.raises(WrongState):
            move_order(client, made.id, state, event)
    else:
        assert move_order(client, made.id, state, event) == expected

    assert client.stored(made) == dataclasses.replace(made, state=expected or state)


def test_an_order_carries_its_certificate(db: Database, maker, client) -> None:
    """The one that it became valid with leads back to it, in its own manufacturer only."""
    made = client.order(state=OrderState.PROCESSING)
    issued = maker.issue()

    move_order(
        client, made.id, OrderState.PROCESSING, OrderEvent.ISSUED,
        authority_id=issued.authority_id, serial=issued.serial,
    )  # fmt: skip

    found = client.stored(made)
    assert found == dataclasses.replace(
        made, state=OrderState.VALID, authority_id=issued.authority_id, serial=issued.serial
    )
    with db.read() as tx:
        assert reads.acme_order_of_serial(tx, maker.id, issued.serial) == found
        assert reads.acme_order_of_serial(tx, maker.id, maker.serial()) is None


def test_an_order_that_is_tried_again_forgets_its_error(client) -> None:
    """Declined with a problem, then finalized once more."""
    made = client.order(state=OrderState.PROCESSING)

    move_order(client, made.id, OrderState.PROCESSING, OrderEvent.DECLINED, error="{}")
    assert client.stored(made) == dataclasses.replace(made, state=OrderState.READY, error="{}")

    move_order(client, made.id, OrderState.READY, OrderEvent.FINALIZED)
    assert client.stored(made) == made


def test_of_two_that_finalize_an_order_one_wins(client) -> None:
    """Finalizing and failing at the same moment leaves the state of one of the two."""
    made = client.order(state=OrderState.READY)

    def move(event: OrderEvent) -> str:
        try:
            return str(move_order(client, made.id, OrderState.READY, event))
        except CertmintError as error:
            return error.code

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(move, [OrderEvent.FINALIZED, OrderEvent.FAILED] * 4))

    won = [outcome for outcome in outcomes if outcome != "wrong-state"]
    found = client.stored(made)
    assert found is not None
    assert won == [found.state]


def test_what_is_unknown_cannot_move(maker, client) -> None:
    """The error says that there is none."""
    with pytest.raises(NotFound) as refusal:
        move_order(client, "absent", OrderState.READY, OrderEvent.FINALIZED)
    assert refusal.value.code == "order-unknown"
    with pytest.raises(NotFound) as refusal:
        move_challenge(client, "absent", ChallengeState.PENDING, ChallengeEvent.ANSWERED)
    assert refusal.value.code == "challenge-unknown"
    with pytest.raises(NotFound) as refusal:
        maker.write(
            writes.move_acme_authorization, maker.id, "absent", AuthorizationState.PENDING,
            AuthorizationEvent.FAILED,
        )  # fmt: skip
    assert refusal.value.code == "authorization-unknown"


def test_orders_and_challenges_fill_no_log(db: Database, client) -> None:
    """They come from strangers; what they lead to is logged."""
    with db.read() as tx:
        before = audit.verify(tx).events

    made = client.new_authorization()
    order = client.order(made)
    move_challenge(client, made.challenges[0].id, ChallengeState.PENDING, ChallengeEvent.ANSWERED)
    move_order(client, order.id, OrderState.PENDING, OrderEvent.FAILED)

    with db.read() as tx:
        assert audit.verify(tx).events == before


def test_orders_are_listed_newest_first_in_pages(db: Database, client) -> None:
    """Every one once, also those of one moment; neither invalid nor expired ones."""
    made = [client.order(created_at=NOW + (n // 3) * SECOND) for n in range(8)]
    client.order(state=OrderState.INVALID)
    client.order(expires_at=NOW)
    seen: list[str] = []
    with db.read() as tx:
        while page := reads.acme_orders(
            tx, client.account.id, after=seen[-1] if seen else None, limit=3, now=NOW
        ):
            seen += page
        assert reads.acme_orders(tx, client.account.id, after="absent", now=NOW) == []

    newest_first = sorted(made, key=lambda each: (each.created_at, each.id), reverse=True)
    assert seen == [each.id for each in newest_first]


def test_a_page_starts_behind_an_order_that_failed_meanwhile(db: Database, client) -> None:
    """The client's place in its list is not lost with the order."""
    first, second, third = (client.order(created_at=NOW + n * SECOND) for n in range(3))
    move_order(client, second.id, OrderState.PENDING, OrderEvent.FAILED)

    with db.read() as tx:
        assert reads.acme_orders(tx, client.account.id, after=second.id, now=NOW) == [first.id]
        assert reads.acme_orders(tx, client.account.id, now=NOW) == [third.id, first.id]


def test_pending_orders_are_counted(db: Database, client, maker, make_client) -> None:
    """Those of the account that wait for an authorization and have not expired."""
    other = make_client(maker, "lab")
    other.order()
    for changes in (
        {}, {}, {"expires_at": NOW}, {"state": OrderState.READY}, {"state": OrderState.INVALID},
    ):  # fmt: skip
        client.order(**changes)

    with db.read() as tx:
        assert reads.count_pending_acme_orders(tx, client.account.id, NOW) == 2
        assert reads.count_pending_acme_orders(tx, client.account.id, NOW - SECOND) == 3


def test_orders_that_are_stuck_are_found(db: Database, client, rival, make_client) -> None:
    """Of every manufacturer, those that went to the gate longest ago first."""
    foreign = make_client(rival)
    late, early = (client.order(state=OrderState.READY) for _ in range(2))
    other = foreign.order(state=OrderState.READY)
    for whose, order, seconds in ((client, late, 3), (client, early, 1), (foreign, other, 2)):
        move_order(
            whose, order.id, OrderState.READY, OrderEvent.FINALIZED, at=NOW + seconds * SECOND
        )

    def stale(seconds: int, limit: int = 10) -> list[str]:
        with db.read() as tx:
            found = reads.acme_stale_orders(tx, NOW + seconds * SECOND, limit)
        assert {each.state for each in found} <= {OrderState.PROCESSING}
        return [each.id for each in found]

    assert stale(9) == [early.id, other.id, late.id]
    assert stale(3) == [early.id, other.id]
    assert stale(9, limit=1) == [early.id]
    move_order(client, early.id, OrderState.PROCESSING, OrderEvent.FAILED)
    assert stale(9) == [other.id, late.id]


@pytest.mark.parametrize("state", list(AuthorizationState))
@pytest.mark.parametrize("event", list(AuthorizationEvent))
def test_an_authorization_moves_as_its_table_says(
    sqlite_client, state: AuthorizationState, event: AuthorizationEvent
) -> None:
    """Every state and every event: the table's move happens, any other is WrongState."""
    client, maker = sqlite_client, sqlite_client.tenant
    made = client.new_authorization(state=state, evidence="before")
    client.order(made)
    expected = AUTHORIZATION[state].get(event)

    if expected is None:
        with pytest.raises(WrongState):
            maker.write(writes.move_acme_authorization, maker.id, made.id, state, event)
    else:
        moved = maker.write(writes.move_acme_authorization, maker.id, made.id, state, event)
        assert moved == expected

    assert authorization(client, made.id) == dataclasses.replace(made, state=expected or state)


def test_an_authorization_keeps_what_was_seen(maker, client) -> None:
    """And lives as long as what was seen is good for; both are in the log."""
    made = client.new_authorization()
    client.order(made)

    maker.write(
        writes.move_acme_authorization, maker.id, made.id, AuthorizationState.PENDING,
        AuthorizationEvent.VALIDATED, evidence="TXT at ns1", expires_at=NOW + 9 * DAY,
    )  # fmt: skip

    assert authorization(client, made.id) == dataclasses.replace(
        made, state=AuthorizationState.VALID, evidence="TXT at ns1", expires_at=NOW + 9 * DAY
    )
    event = maker.last_event()
    assert (event.action, event.subject) == ("acme-authorization.validated", made.id)
    assert "TXT at ns1" in event.detail


def test_of_two_validations_of_one_authorization_one_wins(maker, client) -> None:
    """Parallel challenges cannot both decide it."""
    made = client.new_authorization()
    client.order(made)

    def move(event: AuthorizationEvent) -> str:
        try:
            return str(
                maker.write(
                    writes.move_acme_authorization, maker.id, made.id,
                    AuthorizationState.PENDING, event,
                )
            )  # fmt: skip
        except CertmintError as error:
            return error.code

    events = [AuthorizationEvent.VALIDATED, AuthorizationEvent.FAILED] * 4
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(move, events))

    won = [outcome for outcome in outcomes if outcome != "wrong-state"]
    assert won == [authorization(client, made.id).state]


def test_an_authorization_is_used_again_while_it_lasts(db: Database, client) -> None:
    """By its exact identifier: type, value and wildcard; the longest-lived last."""

    def stored(value: str = "r1.example.com", **changes: Any) -> Any:
        made = client.new_authorization(value, **changes)
        client.order(made)
        return made

    valid = AuthorizationState.VALID
    long = stored(state=valid, expires_at=NOW + 3 * DAY)
    short = stored(state=valid)
    waiting = stored()
    wildcard = stored(state=valid, is_wildcard=True)
    other = stored("r2.example.com", state=valid)
    stored(state=valid, expires_at=NOW)
    stored(state=AuthorizationState.DEACTIVATED)
    stored(identifier=Identifier(IdentifierType.IP, "192.0.2.1"), state=valid)

    def found(*wanted: tuple[str, str, bool]) -> list[Any]:
        with db.read() as tx:
            live = reads.live_acme_authorizations(tx, client.account.id, wanted, NOW)
            lasting = reads.valid_acme_authorizations(tx, client.account.id, wanted, NOW)
        assert lasting == [each for each in live if each.state is valid]
        return live

    r1, r2 = ("dns", "r1.example.com", False), ("dns", "r2.example.com", False)
    assert found(r1) == [waiting, short, long]
    assert found(("dns", "r1.example.com", True)) == [wildcard]
    assert found(r2, r1) == [waiting, short, other, long]
    assert found(("ip", "r1.example.com", False), ("dns", "192.0.2.1", False)) == []
    assert found() == []


@pytest.mark.parametrize("state", list(ChallengeState))
@pytest.mark.parametrize("event", list(ChallengeEvent))
def test_a_challenge_moves_as_its_table_says(
    sqlite_client, state: ChallengeState, event: ChallengeEvent
) -> None:
    """Every state and every event: the table's move happens, any other is WrongState."""
    client = sqlite_client
    made = client.new_authorization()
    first, second = made.challenges
    made = dataclasses.replace(made, challenges=(first, dataclasses.replace(second, state=state)))
    client.order(made)
    expected = CHALLENGE[state].get(event)

    if expected is None:
        with pytest.raises(WrongState):
            move_challenge(client, second.id, state, event)
    else:
        assert move_challenge(client, second.id, state, event) == expected

    moved = dataclasses.replace(second, state=expected or state)
    with client.tenant.db.read() as tx:
        found = reads.acme_challenge(tx, client.account.id, second.id)
    assert found == (dataclasses.replace(made, challenges=(first, moved)), moved)


def test_a_challenge_keeps_its_outcome(client) -> None:
    """When it was validated, or why it failed."""
    made = client.new_authorization()
    client.order(made)
    good, bad = made.challenges
    for each in (good, bad):
        move_challenge(client, each.id, ChallengeState.PENDING, ChallengeEvent.ANSWERED)

    processing = ChallengeState.PROCESSING
    move_challenge(client, good.id, processing, ChallengeEvent.VALIDATED, validated_at=NOW)
    move_challenge(client, bad.id, processing, ChallengeEvent.FAILED, error='{"type":"dns"}')

    assert authorization(client, made.id).challenges == (
        dataclasses.replace(good, state=ChallengeState.VALID, validated_at=NOW),
        dataclasses.replace(bad, state=ChallengeState.INVALID, error='{"type":"dns"}'),
    )


def test_of_answers_to_one_challenge_one_starts_the_validation(client) -> None:
    """A client that posts twice is validated once."""
    made = client.new_authorization()
    client.order(made)

    def answer(_: int) -> str:
        try:
            return str(
                move_challenge(
                    client, made.challenges[0].id, ChallengeState.PENDING, ChallengeEvent.ANSWERED
                )
            )
        except CertmintError as error:
            return error.code

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        outcomes = sorted(pool.map(answer, range(8)))

    assert outcomes == ["processing"] + ["wrong-state"] * 7


def test_challenges_that_are_stuck_are_found(db: Database, client, rival, make_client) -> None:
    """Of every manufacturer, those answered longest ago first, with what they are for."""
    foreign = make_client(rival)
    made = []
    for whose, seconds in ((client, 2), (foreign, 1), (client, 3)):
        new = whose.new_authorization()
        whose.order(new)
        move_challenge(
            whose, new.challenges[0].id, ChallengeState.PENDING, ChallengeEvent.ANSWERED,
            at=NOW + seconds * SECOND,
        )  # fmt: skip
        made.append(new)

    def stale(seconds: int, limit: int = 10) -> list[tuple[str, str]]:
        with db.read() as tx:
            found = reads.stale_acme_challenges(tx, NOW + seconds * SECOND, limit)
        return [(parent.id, challenge.id) for parent, challenge in found]

    first, second, third = ((made[place].id, made[place].challenges[0].id) for place in (1, 0, 2))
    assert stale(9) == [first, second, third]
    assert stale(3) == [first, second]
    assert stale(9, limit=1) == [first]
    move_challenge(client, second[1], ChallengeState.PROCESSING, ChallengeEvent.FAILED)
    assert stale(9) == [first, third]
