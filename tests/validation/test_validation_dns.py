"""Asking a real DNS server on loopback, and writing to it."""

import base64
import socket
import threading
from collections.abc import Iterator

import dns.flags
import dns.message
import dns.rcode
import pytest

from certmint.app.demo.dns import LoopbackDNS
from certmint.model.errors import BadInput, Refused, Unavailable
from certmint.validation.dns import Nameserver, NetworkResolver
from certmint.validation.dnsupdate import Record, TSIGKey, replace_records

SECRET = b"0123456789abcdef0123456789abcdef"
KEY = TSIGKey("key", "hmac-sha256", SECRET)


@pytest.fixture
def server() -> Iterator[Nameserver]:
    """An authoritative server for example.com that takes updates signed with KEY."""
    running = LoopbackDNS("example.com", "key", SECRET)
    yield Nameserver("127.0.0.1", running.port)
    running.close()


def ask(server: Nameserver, timeout: float = 2) -> NetworkResolver:
    """A resolver that asks this server."""
    return NetworkResolver((server,), timeout)


def test_records_come_back_as_they_were_written(server: Nameserver) -> None:
    """TXT, CNAME and addresses; a wildcard answers for any name below."""
    replace_records(
        server, "example.com",
        [Record("a.example.com.", "TXT", '"one" "two"'),
         Record("b.example.com.", "CNAME", "Target.example.com."),
         Record("*.lan.example.com.", "A", "192.168.1.1"),
         Record("*.lan.example.com.", "AAAA", "fd00::1")],
        KEY,
    )  # fmt: skip
    resolver = ask(server)

    assert resolver.txt("a.example.com").values == ("onetwo",)
    assert resolver.cname("b.example.com").values == ("target.example.com",)
    assert resolver.addresses("any.lan.example.com").values == ("192.168.1.1", "fd00::1")


def test_aliases_are_followed(server: Nameserver) -> None:
    """A TXT look-up goes through a CNAME; a loop ends."""
    replace_records(
        server, "example.com",
        [Record("x.example.com.", "CNAME", "y.example.com."),
         Record("y.example.com.", "TXT", '"there"'),
         Record("loop.example.com.", "CNAME", "loop.example.com.")],
        KEY,
    )  # fmt: skip

    assert ask(server).txt("x.example.com").values == ("there",)
    with pytest.raises(Unavailable, match="aliases"):
        ask(server).txt("loop.example.com")


def test_update_replaces_and_repeats(server: Nameserver) -> None:
    """Writing again replaces; an alias gives way to a TXT and the other way round."""
    for value in ("old", "new"):
        replace_records(server, "example.com", [Record("a.example.com.", "TXT", f'"{value}"')], KEY)
    assert ask(server).txt("a.example.com").values == ("new",)

    replace_records(
        server, "example.com", [Record("a.example.com.", "CNAME", "b.example.com.")], KEY
    )
    assert ask(server).cname("a.example.com").values == ("b.example.com",)


def test_missing_is_an_answer(server: Nameserver) -> None:
    """No such name is a fact: no values, no error."""
    assert ask(server).txt("nothing.example.com").values == ()


def test_wrong_key_and_wrong_zone_are_refused(server: Nameserver) -> None:
    """The server's refusal names the key or the zone; the secret is in no message."""
    wrong = TSIGKey("key", "hmac-sha256", b"another secret of 32 octets here")
    record = [Record("a.example.com.", "TXT", '"x"')]

    with pytest.raises(Refused, match="TSIG key 'key'") as refusal:
        replace_records(server, "example.com", record, wrong)
    assert "another" not in str(refusal.value)
    with pytest.raises(Refused, match="NOTZONE"):
        replace_records(server, "example.net", [Record("a.example.net.", "TXT", '"x"')], KEY)


def test_server_failure_is_no_answer() -> None:
    """SERVFAIL and silence are errors, not absence (never permission)."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    listener.bind(("127.0.0.1", 0))

    def fail() -> None:
        data, peer = listener.recvfrom(4096)
        response = dns.message.make_response(dns.message.from_wire(data))
        response.set_rcode(dns.rcode.SERVFAIL)
        listener.sendto(response.to_wire(), peer)

    thread = threading.Thread(target=fail)
    thread.start()
    where = Nameserver("127.0.0.1", listener.getsockname()[1])
    with pytest.raises(Unavailable, match="SERVFAIL"):
        ask(where).txt("a.example.com")
    thread.join()
    with pytest.raises(Unavailable, match="no resolver answers"):
        ask(where, 0.2).txt("a.example.com")
    listener.close()


def test_second_resolver_is_asked_when_the_first_is_silent(server: Nameserver) -> None:
    """One resolver that does not answer is no outage."""
    replace_records(server, "example.com", [Record("a.example.com.", "TXT", '"x"')], KEY)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        both = (Nameserver("127.0.0.1", silent.getsockname()[1]), server)
        assert NetworkResolver(both, 0.3).txt("a.example.com").values == ("x",)


@pytest.mark.parametrize(
    ("text", "address", "port"),
    [
        ("192.0.2.1", "192.0.2.1", 53),
        ("192.0.2.1:5353", "192.0.2.1", 5353),
        ("[2001:db8::1]:5353", "2001:db8::1", 5353),
        ("2001:db8::1", "2001:db8::1", 53),
    ],
)
def test_nameserver_syntax(text: str, address: str, port: int) -> None:
    """Addresses with and without a port, of both families."""
    assert Nameserver.parse(text) == Nameserver(address, port)


@pytest.mark.parametrize("text", ["dns.example", "192.0.2.1:x", "192.0.2.1:0", "", "[::1"])
def test_nameserver_mistakes(text: str) -> None:
    """Names and impossible ports are refused."""
    with pytest.raises(BadInput):
        Nameserver.parse(text)


def test_tsig_key_syntax() -> None:
    """The form that nsupdate -y takes; mistakes do not repeat the secret."""
    text = "hmac-sha256:key:" + base64.b64encode(SECRET).decode()

    assert TSIGKey.parse(text) == KEY
    assert "0123" not in repr(KEY)
    for wrong in ("key:c2VjcmV0", "md5:key:c2VjcmV0", "hmac-sha256:key:%%%"):
        with pytest.raises(BadInput) as refusal:
            TSIGKey.parse(wrong)
        assert "c2VjcmV0" not in str(refusal.value)
