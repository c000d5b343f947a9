"""Writing records to an authoritative server: RFC 2136 updates, signed with TSIG (RFC 8945)."""

import binascii
from collections.abc import Sequence
from dataclasses import dataclass, field

import dns.exception
import dns.name
import dns.query
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.tsig
import dns.tsigkeyring
import dns.update

from certmint.model.errors import BadInput, Refused, Unavailable
from certmint.validation.dns import TIMEOUT_S, Nameserver

_ALGORITHMS = {"hmac-sha256": dns.tsig.HMAC_SHA256, "hmac-sha512": dns.tsig.HMAC_SHA512}


@dataclass(frozen=True)
class Record:
    """One resource record in presentation form: `router.example.com.`, `A`, `192.168.1.1`."""

    name: str
    kind: str
    value: str
    ttl: int = 300

    def __str__(self) -> str:
        return f"{self.name} {self.ttl} IN {self.kind} {self.value}"


@dataclass(frozen=True)
class TSIGKey:
    """A shared key of the authoritative server."""

    name: str
    algorithm: str
    secret: bytes = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> "TSIGKey":
        """From `algorithm:name:base64`, the form that `nsupdate -y` and `knsupdate -y` take.

        Raises BadInput `tsig-syntax`; the text itself is never in the message.
        """
        parts = text.strip().split(":")
        if len(parts) != 3 or parts[0].lower() not in _ALGORITHMS:
            raise BadInput(
                "tsig-syntax", "the TSIG key is not 'hmac-sha256:NAME:BASE64' (or hmac-sha512)"
            )
        try:
            secret = binascii.a2b_base64(parts[2], strict_mode=True)
        except binascii.Error:
            raise BadInput("tsig-syntax", "the TSIG key's secret is not base64") from None
        return cls(parts[1], parts[0].lower(), secret)


def replace_records(server: Nameserver, zone: str, records: Sequence[Record], key: TSIGKey) -> None:
    """Make `records` the only ones of their name and type, in one atomic update.

    An alias replaces everything at its name, and is replaced by anything else there.

    Raises Refused `dns-update-refused` when the server says no, Unavailable `dns-failed` when it
    does not answer.
    """
    keyring = dns.tsigkeyring.from_text({})
    keyring[dns.name.from_text(key.name)] = dns.tsig.Key(
        key.name, key.secret, _ALGORITHMS[key.algorithm]
    )
    update = dns.update.UpdateMessage(zone, keyring=keyring)
    for name, kind in sorted({(record.name, record.kind) for record in records}):
        owner = dns.name.from_text(name)
        if kind == "CNAME":
            update.delete(owner)  # an alias stands alone at its name (RFC 1034 3.6.2)
        else:
            update.delete(owner, "CNAME")
            update.delete(owner, kind)
    for record in records:
        data = dns.rdata.from_text(
            dns.rdataclass.IN, dns.rdatatype.from_text(record.kind), record.value
        )
        update.add(dns.name.from_text(record.name), record.ttl, data)
    try:
        response = dns.query.tcp(update, server.address, port=server.port, timeout=TIMEOUT_S)
    except (dns.tsig.PeerError, dns.tsig.BadSignature) as error:
        raise Refused(
            "dns-update-refused", f"{server} rejects TSIG key {key.name!r} ({type(error).__name__})"
        ) from None
    except (dns.exception.DNSException, OSError) as error:
        raise Unavailable("dns-failed", f"{server} does not answer the update: {error}") from None
    if response.rcode() != dns.rcode.NOERROR:
        raise Refused(
            "dns-update-refused",
            f"{server} refuses the update of zone {zone}: {dns.rcode.to_text(response.rcode())}",
        )
