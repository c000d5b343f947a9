"""The maker's DNS as it is in earnest: Knot signs example.com, and Unbound validates it.

Knot takes RFC 2136 updates under one TSIG key. Unbound trusts the zone by its DS record and keeps
no answer, so that a record is seen the moment it is published.
"""

import base64
import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dns.dnssec
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdatatype

from .processes import free_port, running

ZONE = "example.com"
KEY_NAME = "maker-key"

_KNOT = """\
server:
  rundir: {folder}
  listen: 127.0.0.1@{port}
database:
  storage: {folder}
log:
  - target: stderr
    any: info
key:
  - id: {key}
    algorithm: hmac-sha256
    secret: {secret}
acl:
  - id: updates
    action: update
    key: {key}
policy:
  - id: signed
    single-type-signing: on
zone:
  - domain: {zone}
    storage: {folder}
    file: {zone}.zone
    acl: updates
    dnssec-signing: on
    dnssec-policy: signed
    zonefile-sync: -1
    zonefile-load: difference-no-serial
    journal-content: all
"""
_ZONE_FILE = """\
$ORIGIN example.com.
@ 300 IN SOA ns hostmaster 1 3600 600 86400 300
@ 300 IN NS ns
ns 300 IN A 127.0.0.1
"""
_UNBOUND = """\
server:
  directory: "{folder}"
  chroot: ""
  username: ""
  pidfile: ""
  use-syslog: no
  interface: 127.0.0.1
  port: {port}
  do-not-query-localhost: no
  cache-max-ttl: 0
  cache-max-negative-ttl: 0
  aggressive-nsec: no
  trust-anchor: "{anchor}"
remote-control:
  control-enable: no
stub-zone:
  name: "{zone}"
  stub-addr: 127.0.0.1@{authoritative}
"""


@dataclass(frozen=True)
class Answer:
    """What a server says of a name: the response code, the addresses, and the AD flag."""

    rcode: str
    values: list[str]
    authenticated: bool


@dataclass(frozen=True)
class Knot:
    """The authoritative server: its port, its TSIG key file, and the DS record of its zone."""

    port: int
    tsig_file: Path
    ds: str

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"


@contextlib.contextmanager
def knot(knotd: str, folder: Path) -> Iterator[Knot]:
    """Knot as primary of a signed example.com."""
    port = free_port()
    secret = base64.b64encode(os.urandom(32)).decode()
    config = folder / "knot.conf"
    config.write_text(
        _KNOT.format(folder=folder, port=port, key=KEY_NAME, secret=secret, zone=ZONE)
    )
    (folder / f"{ZONE}.zone").write_text(_ZONE_FILE)
    tsig = write_tsig(folder / "maker.tsig", KEY_NAME, secret)
    command = [knotd, "-c", str(config)]
    with running(command, lambda: _soa(port) == "NOERROR", folder / "knot.log"):
        yield Knot(port, tsig, _ds(port))


@contextlib.contextmanager
def unbound(program: str, folder: Path, authoritative: int, anchor: str) -> Iterator[int]:
    """A validating resolver that trusts `anchor`, a DS record of example.com; its port."""
    port = free_port()
    config = folder / "unbound.conf"
    config.write_text(
        _UNBOUND.format(
            folder=folder, port=port, anchor=anchor, zone=ZONE, authoritative=authoritative
        )
    )
    command = [program, "-d", "-c", str(config)]
    # With a wrong anchor it answers SERVFAIL, and that is an answer.
    with running(command, lambda: _soa(port) is not None, folder / "unbound.log"):
        yield port


def write_tsig(path: Path, name: str, secret: str) -> Path:
    """A TSIG key file as `certmint domain` reads it."""
    path.touch(0o600)
    path.write_text(f"hmac-sha256:{name}:{secret}\n")
    return path


def ask(port: int, name: str, kind: str) -> Answer:
    """The answer of the server at this port of 127.0.0.1."""
    query = dns.message.make_query(name, kind, want_dnssec=True)
    response, _ = dns.query.udp_with_fallback(query, "127.0.0.1", port=port, timeout=5)
    return Answer(
        dns.rcode.to_text(response.rcode()),
        [str(each) for rrset in response.answer for each in rrset
         if dns.rdatatype.to_text(rrset.rdtype) == kind],
        bool(response.flags & dns.flags.AD),
    )  # fmt: skip


def _ds(port: int) -> str:
    """The DS record that belongs to the zone's key, as its parent would publish it."""
    query = dns.message.make_query(ZONE, "DNSKEY")
    response = dns.query.tcp(query, "127.0.0.1", port=port, timeout=5)
    ((key,),) = response.answer
    return f"{ZONE}. DS {dns.dnssec.make_ds(dns.name.from_text(ZONE), key, 'SHA256')}"


def _soa(port: int) -> str | None:
    """The response code for the zone's SOA record; None while nobody answers."""
    query = dns.message.make_query(ZONE, "SOA")
    try:
        response = dns.query.tcp(query, "127.0.0.1", port=port, timeout=5)
    except (dns.exception.DNSException, OSError):
        return None
    return dns.rcode.to_text(response.rcode())
