"""Guessing: it costs more and more time, and nobody can be locked out by somebody else."""

import datetime as dt
import re
import threading

import argon2
import pytest

from certmint.enrolment import devices, logins, secrets
from certmint.model.entities import Device, Owner
from certmint.model.errors import TooOften, Unauthenticated
from certmint.registry import reads, writes

from .house import OPERATOR, House

PASSWORD = "correct horse battery"
KEY = b"the key of label secrets, for tests"
THIEF, HOME = "198.51.100.7", "192.0.2.1"


# A hash names its cost, which its check has too: what is counted here is guesses, not cycles.
CHEAP = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)


@pytest.fixture
def owned(house: House) -> House:
    """Grace has an account."""
    owner = Owner("own_grace", house.tenant.id, "grace", house.clock())
    house.db.write(lambda tx: writes.add_owner(tx, owner, CHEAP, by=OPERATOR, at=house.clock()))
    return house


def guess(house: House, source: str = THIEF, password: str = "", user: str = "grace") -> str:
    try:
        logins.login(house.db, "example", user, password, source, house.clock.now)
    except (TooOften, Unauthenticated) as refusal:
        return refusal.code
    return "in"


def test_the_password_of_an_account_opens_it(house: House) -> None:
    """At the full cost of a hash, which is what an installation keeps."""
    devices.add_owner(
        house.db, house.tenant, "grace", PASSWORD,
        by=OPERATOR, now=house.clock(), random_bytes=house.random_bytes,
    )  # fmt: skip
    assert guess(house) == "login-failed"
    assert guess(house, password=PASSWORD) == "in"


def test_guessing_takes_longer_and_longer(owned: House) -> None:
    """Five guesses are free; then even the right password has to wait, and it is told how long."""
    assert [guess(owned) for _ in range(6)] == ["login-failed"] * 6
    with pytest.raises(TooOften) as refusal:
        logins.login(owned.db, "example", "grace", PASSWORD, THIEF, owned.clock.now)
    assert refusal.value.code == "login-locked"
    assert 1 <= refusal.value.retry_after <= 2
    owned.clock.now += dt.timedelta(seconds=2)
    assert guess(owned) == "login-failed"
    owned.clock.now += dt.timedelta(seconds=1)
    assert guess(owned) == "login-locked"  # the second delay is longer than the first
    owned.clock.now += dt.timedelta(seconds=2)
    assert guess(owned, password=PASSWORD) == "in"
    assert guess(owned) == "login-failed"  # a success forgets the failures before it


def test_nobody_locks_another_out(owned: House) -> None:
    """While a thief is locked out, the owner logs in from elsewhere, and others from there."""
    for _ in range(7):
        guess(owned)
    assert guess(owned, password=PASSWORD) == "login-locked"
    assert guess(owned, HOME, PASSWORD) == "in"
    assert guess(owned, user="ada") == "login-failed"


def test_a_delay_is_never_for_ever() -> None:
    """However many failures there were."""
    waits = [logins.delay(failures).total_seconds() for failures in (5, 6, 7, 8, 20, 10**6)]
    assert waits == [0, 1, 2, 4, 900, 900]


def test_one_ipv6_network_is_one_source() -> None:
    """Who has one address of a /64 has them all; IPv4 in IPv6 is the IPv4 address."""

    def subject(source: str) -> str:
        return logins.subject_of("owner", "example/grace", source)

    assert subject("2001:db8::1") == subject("2001:db8::ffff:1")
    assert subject("2001:db8::1") != subject("2001:db8:0:1::1")
    assert subject("::ffff:192.0.2.1") == subject("192.0.2.1")


def test_unknown_users_are_locked_like_known_ones(owned: House) -> None:
    """Waiting tells nobody who has an account."""
    answers = [guess(owned, user="nobody") for _ in range(7)]
    assert answers == [guess(owned, user="grace", source=HOME) for _ in range(7)]


def test_the_table_of_failures_is_bounded(house: House) -> None:
    """An attacker with a network of addresses fills no disk: the oldest failures are forgotten."""
    now = house.clock.now

    def fail(subject: str, at: dt.datetime) -> None:
        house.db.write(
            lambda tx: writes.set_lockout(tx, subject, 1, at, at, at - logins.FORGOTTEN, keep=20)
        )

    for number in range(30):
        fail(f"subject {number}", now + dt.timedelta(seconds=number))
    with house.db.read() as tx:
        kept = [number for number in range(30) if reads.lockout(tx, f"subject {number}")]
    assert kept == list(range(10, 30))
    fail("a day later", now + dt.timedelta(days=2))
    with house.db.read() as tx:
        assert reads.lockout(tx, "subject 29") is None


def test_failures_at_once_are_all_counted(each_house: House) -> None:
    """Eight nodes or threads that fail at the same moment make eight failures."""
    threads = [
        threading.Thread(target=logins.failed, args=(each_house.db, "x", each_house.clock.now))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with each_house.db.read() as tx:
        found = reads.lockout(tx, "x")
    assert found is not None
    assert found.failures == 8


# Label secrets


def label(house: House) -> tuple[Device, secrets.Label]:
    device = house.view("R1").device
    (made,) = secrets.make_labels(
        house.db, house.tenant.id, [device], KEY,
        by=OPERATOR, now=house.clock(), random_bytes=house.random_bytes,
    )  # fmt: skip
    return device, made


def try_secret(house: House, typed: str, source: str = HOME, serial: str = "R1") -> str:
    try:
        secrets.prove(house.db, KEY, "example", serial, typed, source, house.clock.now)
    except (TooOften, Unauthenticated) as refusal:
        return refusal.code
    return "in"


def test_a_label_s_secret(house: House) -> None:
    """It is understood as people type it, and is the device's alone."""
    _, made = label(house)
    assert re.fullmatch(
        r"(?:[0-9A-HJKMNP-TV-Z]{5}-){2}[0-9A-HJKMNP-TV-Z]{5}", made.enrolment_secret
    )
    assert re.fullmatch(r"(?:[0-9A-HJKMNP-TV-Z]{4}-){2}[0-9A-HJKMNP-TV-Z]{4}", made.claim_code)
    spoken = made.enrolment_secret.lower().replace("-", " ").replace("0", "o").replace("1", "l")
    assert try_secret(house, spoken) == "in"
    assert try_secret(house, made.claim_code) == "secret-wrong"
    assert try_secret(house, made.enrolment_secret, serial="R2") == "secret-wrong"
    assert try_secret(house, made.enrolment_secret, serial="R99") == "secret-wrong"


def test_the_registry_does_not_know_the_secret(house: House) -> None:
    """Neither the file nor the audit log has it, and the repr of a label neither."""
    _, made = label(house)
    stored = (house.folder / "registry.db").read_bytes() + b"".join(
        path.read_bytes() for path in house.folder.glob("registry.db-wal")
    )
    for secret in (made.enrolment_secret, made.claim_code):
        assert secret.encode() not in stored
        assert secret.replace("-", "").encode() not in stored
        assert secret not in repr(made)


def test_a_new_label_ends_the_old_one(house: House) -> None:
    """A label that was printed twice, or lost, is replaced."""
    _, old = label(house)
    _, new = label(house)
    assert try_secret(house, old.enrolment_secret) == "secret-wrong"
    assert try_secret(house, new.enrolment_secret) == "in"


def test_guessing_a_secret_locks_the_guesser_alone(house: House) -> None:
    """The device's label works from everywhere else."""
    _, made = label(house)
    assert [try_secret(house, "00000", THIEF) for _ in range(7)][-1] == "login-locked"
    assert try_secret(house, made.enrolment_secret, THIEF) == "login-locked"
    assert try_secret(house, made.enrolment_secret, HOME) == "in"


def test_a_spent_secret_stays_spent(each_house: House) -> None:
    """The database spends it once, whoever asks."""
    device, _ = label(each_house)
    serial = each_house.held("R1")[0].serial

    def spend() -> bool:
        return each_house.db.write(
            lambda tx: writes.spend_label_secret(
                tx, device.tenant_id, device.id, "enrolment", serial, each_house.clock.now
            )
        )

    assert [spend(), spend()] == [True, False]
