"""A profile, an authority and a kind of key, compiled into a certificate with holes.

What never changes between two certificates is encoded once. A hole is a complete TLV: serial,
validity, subject, SPKI, SAN, SKI, cRLDistributionPoints (one per shard) and nameConstraints.
A `Layout` belongs to one tuple of hole lengths and holds the constant segments with all
length octets in them, so that filling it is one join. `reference` has pyca's
`CertificateBuilder` write the same certificate; a property test and the rehearsal of
`authority.prepare` hold the two against each other byte for byte. Nothing here is checked
against the approval's meaning: that is what `lint` is for.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import cast

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from certmint.issuance import asn1, extensions
from certmint.model import der
from certmint.model.constraints import IPNetwork, NameConstraints
from certmint.model.entities import Authority
from certmint.model.keys import KeyKind, PrivateKey
from certmint.model.names import DNSName, Name
from certmint.model.profile import Profile, Purpose
from certmint.model.request import CertificateRequest
from certmint.model.serial import Serial, serial_number
from certmint.policy.approval import Approval

_VERSION_3 = bytes.fromhex("a003020102")
_EXTENSIONS = 0xA3  # [3] EXPLICIT
_SUBJECT_KEY_IDENTIFIER = bytes.fromhex("301d0603551d0e04160414")  # before its twenty octets
_TWENTY_OCTETS = bytes((der.INTEGER, 20))
_DNS_NAME, _IP_ADDRESS, _DIRECTORY_NAME = 0x82, 0x87, 0xA4
_SUBJECT_ALT_NAME, _NAME_CONSTRAINTS = "2.5.29.17", "2.5.29.30"

Holes = tuple[bytes, bytes, bytes, bytes, bytes, bytes, bytes, bytes]
"""serial, validity, subject, SPKI, SAN, SKI, cRLDistributionPoints, nameConstraints."""


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """The constant segments of every certificate whose holes have the same lengths."""

    head: bytes  # TBSCertificate's header and version
    issuer: bytes  # signature algorithm and issuer
    usage: bytes  # the headers of the extensions, and those before the SAN
    authority_key: bytes
    access: bytes  # authorityInfoAccess

    def fill(self, holes: Holes) -> bytes:
        """The TBSCertificate in DER."""
        serial, validity, subject, spki, names, subject_key, point, constraints = holes
        return b"".join(
            (
                self.head, serial, self.issuer, validity, subject, spki, self.usage, names,
                self.authority_key, subject_key, point, self.access, constraints,
            )
        )  # fmt: skip


class Template:
    """One profile as one authority issues it to one kind of key. Make it by `compile_template`."""

    def __init__(self, profile: Profile, authority: Authority, kind: KeyKind) -> None:
        self.profile = profile
        self.kind = kind
        self._authority = authority
        self._is_root = profile.purpose is Purpose.ROOT
        self._has_subject_key = extensions.has_subject_key_identifier(profile)
        self._has_constraints = profile.purpose is Purpose.SUBORDINATE
        self._issuer = asn1.SIGNATURE_ALGORITHM[authority.key.kind] + authority.subject.der()
        self._usage = b"".join(map(extensions.encoded, extensions.usage(profile, kind)))
        self._authority_key = extensions.encoded(extensions.authority_key(authority))
        self._access, self._points = b"", [b""] * authority.crl_shards
        if not self._is_root:
            self._access = extensions.encoded(extensions.information_access(profile, authority))
            self._points = [
                extensions.encoded(extensions.distribution_point(authority, shard))
                for shard in range(authority.crl_shards)
            ]
        self._layouts: dict[tuple[int, ...], Layout] = {}

    def fill(self, approval: Approval, serial: Serial, shard: int) -> bytes:
        """The TBSCertificate in DER."""
        holes = self.holes(approval, serial, shard)
        return self.layout(holes).fill(holes)

    def holes(self, approval: Approval, serial: Serial, shard: int) -> Holes:
        """What this certificate puts into the holes."""
        request = approval.request
        key = request.public_key
        constraints = b""
        if self._has_constraints and request.constraints is not None:
            constraints = _constraints(request.constraints)
        return (
            _serial(serial),
            asn1.validity(approval.not_before, approval.not_after),
            request.subject.der(),
            key.spki,
            _names(request, critical=not request.subject.attributes),
            _SUBJECT_KEY_IDENTIFIER + key.key_id if self._has_subject_key else b"",
            self._points[shard],
            constraints,
        )

    def layout(self, holes: Holes) -> Layout:
        """The layout for holes of these lengths; the same lengths give the same object."""
        lengths = tuple(map(len, holes))
        found = self._layouts.get(lengths)
        if found is None:
            found = self._layouts[lengths] = self._lay_out(lengths)
        return found

    def reference(self, approval: Approval, serial: Serial, shard: int) -> bytes:
        """The TBSCertificate as pyca's builder writes it."""
        return self.rehearse(approval, serial, shard).tbs_certificate_bytes

    def rehearse(self, approval: Approval, serial: Serial, shard: int) -> x509.Certificate:
        """The certificate by pyca's builder, signed with a throw-away key (BR 4.3.1.2)."""
        request, kind = approval.request, self._authority.key.kind
        builder = (
            x509.CertificateBuilder()
            .serial_number(serial_number(serial))
            .issuer_name(self._authority.subject.to_x509())
            .not_valid_before(approval.not_before.replace(microsecond=0))
            .not_valid_after(approval.not_after.replace(microsecond=0))
            .subject_name(request.subject.to_x509())
            .public_key(_load(request.public_key.spki))
        )
        for value, critical in extensions.in_order(self.profile, self._authority, approval, shard):
            builder = builder.add_extension(value, critical)
        return builder.sign(throw_away_key(kind), asn1.digest(kind))

    def _lay_out(self, lengths: tuple[int, ...]) -> Layout:
        serial, validity, subject, spki, *extension_holes = lengths
        constant = self._usage + self._authority_key + self._access
        size = len(constant) + sum(extension_holes)
        inner = asn1.header(der.SEQUENCE, size)
        outer = asn1.header(_EXTENSIONS, len(inner) + size)
        total = len(_VERSION_3) + serial + len(self._issuer) + validity + subject + spki
        total += len(outer) + len(inner) + size
        head = asn1.header(der.SEQUENCE, total) + _VERSION_3
        usage = outer + inner + self._usage
        return Layout(head, self._issuer, usage, self._authority_key, self._access)


def compile_template(profile: Profile, authority: Authority, kind: KeyKind) -> Template:
    """The template for certificates of `profile` that `authority` issues to keys of `kind`."""
    return Template(profile, authority, kind)


@lru_cache(maxsize=8)
def throw_away_key(kind: KeyKind) -> PrivateKey:
    """A key that signs rehearsals in the place of a CA key of this kind, and nothing else.

    It is made once a process and never leaves it. For RSA 2048 bits will do: the signature
    algorithm is the same for every size.
    """
    if kind.is_ec:
        return ec.generate_private_key(asn1.curve(kind))
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def _load(spki: bytes) -> ec.EllipticCurvePublicKey | rsa.RSAPublicKey:
    # A PublicKey exists only for these two kinds.
    return cast(
        "ec.EllipticCurvePublicKey | rsa.RSAPublicKey", serialization.load_der_public_key(spki)
    )


def _serial(serial: Serial) -> bytes:
    if "01" <= serial[:2] < "80":  # twenty octets without a leading zero: every serial of ours
        return _TWENTY_OCTETS + bytes.fromhex(serial)
    return der.integer(serial_number(serial))


def _names(request: CertificateRequest, *, critical: bool) -> bytes:
    general = b"".join([_general_name(name) for name in request.names])
    if request.hardware:
        general += b"".join([name.other_name for name in request.hardware])
    if not general:
        return b""
    return _names_head(len(general), critical) + general


def _general_name(name: Name) -> bytes:
    if isinstance(name, DNSName):
        value = name.value.encode()
        return asn1.header(_DNS_NAME, len(value)) + value
    return der.tlv(_IP_ADDRESS, name.packed)


@lru_cache(maxsize=4096)
def _names_head(size: int, critical: bool) -> bytes:
    """The subjectAltName extension up to its general names, which have `size` octets."""
    general = bytes(size)
    whole = asn1.extension(_SUBJECT_ALT_NAME, der.tlv(der.SEQUENCE, general), critical=critical)
    return whole[: len(whole) - size]


def _constraints(constraints: NameConstraints) -> bytes:
    permitted = _dns_trees(constraints.permitted_dns) + _ip_trees(constraints.permitted_ip)
    permitted += [der.tlv(_DIRECTORY_NAME, dn.der()) for dn in constraints.permitted_directory]
    excluded = _dns_trees(constraints.excluded_dns) + _ip_trees(constraints.excluded_ip)
    value = der.sequence(_subtrees(0, permitted), _subtrees(1, excluded))
    return asn1.extension(_NAME_CONSTRAINTS, value, critical=constraints.critical)


def _subtrees(tag: int, bases: list[bytes]) -> bytes:
    # minimum is 0 by default and maximum must be absent (RFC 5280 4.2.1.10).
    return der.explicit(tag, b"".join(map(der.sequence, bases))) if bases else b""


def _dns_trees(trees: tuple[str, ...]) -> list[bytes]:
    return [der.tlv(_DNS_NAME, tree.encode()) for tree in trees]


def _ip_trees(networks: tuple[IPNetwork, ...]) -> list[bytes]:
    return [
        der.tlv(_IP_ADDRESS, network.network_address.packed + network.netmask.packed)
        for network in networks
    ]
