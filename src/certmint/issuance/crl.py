"""Certificate revocation lists (RFC 5280, 5), in DER by hand: 100,000 entries in a blink.

A CRL is version 2 with authorityKeyIdentifier and cRLNumber. An authority with more than one
shard adds a critical issuingDistributionPoint whose URL is, byte for byte, that of the shard's
certificates (BR 7.2.2.1), so that no shard can be passed off as another. An authority with one
shard has a complete CRL and leaves it out: then `openssl verify -crl_check_all` accepts that
CRL for the root itself too, which has no cRLDistributionPoints to match. Which serials are
revoked, and which number comes next, is the registry's knowledge.
"""

import datetime as dt
from collections.abc import Iterable

from cryptography import x509

from certmint.issuance import asn1, extensions
from certmint.issuance.authority import SigningAuthority
from certmint.model import der
from certmint.model.entities import Authority, RevocationReason
from certmint.model.errors import BadInput
from certmint.model.serial import Serial, serial_number

Entry = tuple[Serial, dt.datetime, RevocationReason]

REASON_CODE = {
    RevocationReason.KEY_COMPROMISE: 1,
    RevocationReason.CA_COMPROMISE: 2,
    RevocationReason.AFFILIATION_CHANGED: 3,
    RevocationReason.SUPERSEDED: 4,
    RevocationReason.CESSATION_OF_OPERATION: 5,
    RevocationReason.PRIVILEGE_WITHDRAWN: 9,
}
"""CRLReason (RFC 5280 5.3.1). `unspecified` is said by leaving the reason out (BR 7.2.2)."""

_VERSION_2 = der.integer(1)
_REASON_OID = "2.5.29.21"


def build_crl(
    signing: SigningAuthority,
    entries: Iterable[Entry],
    shard: int,
    number: int,
    this_update: dt.datetime,
    next_update: dt.datetime,
) -> bytes:
    """A signed CRL in DER, its signature verified.

    Raises BadInput `crl-syntax` for a number, a shard or a period that no CRL can have,
    Unavailable `key-store` or `signature-invalid` from the key.
    """
    authority = signing.authority
    if not 0 <= shard < authority.crl_shards:
        raise BadInput("crl-syntax", f"authority {authority.name!r} has no CRL shard {shard}")
    if not 0 <= number < 1 << 159 or next_update <= this_update:
        raise BadInput("crl-syntax", f"CRL number {number} or its nextUpdate is out of range")
    revoked = b"".join(_entries(entries))
    content = der.sequence(
        _VERSION_2,
        asn1.SIGNATURE_ALGORITHM[authority.key.kind],
        authority.subject.der(),
        asn1.time(this_update),
        asn1.time(next_update),
        der.tlv(der.SEQUENCE, revoked) if revoked else b"",  # absent when empty: 5.1.2.6
        der.explicit(0, der.tlv(der.SEQUENCE, _extensions(authority, shard, number))),
    )
    return signing.seal(content)


def _entries(entries: Iterable[Entry]) -> Iterable[bytes]:
    suffixes = {RevocationReason.UNSPECIFIED: b""}
    for reason, code in REASON_CODE.items():
        enumerated = der.tlv(0x0A, bytes((code,)))
        suffixes[reason] = der.sequence(asn1.extension(_REASON_OID, enumerated, critical=False))
    for serial, revoked_at, reason in entries:
        yield der.tlv(
            der.SEQUENCE,
            der.integer(serial_number(serial)) + asn1.time(revoked_at) + suffixes[reason],
        )


def _extensions(authority: Authority, shard: int, number: int) -> bytes:
    found = extensions.encoded(extensions.authority_key(authority))
    found += extensions.encoded((x509.CRLNumber(number), False))
    if authority.crl_shards > 1:
        point = x509.IssuingDistributionPoint(
            [x509.UniformResourceIdentifier(authority.crl_url(shard))],
            relative_name=None,
            only_contains_user_certs=False,
            only_contains_ca_certs=False,
            only_some_reasons=None,
            indirect_crl=False,
            only_contains_attribute_certs=False,
        )
        found += extensions.encoded((point, True))
    return found
