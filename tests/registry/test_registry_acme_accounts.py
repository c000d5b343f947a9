"""ACME's directories, accounts and bindings, and the nonces that were used."""

import concurrent.futures
import dataclasses
import datetime as dt
import json
from collections.abc import Callable
from typing import Any

import pytest

from certmint.model.acme import ACCOUNT, AccountEvent, AccountState
from certmint.model.errors import BadInput, CertmintError, Conflict, NotFound, WrongState
from certmint.registry import audit, reads, writes
from certmint.registry.engine import Database

NOW = dt.datetime(2026, 11, 23, 12, tzinfo=dt.UTC)
SECOND = dt.timedelta(seconds=1)


def outcomes(work: Callable[[int], Any], times: int = 8) -> list[Any]:
    """What threads get that all do it at once: a result, or the code of a refusal."""

    def one(number: int) -> Any:
        try:
            return work(number)
        except CertmintError as error:
            return error.code

    with concurrent.futures.ThreadPoolExecutor(times) as pool:
        return list(pool.map(one, range(times)))


def account(client) -> Any:
    """The client's account as it is stored now."""
    with client.tenant.db.read() as tx:
        return reads.acme_account(tx, client.directory.id, client.account.id)


def binding(client, binding_id: str) -> Any:
    """A binding of the client's directory as it is stored now."""
    with client.tenant.db.read() as tx:
        return reads.acme_binding(tx, client.directory.id, binding_id)


def test_a_directory_is_found_by_its_url(db: Database, maker, rival, client, make_client) -> None:
    """By the manufacturer's slug and its own name; another manufacturer may have the same name."""
    second, foreign = make_client(maker, "lab"), make_client(rival)

    with db.read() as tx:
        assert reads.acme_directory(tx, "alpha", "main") == client.directory
        assert reads.acme_directory(tx, "beta", "main") == foreign.directory
        assert reads.acme_directory(tx, "alpha", "absent") is None
        assert reads.acme_directory(tx, "absent", "main") is None
        assert reads.acme_directories(tx, maker.id) == [second.directory, client.directory]


def test_a_name_has_one_directory(maker, client) -> None:
    """The second one of that name is refused."""
    with pytest.raises(Conflict) as refusal:
        maker.write(writes.add_acme_directory, dataclasses.replace(client.directory, id="other"))

    assert refusal.value.code == "directory-exists"


@pytest.mark.parametrize(
    "changes",
    [{"name": "Main"}, {"name": ""}, {"name": "a/b"}, {"name": "-a"}, {"profiles": ()}],
)
def test_a_directory_has_a_name_for_urls_and_a_profile(client, changes: dict[str, Any]) -> None:
    """Anything else cannot even be constructed."""
    with pytest.raises(BadInput) as refusal:
        dataclasses.replace(client.directory, **changes)

    assert refusal.value.code == "directory-syntax"


def test_a_directory_needs_an_authority_of_its_manufacturer(rival, client) -> None:
    """Another manufacturer's authority never issues for it."""
    stolen = dataclasses.replace(client.directory, id="other", tenant_id=rival.id)

    with pytest.raises(NotFound) as refusal:
        rival.write(writes.add_acme_directory, stolen)

    assert refusal.value.code == "reference-unknown"


def test_an_account_comes_back_equal(db: Database, maker, client, make_client) -> None:
    """By id and by key, at its own directory only."""
    other = make_client(maker, "lab")
    with db.read() as tx:
        assert account(client) == client.account
        found = reads.acme_account_by_key(tx, client.directory.id, client.account.thumbprint)
        assert found == client.account
        assert reads.acme_account(tx, other.directory.id, client.account.id) is None
        assert reads.acme_account_by_key(tx, other.directory.id, client.account.thumbprint) is None


def test_a_key_has_one_account_at_a_directory(db: Database, maker, client, make_client) -> None:
    """Of clients that come with one key at the same moment one makes it; elsewhere it may again."""
    keys = [client.new_account(thumbprint="same") for _ in range(8)]

    won = outcomes(lambda number: maker.write(writes.add_acme_account, keys[number]))

    assert sorted(won) == [False] * 7 + [True]
    with db.read() as tx:
        found = reads.acme_account_by_key(tx, client.directory.id, "same")
    assert found == keys[won.index(True)]
    other = make_client(maker, "lab")
    assert maker.write(writes.add_acme_account, other.new_account(thumbprint="same")) is True


def test_an_account_that_exists_leaves_no_event(db: Database, maker, client) -> None:
    """Whoever asks for an account again fills no log."""
    with db.read() as tx:
        before = audit.verify(tx).events

    assert maker.write(writes.add_acme_account, client.account) is False

    with db.read() as tx:
        assert audit.verify(tx).events == before


def test_contacts_are_replaced_and_not_logged(maker, client) -> None:
    """The log, which is for ever, says how many there are and no person's address."""
    contacts = ("mailto:grace@example.com",)

    maker.write(writes.update_acme_contacts, maker.id, client.account.id, contacts)

    assert account(client) == dataclasses.replace(client.account, contacts=contacts)
    assert json.loads(maker.last_event().detail) == {"count": 1}


@pytest.mark.parametrize("state", list(AccountState))
@pytest.mark.parametrize("event", list(AccountEvent))
def test_an_account_moves_as_its_table_says(
    sqlite_db: Database, make_tenant, make_client, state: AccountState, event: AccountEvent
) -> None:
    """Every state and every event: the table's move happens, any other is WrongState."""
    maker = make_tenant(sqlite_db, "alpha")
    client = make_client(maker)
    made = client.new_account(state=state)
    maker.write(writes.add_acme_account, made)
    expected = ACCOUNT[state].get(event)

    if expected is None:
        with pytest.raises(WrongState):
            maker.write(writes.move_acme_account, maker.id, made.id, state, event)
    else:
        assert maker.write(writes.move_acme_account, maker.id, made.id, state, event) == expected

    with sqlite_db.read() as tx:
        found = reads.acme_account(tx, client.directory.id, made.id)
    assert found == dataclasses.replace(made, state=expected or state)


def test_an_account_that_is_over_changes_no_more(maker, client) -> None:
    """Neither its contacts nor its key, however current the key is."""
    made = client.account
    maker.write(
        writes.move_acme_account, maker.id, made.id, AccountState.VALID, AccountEvent.DEACTIVATED
    )

    for write, arguments in (
        (writes.update_acme_contacts, [()]),
        (writes.change_acme_key, [made.thumbprint, "new", "{}"]),
    ):
        with pytest.raises(WrongState):
            maker.write(write, maker.id, made.id, *arguments)

    assert account(client) == dataclasses.replace(made, state=AccountState.DEACTIVATED)


def test_an_account_rolls_over_to_another_key(db: Database, maker, client) -> None:
    """The new key finds it, the old one does not, and its first key may open one again."""
    made = client.account

    maker.write(writes.change_acme_key, maker.id, made.id, made.thumbprint, "new", '{"new":1}')

    assert account(client) == dataclasses.replace(made, thumbprint="new", jwk='{"new":1}')
    with db.read() as tx:
        assert reads.acme_account_by_key(tx, client.directory.id, made.thumbprint) is None
    assert maker.last_event().action == "acme-account.key-changed"
    assert maker.write(writes.add_acme_account, client.new_account(thumbprint=made.thumbprint))


def test_a_key_that_has_an_account_is_not_rolled_over_to(maker, client, make_client) -> None:
    """Nor does an account roll over to its own; an account elsewhere is another matter."""
    taken, elsewhere = client.new_account(), make_client(maker, "lab").account
    maker.write(writes.add_acme_account, taken)
    made = client.account

    def roll(to: str) -> None:
        maker.write(writes.change_acme_key, maker.id, made.id, made.thumbprint, to, "{}")

    for thumbprint in (taken.thumbprint, made.thumbprint):
        with pytest.raises(Conflict) as refusal:
            roll(thumbprint)
        assert refusal.value.code == "account-key-used"
        assert account(client) == made
    roll(elsewhere.thumbprint)
    assert account(client).thumbprint == elsewhere.thumbprint


def test_of_two_roll_overs_from_one_key_one_wins(maker, client) -> None:
    """The others learn that the old key is no more."""
    made = client.account

    def roll(number: int) -> Any:
        return maker.write(
            writes.change_acme_key, maker.id, made.id, made.thumbprint, f"new-{number}", "{}"
        )

    found = outcomes(roll)

    assert sorted(map(str, found)) == ["None"] + ["wrong-state"] * 7
    assert account(client).thumbprint == f"new-{found.index(None)}"


def test_of_accounts_that_roll_over_to_one_key_one_gets_it(maker, client) -> None:
    """The rest keep their own."""
    made = [client.new_account() for _ in range(8)]
    for each in made:
        maker.write(writes.add_acme_account, each)

    found = outcomes(
        lambda number: maker.write(
            writes.change_acme_key, maker.id, made[number].id, made[number].thumbprint, "new", "{}"
        )
    )

    assert sorted(map(str, found)) == ["None"] + ["account-key-used"] * 7


def test_what_is_unknown_is_said_to_be(maker) -> None:
    """The error names the noun."""
    attempts = [
        (writes.update_acme_contacts, [()], "account-unknown"),
        (writes.move_acme_account, [AccountState.VALID, AccountEvent.REVOKED], "account-unknown"),
        (writes.change_acme_key, ["old", "new", "{}"], "account-unknown"),
        (writes.spend_acme_binding, ["acc"], "binding-unknown"),
        (writes.rebind_acme_binding, [], "binding-unknown"),
        (writes.revoke_acme_binding, [], "binding-unknown"),
    ]
    for write, arguments, code in attempts:
        with pytest.raises(NotFound) as refusal:
            maker.write(write, maker.id, "absent", *arguments)
        assert refusal.value.code == code


def test_a_binding_comes_back_equal(db: Database, maker, client, make_client) -> None:
    """Whatever it is for; its key shows in no repr and in no event."""
    (device,) = maker.devices(1)
    other = make_client(maker, "lab")
    for changes in (
        {"device_id": device.id, "product_id": None},
        {"is_reusable": True, "revoked_at": NOW},
        {"account_id": "acc", "sealed_key": bytes(range(256))},
    ):
        made = client.new_binding(**changes)
        maker.write(writes.add_acme_binding, made)
        assert binding(client, made.id) == made
        assert binding(other, made.id) is None
        assert "sealed" not in repr(made) + maker.last_event().detail
    with pytest.raises(Conflict) as refusal:
        maker.write(writes.add_acme_binding, client.binding)
    assert refusal.value.code == "binding-exists"


def test_a_binding_reaches_only_what_its_manufacturer_has(maker, rival, client) -> None:
    """Neither another one's product nor another one's device."""
    rival.new_product("of-rival")
    rival.write(writes.add_devices, rival.new_devices(1, id="dev-of-rival"))

    for changes in ({"product_id": "prd-of-rival"}, {"device_id": "dev-of-rival"}):
        with pytest.raises(NotFound) as refusal:
            maker.write(writes.add_acme_binding, client.new_binding(**changes))
        assert refusal.value.code == "reference-unknown"


def test_bindings_are_listed_in_pages(db: Database, maker, client) -> None:
    """By id, each once."""
    made = [client.binding, *(client.new_binding() for _ in range(4))]
    for each in made[1:]:
        maker.write(writes.add_acme_binding, each)
    seen: list[str] = []
    with db.read() as tx:
        while page := reads.acme_bindings(tx, maker.id, seen[-1] if seen else None, 2):
            seen += [each.id for each in page]

    assert seen == sorted(each.id for each in made)


def test_a_binding_opens_one_account(maker, client) -> None:
    """Of clients that spend it at the same moment one does."""
    found = outcomes(
        lambda number: maker.write(
            writes.spend_acme_binding, maker.id, client.binding.id, f"acc-{number}"
        )
    )

    assert sorted(map(str, found)) == ["None"] + ["binding-spent"] * 7
    assert binding(client, client.binding.id).account_id == f"acc-{found.index(None)}"


def test_a_reusable_binding_opens_many(maker, client) -> None:
    """It stays as it is."""
    made = client.new_binding(is_reusable=True)
    maker.write(writes.add_acme_binding, made)

    for number in range(3):
        maker.write(writes.spend_acme_binding, maker.id, made.id, f"acc-{number}")

    assert binding(client, made.id) == made


def test_a_device_that_was_re_imaged_is_bound_again(maker, client) -> None:
    """A spent binding opens one more account after an operator said so, and again only one."""
    made = client.binding
    maker.write(writes.spend_acme_binding, maker.id, made.id, "acc-1")

    maker.write(writes.rebind_acme_binding, maker.id, made.id)

    assert json.loads(maker.last_event().detail) == {"before": "acc-1"}
    assert binding(client, made.id) == made
    maker.write(writes.spend_acme_binding, maker.id, made.id, "acc-2")
    with pytest.raises(Conflict):
        maker.write(writes.spend_acme_binding, maker.id, made.id, "acc-3")


def test_a_binding_that_was_never_spent_is_not_bound_again(db: Database, maker, client) -> None:
    """Nothing changes, and nothing is logged."""
    with db.read() as tx:
        before = audit.verify(tx).events

    maker.write(writes.rebind_acme_binding, maker.id, client.binding.id)

    with db.read() as tx:
        assert audit.verify(tx).events == before


@pytest.mark.parametrize("is_reusable", [True, False])
def test_a_revoked_binding_opens_no_account(maker, client, is_reusable: bool) -> None:
    """Also if it was revoked between the look at it and the account."""
    made = client.new_binding(is_reusable=is_reusable)
    maker.write(writes.add_acme_binding, made)
    maker.write(writes.revoke_acme_binding, maker.id, made.id)
    revoked = maker.last_event()

    with pytest.raises(Conflict) as refusal:
        maker.write(writes.spend_acme_binding, maker.id, made.id, "acc")

    assert refusal.value.code == "binding-revoked"
    maker.write(writes.revoke_acme_binding, maker.id, made.id)
    assert maker.last_event() == revoked
    assert binding(client, made.id).revoked_at == revoked.at


def test_a_nonce_is_used_once(db: Database) -> None:
    """Of requests that bring the same one at the same moment one is served."""
    found = outcomes(
        lambda _: db.write(lambda tx: writes.use_acme_nonce(tx, "n", NOW)),
    )

    assert sorted(found) == [False] * 7 + [True]
    assert db.write(lambda tx: writes.use_acme_nonce(tx, "m", NOW)) is True


def test_nonces_that_expired_are_forgotten_piece_by_piece(db: Database) -> None:
    """The oldest first; those that could still be used again stay known."""

    def use(number: int, expires_at: dt.datetime) -> bool:
        return db.write(lambda tx: writes.use_acme_nonce(tx, f"n{number}", expires_at))

    def forget(limit: int) -> int:
        return db.write(lambda tx: writes.forget_acme_nonces(tx, NOW + 5 * SECOND, limit))

    for number in range(7):
        use(number, NOW + (6 - number) * SECOND)

    assert forget(2) == 2
    assert [use(number, NOW + 9 * SECOND) for number in (4, 5, 6)] == [False, True, True]
    assert [forget(2), forget(2), forget(2)] == [2, 1, 0]
    assert [use(number, NOW) for number in range(7)] == [False] * 2 + [True] * 3 + [False] * 2
