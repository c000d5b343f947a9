"""Owners whom an OpenID provider knows, against a provider that answers over HTTP on loopback."""

import datetime as dt
import hmac
import http.server
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from openid_provider import AUDIENCE, CLIENT, OpenIDProvider, b64, compact, jwk_of, provider

from certmint.enrolment import logins, oidc
from certmint.enrolment.oidc import OIDC
from certmint.model.entities import Owner
from certmint.model.errors import CertmintError
from certmint.model.openid import OLDEST
from certmint.validation.oidc import MAX_ANSWER, RemoteProvider, is_provider_url

from .house import NOW, OPERATOR, House
from .openid_world import account, answer, linked, seconds_of, trusting

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


def bearer(house: House, service: OIDC, token: str) -> str:
    """Who came in by this token: the user name, or the code of the refusal."""
    try:
        return oidc.owner_by_bearer(
            house.db, service, token, house.clock(), house.random_bytes
        ).username
    except CertmintError as refusal:
        return refusal.code


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_a_token_of_the_provider_is_its_owner(
    house: House, idp: OpenIDProvider, grace: Owner, algorithm: str
) -> None:
    """Each algorithm that may be configured."""
    idp.rotate("another", algorithm)
    assert bearer(house, trusting(idp), idp.token()) == "grace"
    assert bearer(house, trusting(idp), idp.token(aud=["other", AUDIENCE])) == "grace"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"iss": "https://login.elsewhere.example"}, "token-issuer"),
        ({"iss": None}, "token-issuer"),
        ({"aud": "https://other.example"}, "token-audience"),
        ({"aud": CLIENT}, "token-audience"),
        ({"aud": None}, "token-audience"),
        ({"exp": NOW.timestamp() - 61}, "token-expired"),
        ({"exp": None}, "token-claims"),
        ({"exp": "tomorrow"}, "token-claims"),
        ({"exp": float("inf")}, "token-claims"),
        ({"exp": 10**400}, "token-claims"),
        ({"exp": -1}, "token-claims"),
        ({"exp": True}, "token-claims"),
        ({"iat": None}, "token-claims"),
        ({"iat": NOW.timestamp() - OLDEST.total_seconds() - 61}, "token-expired"),
        ({"iat": NOW.timestamp() + 65}, "token-early"),
        ({"nbf": NOW.timestamp() + 65}, "token-early"),
        ({"sub": None}, "token-claims"),
        ({"sub": ""}, "token-claims"),
        ({"sub": "x" * 256}, "token-claims"),
        ({"sub": ["jo-at-home"]}, "token-claims"),
        ({"sub": "somebody-else"}, "login-unlinked"),
    ],
)
def test_claims_that_do_not_hold(
    house: House, idp: OpenIDProvider, service: OIDC, grace: Owner, changes: Any, code: str
) -> None:
    """Rightly signed, and refused for one claim."""
    assert bearer(house, service, idp.token(**changes)) == code


def test_clocks_may_be_a_minute_apart(
    house: House, idp: OpenIDProvider, service: OIDC, grace: Owner
) -> None:
    """Leeway on both sides."""
    now = house.clock.now.timestamp()
    assert bearer(house, service, idp.token(exp=now - 55)) == "grace"
    assert bearer(house, service, idp.token(iat=now + 55, nbf=now + 55)) == "grace"


def test_signatures_that_do_not_hold(
    house: House, idp: OpenIDProvider, service: OIDC, grace: Owner
) -> None:
    """No signature, a shared secret, another key, another algorithm, another body."""
    claims = {
        "iss": idp.issuer, "aud": AUDIENCE, "sub": "jo-at-home",
        "iat": NOW.timestamp(), "exp": NOW.timestamp() + 300,
    }  # fmt: skip
    public = str(idp.published[0]).encode()

    def by_mac(data: bytes) -> bytes:
        return hmac.digest(public, data, "sha256")

    good = idp.sign(claims)
    head, _, tail = good.split(".")
    forged = b64(good.split(".")[1].encode())
    stranger = OpenIDProvider(issuer=idp.issuer, seconds=idp.seconds)
    rs256 = idp.sign(claims, alg="RS256")
    cases = {
        compact({"alg": "none", "kid": "one"}, claims, lambda _: b""): "token-algorithm",
        compact({"alg": "HS256", "kid": "one"}, claims, by_mac): "token-algorithm",
        idp.sign(claims, alg="ES512"): "token-algorithm",
        idp.sign(claims, alg=7): "token-algorithm",
        rs256: "token-key",
        stranger.sign(claims): "token-signature",
        f"{head}.{b64(b'{}')}.{tail}": "token-issuer",
        f"{good[:-4]}AAAA": "token-signature",
        f"{head}.{forged}.{tail}": "token-syntax",
        idp.sign(claims, crit=["exp"], exp=1): "token-syntax",
        idp.sign(claims, crit=["b64"], b64=False): "token-syntax",
        idp.sign([claims]): "token-syntax",
        idp.sign(claims, kid="unknown"): "token-key",
        good + ".x": "token-syntax",
        "": "token-syntax",
        "a.b.c": "token-syntax",
        "ä.ö.ü": "token-syntax",
        "x" * 20_000: "token-syntax",
    }
    assert {token: bearer(house, service, token) for token in cases} == cases
    assert bearer(house, service, good) == "grace"


def test_only_configured_algorithms(house: House, idp: OpenIDProvider, grace: Owner) -> None:
    """What the provider can do more does not matter."""
    assert bearer(house, trusting(idp, algorithms=("RS256",)), idp.token()) == "token-algorithm"


def test_a_token_without_a_key_id_needs_a_single_key(
    house: House, idp: OpenIDProvider, service: OIDC, grace: Owner
) -> None:
    """With two keys nobody guesses, and a key for encryption is none."""
    claims = {
        "iss": idp.issuer, "aud": AUDIENCE, "sub": "jo-at-home",
        "iat": NOW.timestamp(), "exp": NOW.timestamp() + 300,
    }  # fmt: skip
    assert bearer(house, service, idp.sign(claims, kid=None)) == "grace"
    idp.published.append(jwk_of(idp.keys["one"], "two"))
    assert bearer(house, trusting(idp), idp.sign(claims, kid=None)) == "token-key"
    idp.published[0]["use"] = "enc"
    assert bearer(house, trusting(idp), idp.sign(claims, kid="one")) == "token-key"


def test_keys_are_rotated_without_a_restart(
    house: House, idp: OpenIDProvider, service: OIDC, grace: Owner
) -> None:
    """A new key id makes the keys be fetched again, once a minute at the most."""
    old = idp.token()
    assert bearer(house, service, old) == "grace"
    idp.rotate("two")
    assert bearer(house, service, idp.token()) == "token-key"  # fetched within this minute
    for _ in range(20):
        bearer(house, service, idp.sign({"iss": idp.issuer, "aud": AUDIENCE}, kid="forged"))
    assert idp.asked["/jwks"] == 1
    house.clock.now += 61 * SECOND
    assert bearer(house, service, idp.token()) == "grace"
    assert idp.asked["/jwks"] == 2
    # The old key is not believed any more.
    assert bearer(house, service, old) == "token-key"


def test_keys_are_asked_for_again_after_a_while(
    house: House, idp: OpenIDProvider, service: OIDC, grace: Owner
) -> None:
    """A key that the provider withdraws stops counting within a quarter of an hour."""
    assert bearer(house, service, idp.token()) == "grace"
    idp.published = []
    house.clock.now += dt.timedelta(minutes=15, seconds=1)
    assert bearer(house, service, idp.token()) == "token-key"


@pytest.mark.parametrize(
    ("path", "said", "code"),
    [
        ("/.well-known/openid-configuration", (200, {"issuer": "https://x"}), "provider-answer"),
        ("/.well-known/openid-configuration", (302, {}), "provider-answer"),
        ("/.well-known/openid-configuration", (200, []), "provider-answer"),
        ("/.well-known/openid-configuration", (200, b"{" + b" " * MAX_ANSWER), "provider-answer"),
        ("/.well-known/openid-configuration", (200, b"[" * 100_000), "provider-answer"),
        ("/jwks", (500, {}), "provider-answer"),
        ("/jwks", (200, {"keys": 7}), "token-key"),
        ("/jwks", (200, {"keys": [7, {}, {"kty": "EC", "kid": "one"}]}), "token-key"),
        (
            "/jwks",
            (200, {"keys": [{"kty": "EC", "crv": "P-256", "kid": "one", "x": "AA", "y": "AA"}]}),
            "token-signature",
        ),
    ],
)
def test_a_provider_that_talks_nonsense(
    house: House, idp: OpenIDProvider, service: OIDC, grace: Owner, path: str, said: Any, code: str
) -> None:
    """Nothing of it is believed, and nothing of it breaks us."""
    idp.overrides[path] = said
    assert bearer(house, service, idp.token()) == code


def test_a_configuration_of_another_issuer_is_not_believed(
    house: House, idp: OpenIDProvider, service: OIDC, grace: Owner
) -> None:
    """Even if everything else in it is right (OpenID Connect Discovery 4.3)."""
    path = "/.well-known/openid-configuration"
    _, said = idp.answer(path, {}, "")
    idp.overrides[path] = (200, said | {"issuer": idp.issuer + "/"})
    assert bearer(house, service, idp.token()) == "provider-answer"


def test_a_provider_that_is_down_costs_one_wait(
    house: House, idp: OpenIDProvider, grace: Owner
) -> None:
    """It is left alone for some seconds after a failure; then it is asked again."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        issuer = f"http://127.0.0.1:{silent.getsockname()[1]}"
        remote = RemoteProvider(idp.settings(issuer=issuer, manufacturer="example"), 0.2)
        service, token = OIDC((remote,)), idp.token(iss=issuer)
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda _: bearer(house, service, token), range(8)))
        assert set(found) == {"provider-unreachable"}
        silent.settimeout(0.1)
        silent.accept()[0].close()
        with pytest.raises(TimeoutError):
            silent.accept()


def test_a_provider_that_drips_is_cut_off(house: House, idp: OpenIDProvider, grace: Owner) -> None:
    """The deadline is for the whole answer, not for an octet."""

    class Dripping(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            try:
                while not stopped:
                    self.wfile.write(b" ")
                    wait.wait(0.05)
            except OSError:
                return

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    stopped: list[bool] = []
    wait = threading.Event()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Dripping)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    issuer = f"http://127.0.0.1:{server.server_address[1]}"
    remote = RemoteProvider(idp.settings(issuer=issuer, manufacturer="example"), 0.3)
    assert bearer(house, OIDC((remote,)), idp.token(iss=issuer)).startswith("provider-")
    stopped.append(True)
    wait.set()
    server.shutdown()
    thread.join()
    server.server_close()


def test_plain_http_is_for_loopback_only() -> None:
    """What a provider may be reached by."""
    for good in ("https://login.example", "https://[2001:db8::1]:8443/x", "http://127.0.0.1:1/x"):
        assert is_provider_url(good)
    for bad in (
        "http://login.example", "ftp://127.0.0.1", "https://", "https://u:p@login.example",
        "https://login.example/#x", "https://login.example/a b", "https://x:99999", "",
        "http://127.0.0.1.evil.example", "https://login.example\r\nX: y",
    ):  # fmt: skip
        assert not is_provider_url(bad), bad


def test_accounts_at_first_sight(house: House, idp: OpenIDProvider) -> None:
    """If the manufacturer wants that: one owner a person, even for two requests at once."""
    service = trusting(idp, creates_owners=True)
    bearer(house, service, idp.token())  # the keys are there now
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: bearer(house, service, idp.token("new one")), range(4)))
    assert found == ["oidc:new one"] * 4
    assert [each.subject for each in oidc.identities(house.db, house.tenant, None, 10)] == [
        "jo-at-home",
        "new one",
    ]
    # Such an account has no password.
    for password in ("", "none", "!"):
        code = answer(
            lambda word=password: logins.login(
                house.db, "example", "oidc:new one", word, "192.0.2.1", house.clock()
            )
        )
        assert code == "login-failed"


def test_a_token_counts_for_its_manufacturer_alone(
    house: House, idp: OpenIDProvider, grace: Owner
) -> None:
    """Two manufacturers at one issuer are told apart by audience."""
    other = idp.settings(manufacturer="other", audience="https://other.example")
    both = OIDC((*trusting(idp).providers, RemoteProvider(other)))
    assert bearer(house, both, idp.token()) == "grace"
    assert bearer(house, both, idp.token(aud="https://other.example")) == "provider-manufacturer"
    assert bearer(house, both, idp.token(aud=[AUDIENCE, other.audience])) == "token-audience"
    nobody = trusting(idp, audience="")
    assert bearer(house, nobody, idp.token(aud="")) == "token-audience"


def test_links_are_made_and_ended(
    house: House, idp: OpenIDProvider, service: OIDC, grace: Owner
) -> None:
    """One owner a person; after the end the token buys nothing."""

    def link(name: str, subject: str) -> str:
        return answer(
            lambda: oidc.link(
                house.db, house.tenant, name, idp.issuer, subject, by=OPERATOR, now=house.clock()
            )
        )

    def unlink(name: str, subject: str) -> str:
        return answer(
            lambda: oidc.unlink(
                house.db, house.tenant, name, idp.issuer, subject, by=OPERATOR, now=house.clock()
            )
        )

    account(house, "ada")
    assert link("ada", "jo-at-home") == "identity-linked"
    assert link("nobody", "x") == "owner-unknown"
    assert link("ada", "x" * 256) == "identity-syntax"
    assert unlink("ada", "jo-at-home") == "link-unknown"
    assert unlink("grace", "jo-at-home") == "ok"
    assert bearer(house, service, idp.token()) == "login-unlinked"
    assert link("ada", "jo-at-home") == "ok"
    assert bearer(house, service, idp.token()) == "ada"
    (first,) = oidc.identities(house.db, house.tenant, None, 10)
    assert oidc.identities(house.db, house.tenant, (first.issuer, first.subject), 10) == []
