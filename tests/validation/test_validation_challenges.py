"""http-01, tls-alpn-01 and the DNS challenges against honest, broken and hostile servers."""

import asyncio
import contextlib
import datetime as dt
import hashlib
import ipaddress
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from hostile import Names, alpn_context, says, serving
from hypothesis import given
from hypothesis import strategies as st
from uvloop import new_event_loop

from certmint.enrolment.acme.lines import ResolverBeside, dialing
from certmint.model.errors import BadInput, Unavailable
from certmint.model.names import DNSName, IPName
from certmint.registry import fibres
from certmint.validation import dns01, http01, tlsalpn01
from certmint.validation.dns import Answer
from certmint.validation.reach import Failed, PrivateNetwork, Reach

NAME = DNSName("router.example.com")
TOKEN, KEY_AUTHORIZATION = "token", "token.thumbprint"


def reach(*ports: int, http_port: int = 80, tls_port: int = 443, deadline: float = 5) -> Reach:
    """Loopback, with exactly these ports."""
    network = ipaddress.ip_network("127.0.0.0/8")
    return Reach(http_port, tls_port, (PrivateNetwork(network, frozenset(ports)),), deadline)


Check = Callable[[Any, str, str, Any, Reach], dict[str, object]]


def in_a_fibre(name: Any, token: str, proof: str, names: Any, where: Reach) -> dict[str, object]:
    """The same look, as a request on the event loop takes it."""
    with ThreadPoolExecutor(2) as threads, asyncio.Runner(loop_factory=new_event_loop) as runner:
        beside = ResolverBeside(names, threads)
        look = partial(http01.check, name, token, proof, beside, where, dialing(threads))
        return runner.run(fibres.run(look))


@pytest.fixture(params=[http01.check, in_a_fibre], ids=["thread", "fibre"])
def check(request: pytest.FixtureRequest) -> Check:
    """http-01 by both ways to wait for the network."""
    return request.param


def ask(
    check: Check, answer: Callable[[socket.socket], None], *, deadline: float = 5
) -> dict[str, object]:
    """http-01 against one server."""
    with serving(answer) as (port, _):
        where = reach(port, http_port=port, deadline=deadline)
        names = Names(router_example_com=("127.0.0.1",))
        return check(NAME, TOKEN, KEY_AUTHORIZATION, names, where)


def refused(check: Check, answer: Callable[[socket.socket], None], **options: float) -> Failed:
    """Why http-01 against this server fails."""
    with pytest.raises(Failed) as failure:
        ask(check, answer, **options)
    return failure.value


def test_http_finds_the_key_authorization(check: Check) -> None:
    """The right body succeeds, whitespace after it is ignored; the request names the host."""
    with serving(says(KEY_AUTHORIZATION + "\n")) as (port, requests):
        names = Names(router_example_com=("127.0.0.1",))
        evidence = check(NAME, TOKEN, KEY_AUTHORIZATION, names, reach(port, http_port=port))

    assert "3.2.2.4.19" in str(evidence["method"])
    assert requests[0].startswith(b"GET /.well-known/acme-challenge/token HTTP/1.1\r\n")
    assert f"Host: router.example.com:{port}\r\n".encode() in requests[0]
    assert names.asked == ["router.example.com"]


def test_http_reads_chunks(check: Check) -> None:
    """A chunked body is put together."""

    def chunked(connection: socket.socket) -> None:
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        first, second = KEY_AUTHORIZATION[:4], KEY_AUTHORIZATION[4:]
        body = "".join(f"{len(part):x}\r\n{part}\r\n" for part in (first, second))
        connection.sendall(head + body.encode() + b"0\r\n\r\n")

    assert ask(check, chunked)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (says("something else"), "unauthorized"),
        (says(KEY_AUTHORIZATION, status="404 Not Found"), "unauthorized"),
        (says(KEY_AUTHORIZATION, status="206 Partial"), "unauthorized"),
        (says(KEY_AUTHORIZATION + "x"), "unauthorized"),
        (says("x" * 100_000), "unauthorized"),
        (lambda connection: connection.sendall(b"SSH-2.0-OpenSSH\r\n"), "connection"),
        (lambda connection: connection.close(), "connection"),
        (lambda connection: connection.sendall(b"HTTP/1.1 200 OK\r\nX: " + b"a" * 40_000),
         "connection"),
    ],
    ids=["wrong", "404", "206", "longer", "flood", "ssh", "closed", "endless head"],
)  # fmt: skip
def test_http_refuses(check: Check, answer: Callable[[socket.socket], None], kind: str) -> None:
    """Everything but the key authorization fails, and its text is not repeated."""
    failure = refused(check, answer)

    assert failure.kind == kind
    assert "something else" not in failure.detail


def test_http_gives_up_on_a_dripping_server(check: Check) -> None:
    """A byte now and then does not hold the validator beyond its deadline."""

    def drip(connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            for byte in b"HTTP/1.1 200 OK\r\n" * 100:
                connection.sendall(bytes([byte]))
                time.sleep(0.1)

    began = time.monotonic()
    failure = refused(check, drip, deadline=0.5)

    assert failure.kind == "connection"
    assert time.monotonic() - began < 3


def test_http_follows_redirects_to_allowed_ports_only(check: Check) -> None:
    """A redirect to another allowed port is followed; each hop is looked up and judged anew."""
    with serving(says(KEY_AUTHORIZATION)) as (goal, _):
        there = says("", status="302 Found", headers=f"Location: http://other.example:{goal}/x\r\n")
        with serving(there) as (port, _):
            names = Names(router_example_com=("127.0.0.1",), other_example=("127.0.0.1",))
            both = reach(port, goal, http_port=port)
            assert check(NAME, TOKEN, KEY_AUTHORIZATION, names, both)
            with pytest.raises(Failed, match="must not be reached"):
                check(NAME, TOKEN, KEY_AUTHORIZATION, names, reach(port, http_port=port))


@pytest.mark.parametrize(
    "location",
    [
        "http://127.0.0.1:{canary}/", "http://2130706433:{canary}/", "http://0x7f000001:{canary}/",
        "http://localhost:{canary}/", "http://[::1]:{canary}/", "http://[::ffff:127.0.0.1]:{canary}/",
        "http://169.254.169.254/latest", "http://user@router.example.com/", "file:///etc/passwd",
        "gopher://router.example.com/", "http:///nowhere", "http://router.example.com:99999/",
        "http://0.0.0.0:{canary}/",
    ],
)  # fmt: skip
def test_http_is_no_way_into_the_network(check: Check, location: str) -> None:
    """A canary beside the validator is never asked, however a redirect spells its address."""
    with serving(says("canary")) as (canary, hits):
        to = location.format(canary=canary)
        there = says("", status="302 Found", headers=f"Location: {to}\r\n")
        with serving(there) as (port, _):
            names = Names(router_example_com=("127.0.0.1",), localhost=("127.0.0.1",))
            where = reach(port, http_port=port)
            with pytest.raises(Failed):
                check(NAME, TOKEN, KEY_AUTHORIZATION, names, where)

    assert hits == []


def test_http_ends_a_redirect_loop(check: Check) -> None:
    """Eleven hops are too many."""
    with serving(says("", status="301 Moved", headers="Location: /again\r\n")) as (port, requests):
        names = Names(router_example_com=("127.0.0.1",))
        with pytest.raises(Failed, match="redirects"):
            check(NAME, TOKEN, KEY_AUTHORIZATION, names, reach(port, http_port=port))

    assert len(requests) == 11


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.0.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0", "100.64.0.1", "::1",
     "fe80::1", "fd00::1", "::ffff:10.0.0.1", "2002:a00:1::", "64:ff9b::a00:1", "224.0.0.1"],
)  # fmt: skip
def test_private_addresses_are_never_reached_by_default(check: Check, address: str) -> None:
    """Without a private network in the configuration, only the public Internet is."""
    names = Names(router_example_com=(address,))

    with pytest.raises(Failed, match="must not be reached"):
        check(NAME, TOKEN, KEY_AUTHORIZATION, names, Reach())


def test_public_addresses_are_reached_on_their_ports_only() -> None:
    """A public address is open on 80 and 443, and on nothing else."""
    public = ipaddress.ip_address("8.8.8.8")

    assert [port for port in (22, 80, 443, 8080) if Reach().permits(public, port)] == [80, 443]


def test_name_without_address_is_a_dns_problem(check: Check) -> None:
    """The client learns that the DNS is what to mend."""
    with pytest.raises(Failed) as failure:
        check(NAME, TOKEN, KEY_AUTHORIZATION, Names(), Reach())

    assert failure.value.kind == "dns"


@pytest.mark.parametrize("text", ["127.0.0.1", "10.0.0.0/8:", "x:80", "10.0.0.0/8:0", "::1:99999"])
def test_private_network_syntax(text: str) -> None:
    """A network without a port, or with an impossible one, is refused."""
    with pytest.raises(BadInput):
        PrivateNetwork.parse(text)


def test_private_network_with_ports() -> None:
    """Exactly the named ports of the named network."""
    parsed = PrivateNetwork.parse("127.0.0.0/8:5002,5001")

    assert parsed.ports == {5001, 5002}
    assert not Reach(private=(parsed,)).permits(ipaddress.ip_address("127.0.0.1"), 22)


DIGEST = hashlib.sha256(KEY_AUTHORIZATION.encode()).digest()


@contextlib.contextmanager
def tls_server(context: object) -> Iterator[int]:
    """A TLS server that completes handshakes and hangs up."""
    listener = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with contextlib.suppress(OSError):
                    context.wrap_socket(connection, server_side=True).close()  # type: ignore[attr-defined]

    threading.Thread(target=run, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.close()


def tls_check(context: object, name: DNSName | IPName = NAME) -> dict[str, object]:
    """tls-alpn-01 against one server."""
    with tls_server(context) as port:
        names = Names(router_example_com=("127.0.0.1",))
        return tlsalpn01.check(name, KEY_AUTHORIZATION, names, reach(port, tls_port=port))


def test_tls_alpn_finds_the_challenge_certificate(tmp_path: Path) -> None:
    """The exact SAN and digest over acme-tls/1 succeed."""
    evidence = tls_check(alpn_context(tmp_path, DIGEST, x509.DNSName("Router.example.com")))

    assert "3.2.2.4.20" in str(evidence["method"])


def test_tls_alpn_of_a_server_with_keys_of_two_kinds(tmp_path: Path) -> None:
    """Apache's mod_md answers with its RSA key alone, and shows the site's own for the other."""
    right = x509.DNSName("router.example.com")
    context = alpn_context(tmp_path, DIGEST, right, key=rsa.generate_private_key(65537, 2048))
    alpn_context(tmp_path, bytes(32), right)  # leaves a certificate on P-256 in the same file
    context.load_cert_chain(tmp_path / "challenge.pem")

    assert tls_check(context)


def test_tls_alpn_for_an_address(tmp_path: Path) -> None:
    """An address is asked for by its reverse name and shown as iPAddress (RFC 8738 6)."""
    address = IPName("127.0.0.1")
    shown = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))

    assert tlsalpn01.server_name(address) == "1.0.0.127.in-addr.arpa"
    assert tls_check(alpn_context(tmp_path, DIGEST, shown), address)


def test_tls_alpn_refuses_anything_else(tmp_path: Path) -> None:
    """Wrong digest, wrong or second name, not critical, another protocol: each fails."""
    right = x509.DNSName("router.example.com")
    for context in (
        alpn_context(tmp_path, bytes(32), right),
        alpn_context(tmp_path, DIGEST, x509.DNSName("other.example.com")),
        alpn_context(tmp_path, DIGEST, right, x509.DNSName("other.example.com")),
        alpn_context(tmp_path, DIGEST, right, critical=False),
        alpn_context(tmp_path, DIGEST, right, alpn="http/1.1"),
    ):
        with pytest.raises(Failed) as failure:
            tls_check(context)
        assert failure.value.kind in ("unauthorized", "tls")


def test_dns_finds_the_digest() -> None:
    """dns-01's value is the base64url SHA-256 of the key authorization (RFC 8555 8.4)."""
    names = Names()
    names.records["_acme-challenge.router.example.com"] = (
        "other", dns01.key_digest(KEY_AUTHORIZATION),
    )  # fmt: skip

    evidence = dns01.check(NAME, KEY_AUTHORIZATION, names)

    assert evidence["dnssec"] == "authenticated"
    with pytest.raises(Failed, match="expected value"):
        dns01.check(DNSName("other.example.com"), KEY_AUTHORIZATION, names)


def test_dns_account_label() -> None:
    """The label is sixteen base32 characters of the account URL's hash, after an underscore."""
    url = "https://example.com/acme/acct/ExampleAccount"
    names = Names()
    record = f"{dns01.account_label(url)}._acme-challenge.router.example.com"
    names.records[record] = (dns01.key_digest(KEY_AUTHORIZATION),)

    assert dns01.account_label(url) == "_ujmmovf2vn55tgye"
    assert dns01.check(NAME, KEY_AUTHORIZATION, names, url)["record"] == record


def test_dns_server_trouble_is_no_permission() -> None:
    """A resolver that fails makes the challenge fail as `dns`, never succeed."""

    class Broken(Names):
        def txt(self, name: str) -> Answer:
            raise Unavailable("dns-failed", f"{name}: SERVFAIL")

    with pytest.raises(Failed) as failure:
        dns01.check(NAME, KEY_AUTHORIZATION, Broken())

    assert failure.value.kind == "dns"


NOW = dt.datetime(2026, 11, 23, tzinfo=dt.UTC)
URI = "https://ca.example/acct/1"


@pytest.mark.parametrize(
    ("record", "wildcard", "good"),
    [
        (f"ca.example; accounturi={URI}", False, True),
        (f"CA.example ;  AccountURI = {URI}", False, True),
        (f"ca.example; accounturi={URI}; policy=WildCard", True, True),
        (f"ca.example; accounturi={URI}; persistUntil=1900000000", False, True),
        (f"ca.example; accounturi={URI}", True, False),
        (f"ca.example; accounturi={URI}; persistUntil=1700000000", False, False),
        (f"ca.example; accounturi={URI}; persistUntil=soon", False, False),
        (f"other.example; accounturi={URI}", False, False),
        ("ca.example; accounturi=https://ca.example/acct/2", False, False),
        ("ca.example", False, False),
        (f"ca.example; accounturi={URI};", False, False),
        (f"ca.example; accounturi={URI}; accounturi={URI}", False, False),
        (f"ca.example; accounturi={URI} x", False, False),
    ],
)
def test_persistent_record(record: str, wildcard: bool, good: bool) -> None:
    """BR 3.2.2.4.22: issuer, account, an optional end, and `policy=wildcard` for wildcards."""
    names = Names()
    names.records["_validation-persist.router.example.com"] = ("garbage;;", record)

    def check() -> dict[str, object]:
        return dns01.check_persistent(NAME, "ca.example", URI, names, NOW, is_wildcard=wildcard)

    if good:
        assert "3.2.2.4.22" in str(check()["method"])
    else:
        with pytest.raises(Failed):
            check()


@given(st.text(max_size=200))
def test_no_record_breaks_the_parser(text: str) -> None:
    """Whatever stands in the DNS is parsed or skipped."""
    dns01.persistent_record(text)
