"""Logins at an OpenID provider: a device without a keyboard, and people with a browser."""

import datetime as dt
import urllib.parse
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from openid_provider import AUDIENCE, CLIENT, OpenIDProvider, provider

from certmint.enrolment import devicelogins, oidc, sessions
from certmint.enrolment.oidc import OIDC
from certmint.enrolment.sessions import Returned
from certmint.model.csr import CSR
from certmint.model.entities import Owner
from certmint.model.errors import CertmintError
from certmint.model.profile import Purpose
from certmint.registry import reads, writes
from certmint.registry.engine import open_database
from certmint.validation.oidc import RemoteProvider

from .house import NOW, OPERATOR, House, csr
from .openid_world import account, answer, linked, seconds_of, trusting

KEY = b"the key of label secrets, for tests"
SECOND = dt.timedelta(seconds=1)


@pytest.fixture
def idp(house: House) -> Iterator[OpenIDProvider]:
    """The provider of the house's manufacturer."""
    with provider(seconds_of(house)) as running:
        yield running


@pytest.fixture
def service(idp: OpenIDProvider) -> OIDC:
    return trusting(idp)


@pytest.fixture
def grace(house: House, idp: OpenIDProvider) -> Owner:
    return linked(house, idp)


def begin(house: House, service: OIDC, serial: str = "R1", request: CSR | None = None) -> Any:
    device = house.latest(serial, Purpose.IDENTITY)
    return devicelogins.begin(
        house.db, service, device, request or csr(), KEY,
        house.clock(), house.random_bytes,
    )  # fmt: skip


def poll(house: House, service: OIDC, login_id: str, serial: str = "R1") -> Any:
    device = house.latest(serial, Purpose.IDENTITY)
    return devicelogins.poll(
        house.db, service, device, login_id, KEY, house.clock(), house.random_bytes
    )


def test_a_device_has_its_owner_log_in(
    house: House, idp: OpenIDProvider, service: OIDC, grace: Owner
) -> None:
    """Pending, then granted; the device becomes its owner's, and that CSR may be certified."""
    wanted = csr()
    shown = begin(house, service, request=wanted)
    assert (shown.user_code, shown.interval) == ("WDJB-MJHT", 5)
    device = house.latest("R1", Purpose.IDENTITY)
    house.clock.now += 6 * SECOND
    assert not poll(house, service, shown.id).is_granted
    assert answer(lambda: poll(house, service, shown.id)) == "login-too-soon"
    redeem = lambda request: devicelogins.redeem(  # noqa: E731
        house.db, device, shown.id, request, house.clock()
    )
    assert answer(lambda: redeem(wanted)) == "login-pending"
    idp.device["sub"] = "jo-at-home"
    house.clock.now += 6 * SECOND
    assert poll(house, service, shown.id).is_granted
    assert poll(house, service, shown.id).is_granted  # an answer that was lost is given again
    assert house.view("R1").device.owner_id == grace.id
    assert redeem(wanted)[0] == grace
    assert answer(lambda: redeem(csr())) == "login-other-request"
    other = house.latest("R2", Purpose.IDENTITY)
    assert (
        answer(lambda: devicelogins.redeem(house.db, other, shown.id, wanted, house.clock()))
        == "login-unknown"
    )
    house.clock.now += devicelogins.GRANT_LIFE
    assert answer(lambda: redeem(wanted)) == "login-expired"


def test_the_provider_is_polled_as_it_wishes(
    house: House, idp: OpenIDProvider, service: OIDC, grace: Owner
) -> None:
    """Two nodes and an eager device ask it once an interval; slow_down makes that longer."""
    shown = begin(house, service)
    for _ in range(10):
        assert answer(lambda: poll(house, service, shown.id)) == "login-too-soon"
    assert idp.asked["/token"] == 0
    house.clock.now += 6 * SECOND
    with ThreadPoolExecutor(4) as pool:
        codes = list(pool.map(lambda _: answer(lambda: poll(house, service, shown.id)), range(4)))
    assert sorted(codes) == ["login-too-soon"] * 3 + ["ok"]
    assert idp.asked["/token"] == 1
    idp.device["is"] = "slow_down"
    house.clock.now += 6 * SECOND
    assert poll(house, service, shown.id).interval == 10
    house.clock.now += 6 * SECOND
    assert answer(lambda: poll(house, service, shown.id)) == "login-too-soon"


def test_another_node_takes_over(
    each_house: House,
) -> None:
    """What one node began, another one finishes, on either database; the code is not in it."""
    with provider(seconds_of(each_house)) as idp:
        service = trusting(idp, creates_owners=True)
        shown = begin(each_house, service)
        with each_house.db.read() as tx:
            row = reads.device_login(tx, each_house.tenant.id, each_house.view("R1").device.id)
        assert row is not None
        assert idp.device["code"].encode() not in row.device_code
        idp.device["sub"] = "jo-at-home"
        each_house.clock.now += 6 * SECOND
        assert poll(each_house, trusting(idp, creates_owners=True), shown.id).is_granted


@pytest.mark.parametrize(
    ("error", "code", "then"),
    [
        ("access_denied", "login-denied", "login-unknown"),
        ("expired_token", "login-expired", "login-unknown"),
        ("server_error", "provider-refused", "login-too-soon"),
    ],
)
def test_a_device_s_login_that_fails(
    house: House, idp: OpenIDProvider, service: OIDC, error: str, code: str, then: str
) -> None:
    """The device is told, and begins again if it is over."""
    shown = begin(house, service)
    idp.device["is"] = error
    house.clock.now += 6 * SECOND
    assert answer(lambda: poll(house, service, shown.id)) == code
    assert answer(lambda: poll(house, service, shown.id)) == then


def test_a_device_of_somebody_else(
    house: House, idp: OpenIDProvider, service: OIDC, grace: Owner
) -> None:
    """A login does not take a device from its owner."""
    ada = account(house, "ada")
    with house.db.read() as tx:
        device = reads.device_by_serial_number(tx, house.tenant.id, "R1")
    assert device is not None
    house.db.write(
        lambda tx: writes.set_device_owner(
            tx, house.tenant.id, device.id, ada.id, None, by=OPERATOR, at=house.clock()
        )
    )
    shown = begin(house, service)
    idp.device["sub"] = "jo-at-home"
    house.clock.now += 6 * SECOND
    assert answer(lambda: poll(house, service, shown.id)) == "device-claimed"
    assert house.view("R1").device.owner_id == ada.id
    assert answer(lambda: poll(house, service, shown.id)) == "login-unknown"


@pytest.mark.parametrize(
    ("claims", "code"),
    [
        ({"iss": "https://login.elsewhere.example"}, "token-issuer"),
        ({"aud": AUDIENCE}, "token-audience"),
        ({"aud": [CLIENT, "another"], "azp": "another"}, "token-audience"),
        ({"aud": [CLIENT, "another"]}, "token-audience"),
        ({"exp": 1}, "token-expired"),
        ({"sub": "a stranger"}, "login-unlinked"),
    ],
)
def test_an_id_token_that_does_not_hold(
    house: House, idp: OpenIDProvider, service: OIDC, grace: Owner, claims: Any, code: str
) -> None:
    """What came over the provider's own connection is judged all the same."""
    shown = begin(house, service)
    idp.device["sub"] = "jo-at-home"
    idp.claims = claims
    house.clock.now += 6 * SECOND
    assert answer(lambda: poll(house, service, shown.id)) == code
    assert house.view("R1").device.owner_id is None


def test_who_may_begin_a_device_s_login(house: House, idp: OpenIDProvider, service: OIDC) -> None:
    """The device itself, in service, not too often, where there is such a provider."""
    begin(house, service)
    assert answer(lambda: begin(house, service)) == "login-too-soon"
    house.clock.now += 11 * SECOND
    assert answer(lambda: begin(house, service)) == "ok"
    assert answer(lambda: begin(house, OIDC(), "R2")) == "provider-unknown"
    tls = house.latest("R3", Purpose.SERVICE)
    by_service = lambda: devicelogins.begin(  # noqa: E731
        house.db, service, tls, csr(), KEY, house.clock(), house.random_bytes
    )
    assert answer(by_service) == "identity-required"
    wrong = RemoteProvider(idp.settings(manufacturer="example", client_secret="wrong"))
    house.clock.now += 11 * SECOND
    assert answer(lambda: begin(house, OIDC((wrong,)))) == "provider-refused"


# People with a browser.


def finish(house: House, service: OIDC, query: str, cookie: str) -> str:
    """The token of a session, or the code of the refusal."""
    back = dict(urllib.parse.parse_qsl(query))
    returned = Returned(
        back.get("state", ""), back.get("code", ""), back.get("error", ""), back.get("iss", ""),
        cookie,
    )  # fmt: skip
    try:
        return sessions.finish(house.db, service, returned, KEY, house.clock(), house.random_bytes)[
            0
        ]
    except CertmintError as refusal:
        return refusal.code


def start(house: House, service: OIDC) -> sessions.Begun:
    return sessions.begin(house.db, service, "example", KEY, house.clock(), house.random_bytes)


def session(house: House, token: str) -> str:
    try:
        return sessions.owner_of_session(house.db, token, house.clock()).username
    except CertmintError as refusal:
        return refusal.code


def test_a_person_logs_in_with_a_browser(
    house: House, idp: OpenIDProvider, service: OIDC, grace: Owner
) -> None:
    """Code and PKCE give a session, that ends by itself or when it is closed."""
    begun = start(house, service)
    back = idp.browse(begun.url, "jo-at-home")
    token = finish(house, service, back, begun.cookie)
    assert session(house, token) == "grace"
    assert finish(house, service, back, begun.cookie) == "login-state"  # once
    with house.db.read() as tx:
        dump = str(tx.exec_driver_sql("SELECT * FROM owner_session").all())
    assert token not in dump
    sessions.close(house.db, token, house.clock())
    assert session(house, token) == "session-over"
    assert answer(lambda: sessions.close(house.db, token, house.clock())) == "session-over"
    begun = start(house, service)
    token = finish(house, service, idp.browse(begun.url, "jo-at-home"), begun.cookie)
    house.clock.now += sessions.SESSION_LIFE
    assert session(house, token) == "session-over"


def test_logins_that_do_not_come_back_right(
    house: House, idp: OpenIDProvider, service: OIDC, grace: Owner
) -> None:
    """Another browser, another state, another provider, a refusal, a wrong nonce, too late."""
    first, second = start(house, service), start(house, service)
    back = idp.browse(first.url, "jo-at-home")
    assert finish(house, service, back, "") == "login-state"
    assert finish(house, service, back, second.cookie) == "login-state"
    assert finish(house, service, "state=example.forged&code=x", first.cookie) == "login-state"
    mixed = back + "&iss=https%3A%2F%2Fevil.example"
    assert finish(house, service, mixed, first.cookie) == "token-issuer"
    begun = start(house, service)
    refused = idp.browse(begun.url, "jo-at-home", error="access_denied")
    assert finish(house, service, refused, begun.cookie) == "login-denied"
    begun = start(house, service)
    back = idp.browse(begun.url, "jo-at-home")
    idp.claims = {"nonce": "\ud800"}
    assert finish(house, service, back, begun.cookie) == "token-nonce"
    idp.claims = {}
    begun = start(house, service)
    back = idp.browse(begun.url, "jo-at-home")
    idp.codes[next(reversed(idp.codes))]["code_challenge"] = "another"
    assert finish(house, service, back, begun.cookie) == "provider-refused"
    begun = start(house, service)
    back = idp.browse(begun.url, "jo-at-home")
    house.clock.now += sessions.LOGIN_LIFE
    assert finish(house, service, back, begun.cookie) == "login-state"


def test_sessions_end_with_the_link(
    house: House, idp: OpenIDProvider, service: OIDC, grace: Owner
) -> None:
    """Who is unlinked is out at once."""
    begun = start(house, service)
    token = finish(house, service, idp.browse(begun.url, "jo-at-home"), begun.cookie)
    oidc.unlink(
        house.db, house.tenant, "grace", idp.issuer, "jo-at-home", by=OPERATOR, now=house.clock()
    )
    assert session(house, token) == "session-over"


def test_what_is_under_way_is_bounded(
    house: House, idp: OpenIDProvider, service: OIDC, grace: Owner
) -> None:
    """Whoever begins logins without end pushes out the oldest, and sessions are few."""
    for number in range(5):
        house.db.write(
            lambda tx, n=number: writes.begin_owner_login(
                tx, house.tenant.id, f"state-{n}", at=house.clock(),
                until=NOW + dt.timedelta(hours=1), keep=3,
            )
        )  # fmt: skip
        house.db.write(
            lambda tx, n=number: writes.open_session(
                tx, house.tenant.id, grace.id, f"hash-{n}", at=house.clock(),
                until=NOW + dt.timedelta(hours=1), keep=2,
            )
        )  # fmt: skip
    with house.db.read() as tx:
        states = tx.exec_driver_sql("SELECT state_hash FROM owner_login ORDER BY 1").scalars().all()
        hashes = tx.exec_driver_sql("SELECT token_hash FROM owner_session ORDER BY 1")
        assert states == ["state-2", "state-3", "state-4"]
        assert hashes.scalars().all() == ["hash-3", "hash-4"]


def test_a_session_survives_on_another_node(each_house: House, url: str) -> None:
    """State and sessions are in the database, on either kind."""
    with provider(seconds_of(each_house)) as idp:
        service = trusting(idp, creates_owners=True)
        begun = start(each_house, service)
        back = idp.browse(begun.url, "jo-at-home")
        other = open_database(url)
        elsewhere = House(other, each_house.keys, each_house.home, each_house.folder)
        token = finish(elsewhere, trusting(idp, creates_owners=True), back, begun.cookie)
        assert session(each_house, token) == "oidc:jo-at-home"
        other.close()


def test_secrets_are_in_no_repr(idp: OpenIDProvider) -> None:
    """Settings can be logged."""
    assert "a secret" not in repr(idp.settings())
