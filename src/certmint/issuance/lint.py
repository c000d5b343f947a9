"""A second look at the bytes: is this TBSCertificate what was approved?

Policy judges the wish, lint judges the result. Nothing is imported from policy's rules, from
`template` or from `extensions`: what a certificate must look like is written down here a second
time, read back out of the DER by pyca. An empty list means that nothing was found. Lint neither
decides who may have a certificate nor checks signatures (there is none yet).
"""

import datetime as dt
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import AuthorityInformationAccessOID as Access
from cryptography.x509.oid import ExtensionOID as Oid

from certmint.model import der
from certmint.model.keys import KeyKind
from certmint.model.names import DNSName
from certmint.model.profile import Purpose, Trust
from certmint.policy.approval import Approval


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong: a stable code and one sentence."""

    code: str
    detail: str


@dataclass(frozen=True, slots=True, eq=False)
class _View:
    """The certificate as parsed, beside what was approved and who issues it."""

    tbs: bytes
    certificate: x509.Certificate
    extensions: dict[x509.ObjectIdentifier, x509.Extension[x509.ExtensionType]]
    approval: Approval
    issuer: "_Issuer | None"

    def value(self, oid: x509.ObjectIdentifier) -> x509.ExtensionType | None:
        found = self.extensions.get(oid)
        return None if found is None else found.value

    @property
    def purpose(self) -> Purpose:
        return self.approval.request.profile.purpose

    @property
    def is_public(self) -> bool:
        return self.approval.request.profile.trust is Trust.PUBLIC


@dataclass(frozen=True, slots=True)
class _Issuer:
    """What lint needs of the issuing CA's certificate."""

    subject: bytes
    spki: bytes
    key_id: bytes
    path_length: int | None
    not_after: dt.datetime


_Found = Iterator[Finding]


def lint(tbs: bytes, approval: Approval, issuer: bytes | None) -> list[Finding]:
    """What is wrong with `tbs`; `issuer` is the issuing CA's certificate, None for a root."""
    try:
        view = _read(tbs, approval, issuer)
    except (ValueError, x509.DuplicateExtension) as error:
        return [Finding("syntax", f"the bytes are no X.509 certificate: {error}")]
    return [finding for check in _CHECKS for finding in check(view)]


def _read(tbs: bytes, approval: Approval, issuer: bytes | None) -> _View:
    # A signature is missing, so any will do for parsing (BR 4.3.1.2).
    algorithm = der.children(tbs)[2]
    wrapped = der.sequence(tbs, algorithm, der.bit_string(bytes(8)))
    certificate = x509.load_der_x509_certificate(wrapped)
    found = {extension.oid: extension for extension in certificate.extensions}
    certificate.subject, certificate.issuer, certificate.serial_number  # noqa: B018 parsed lazily
    return _View(tbs, certificate, found, approval, None if issuer is None else _issuer_of(issuer))


@lru_cache(maxsize=64)
def _issuer_of(issuer: bytes) -> _Issuer:
    certificate = x509.load_der_x509_certificate(issuer)
    extensions = certificate.extensions
    return _Issuer(
        certificate.subject.public_bytes(),
        _spki(certificate),
        extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest,
        extensions.get_extension_for_class(x509.BasicConstraints).value.path_length,
        certificate.not_valid_after_utc,
    )


def _version_and_serial(view: _View) -> _Found:
    number = view.certificate.serial_number
    if view.certificate.version is not x509.Version.v3:
        yield Finding("version", "the certificate is not X.509 version 3")
    if not 1 <= number.bit_length() <= 159 or number < 0:
        yield Finding("serial", f"serial {number:x} does not have 1 to 159 bits (RFC 5280 4.1.2.2)")


def _algorithm(view: _View) -> _Found:
    # BR 7.1.3.2: these encodings, byte for byte, and no other pairing of key and hash.
    expected = {
        KeyKind.P256: "300a06082a8648ce3d040302",
        KeyKind.P384: "300a06082a8648ce3d040303",
    }.get(view.approval.authority.key.kind, "300d06092a864886f70d01010b0500")
    if der.children(view.tbs)[2].hex() != expected:
        yield Finding("signature-algorithm", "the algorithm does not belong to the issuer's key")


def _validity(view: _View) -> _Found:
    certificate, approval, profile = view.certificate, view.approval, view.approval.request.profile
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if (begin, end) != (approval.not_before, approval.not_after):
        yield Finding("validity", f"{begin} to {end} is not the validity that was approved")
    if begin > end:
        yield Finding("validity", f"notAfter {end} is before notBefore {begin}")
    # Both ends belong to the period (RFC 5280 4.1.2.5; BR 6.3.2), hence one second more.
    length = end - begin + dt.timedelta(seconds=1)
    if profile.lifetime is not None and length > profile.lifetime:
        yield Finding("lifetime", f"{begin} to {end} is longer than {profile.lifetime}")
    if view.issuer is not None and end > view.issuer.not_after:
        yield Finding("lifetime", f"notAfter {end} is later than the issuer's own notAfter")


def _subject(view: _View) -> _Found:
    request = view.approval.request
    subject = view.certificate.subject
    if subject.public_bytes() != request.subject.der():
        yield Finding("subject", "the subject is not the one that was approved")
    if view.is_public and len(subject):
        yield Finding("subject", "a public domain-validated leaf has an empty subject (ours)")
    if view.purpose is Purpose.IDENTITY and not subject.get_attributes_for_oid(
        x509.NameOID.SERIAL_NUMBER
    ):
        yield Finding("subject", "an identity's subject has a serialNumber (IEEE 802.1AR 8.6)")


def _issuer(view: _View) -> _Found:
    issuer = view.certificate.issuer.public_bytes()
    if issuer != view.approval.authority.subject.der():
        yield Finding("issuer", "the issuer is not the authority's subject")
    if view.purpose is Purpose.ROOT:
        if issuer != view.certificate.subject.public_bytes():
            yield Finding("issuer", "a root is issued by itself")
    elif view.issuer is None:
        yield Finding("issuer", "the authority has no certificate of its own yet")
    elif view.issuer.subject != issuer:
        yield Finding("issuer", "the issuer is not the subject of the authority's certificate")
    elif view.issuer.spki != view.approval.authority.key.spki:
        yield Finding("issuer", "the authority's certificate is for another key")


def _key(view: _View) -> _Found:
    spki = _spki(view.certificate)
    approved = view.approval.request.public_key
    if spki != approved.spki or approved.spki not in view.tbs:
        yield Finding("key", "the public key is not the one that was approved")
    if view.purpose is Purpose.ROOT and spki != view.approval.authority.key.spki:
        yield Finding("key", "a root carries the key that signs it")


def _names(view: _View) -> _Found:
    request = view.approval.request
    value = view.value(Oid.SUBJECT_ALTERNATIVE_NAME)
    found: list[str] = []
    if isinstance(value, x509.SubjectAlternativeName):
        known = x509.DNSName | x509.IPAddress | x509.OtherName
        if not list(value) or not all(isinstance(n, known) for n in value):
            yield Finding("names", "the SAN holds something else than names, addresses, hardware")
        found = [_said(n) for n in value]
    wanted = [f"{'DNSName' if isinstance(n, DNSName) else 'IPAddress'}:{n}" for n in request.names]
    wanted += [f"hardware:{each.other_name.hex()}" for each in request.hardware]
    if sorted(found) != sorted(wanted):
        yield Finding("names", f"the SAN has {found}, approved was {wanted}")
    if view.purpose is Purpose.SERVICE:
        if not found:
            yield Finding("names", "a service certificate without a SAN")
        common = [a.value for a in view.certificate.subject if a.oid == x509.NameOID.COMMON_NAME]
        if any(str(name) not in {n.partition(":")[2] for n in found} for name in common):
            yield Finding("names", f"common name {common} is not in the SAN (openssl#30346)")


def _said(name: x509.GeneralName) -> str:
    if isinstance(name, x509.OtherName):
        kind = der.oid(name.type_id.dotted_string)
        return f"hardware:{der.explicit(0, kind + der.explicit(0, name.value)).hex()}"
    return f"{type(name).__name__}:{name.value}"


def _presence(view: _View) -> _Found:
    profile, purpose = view.approval.request.profile, view.purpose
    subject_is_empty = not len(view.certificate.subject)
    constraints = view.approval.request.constraints
    expected = {
        Oid.BASIC_CONSTRAINTS: True,
        Oid.KEY_USAGE: True,
        Oid.AUTHORITY_KEY_IDENTIFIER: False,
    }
    if profile.extended_key_usage:
        expected[Oid.EXTENDED_KEY_USAGE] = False
    if profile.policies:
        expected[Oid.CERTIFICATE_POLICIES] = False
    if view.approval.request.names or view.approval.request.hardware:
        expected[Oid.SUBJECT_ALTERNATIVE_NAME] = subject_is_empty
    if not view.is_public:
        expected[Oid.SUBJECT_KEY_IDENTIFIER] = False
    if purpose is not Purpose.ROOT:
        expected |= {Oid.CRL_DISTRIBUTION_POINTS: False, Oid.AUTHORITY_INFORMATION_ACCESS: False}
    if purpose is Purpose.SUBORDINATE:
        expected[Oid.NAME_CONSTRAINTS] = constraints is not None and constraints.critical
    found = {oid: extension.critical for oid, extension in view.extensions.items()}
    for oid in expected.keys() | found.keys():
        if oid not in found:
            yield Finding("extension-missing", f"extension {oid.dotted_string} is missing")
        elif oid not in expected:
            yield Finding("extension-unexpected", f"extension {oid.dotted_string} is unexpected")
        elif found[oid] != expected[oid]:
            yield Finding("criticality", f"extension {oid.dotted_string}: critical={found[oid]}")


def _basic_constraints(view: _View) -> _Found:
    value = view.value(Oid.BASIC_CONSTRAINTS)
    is_ca = view.purpose in (Purpose.ROOT, Purpose.ISSUING, Purpose.SUBORDINATE)
    length = view.approval.request.profile.path_length if is_ca else None
    if value != x509.BasicConstraints(ca=is_ca, path_length=length):
        yield Finding("basic-constraints", f"cA and path length must be {is_ca}, {length}")
    if is_ca and view.issuer is not None and view.issuer.path_length == 0:
        yield Finding("path-length", "the issuer's path length leaves no room for a CA below")


def _key_usage(view: _View) -> _Found:
    value = view.value(Oid.KEY_USAGE)
    if not isinstance(value, x509.KeyUsage):
        return
    ec = view.approval.request.public_key.kind.is_ec
    wanted = {
        Purpose.ROOT: "digital_signature key_cert_sign crl_sign",
        Purpose.ISSUING: "digital_signature key_cert_sign crl_sign",
        Purpose.SUBORDINATE: "digital_signature key_cert_sign crl_sign",
        Purpose.IDENTITY: f"digital_signature {'key_agreement' if ec else 'key_encipherment'}",
        Purpose.SERVICE: "digital_signature"
        + ("" if ec or view.is_public else " key_encipherment"),
        Purpose.SIGNER: "digital_signature content_commitment",
    }[view.purpose]
    bits = (
        "digital_signature", "content_commitment", "key_encipherment", "data_encipherment",
        "key_agreement", "key_cert_sign", "crl_sign",
    )  # fmt: skip
    found = {bit for bit in bits if getattr(value, bit)}
    if found != set(wanted.split()):
        yield Finding("key-usage", f"keyUsage is {sorted(found)}, expected {wanted}")
    if value.key_agreement and (value.encipher_only or value.decipher_only):
        yield Finding("key-usage", "keyUsage restricts key agreement to one direction")


def _usage_and_policies(view: _View) -> _Found:
    profile = view.approval.request.profile
    usages = view.value(Oid.EXTENDED_KEY_USAGE)
    if isinstance(usages, x509.ExtendedKeyUsage):
        found = tuple(oid.dotted_string for oid in usages)
        if found != profile.extended_key_usage:
            yield Finding("extended-key-usage", f"extendedKeyUsage is {found}")
    policies = view.value(Oid.CERTIFICATE_POLICIES)
    if isinstance(policies, x509.CertificatePolicies):
        named = tuple(policy.policy_identifier.dotted_string for policy in policies)
        if named != profile.policies or any(policy.policy_qualifiers for policy in policies):
            yield Finding("policies", f"certificatePolicies is {named}")


def _key_identifiers(view: _View) -> _Found:
    authority = view.value(Oid.AUTHORITY_KEY_IDENTIFIER)
    own = view.value(Oid.SUBJECT_KEY_IDENTIFIER)
    key_id = view.approval.request.public_key.key_id
    if isinstance(own, x509.SubjectKeyIdentifier) and own.digest != key_id:
        yield Finding("subject-key-identifier", "the SKI is not that of the approved key")
    if not isinstance(authority, x509.AuthorityKeyIdentifier):
        return
    if authority.authority_cert_issuer or authority.authority_cert_serial_number is not None:
        yield Finding("authority-key-identifier", "the AKI holds more than a keyIdentifier")
    expected = view.issuer.key_id if view.issuer is not None else key_id  # a root's is its own
    if authority.key_identifier != expected:
        yield Finding("authority-key-identifier", "the AKI is not the issuer's SKI")


def _urls(view: _View) -> _Found:
    authority = view.approval.authority
    points = view.value(Oid.CRL_DISTRIBUTION_POINTS)
    if isinstance(points, x509.CRLDistributionPoints):
        urls = [name.value for point in points for name in point.full_name or ()]
        extra = any(p.relative_name or p.reasons or p.crl_issuer for p in points)
        shards = [authority.crl_url(shard) for shard in range(authority.crl_shards)]
        if len(urls) != 1 or urls[0] not in shards or extra or not _all_http(urls):
            yield Finding("distribution-point", f"{urls} is none of the authority's CRL shards")
    access = view.value(Oid.AUTHORITY_INFORMATION_ACCESS)
    if isinstance(access, x509.AuthorityInformationAccess):
        found = [(each.access_method, each.access_location.value) for each in access]
        wanted = [(Access.CA_ISSUERS, authority.issuer_url)]
        if not view.is_public:
            wanted.insert(0, (Access.OCSP, authority.ocsp_url))
        if found != wanted or not _all_http([url for _, url in found]):
            yield Finding("information-access", "authorityInfoAccess is not the authority's")


def _all_http(urls: list[str]) -> bool:
    # BR 7.1.2.11.2: status is fetched before TLS can be trusted.
    return all(url.startswith("http://") for url in urls)


def _constraints(view: _View) -> _Found:
    value = view.value(Oid.NAME_CONSTRAINTS)
    wanted = view.approval.request.constraints
    if wanted is None:
        if value is not None:
            yield Finding("name-constraints", "nobody approved these name constraints")
        return
    if not isinstance(value, x509.NameConstraints):
        yield Finding("name-constraints", "the approved name constraints are missing")
        return
    permitted = [*wanted.permitted_dns, *map(str, wanted.permitted_ip)]
    permitted += [dn.der().hex() for dn in wanted.permitted_directory]
    excluded = [*wanted.excluded_dns, *map(str, wanted.excluded_ip)]
    if _trees(value.permitted_subtrees) != permitted or _trees(value.excluded_subtrees) != excluded:
        yield Finding("name-constraints", "the name constraints are not the ones approved")


def _trees(subtrees: list[x509.GeneralName] | None) -> list[str]:
    return [
        tree.value.public_bytes().hex() if isinstance(tree, x509.DirectoryName) else str(tree.value)
        for tree in subtrees or []
    ]


def _spki(certificate: x509.Certificate) -> bytes:
    return certificate.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


_CHECKS: tuple[Callable[[_View], _Found], ...] = (
    _version_and_serial, _algorithm, _validity, _subject, _issuer, _key, _names, _presence,
    _basic_constraints, _key_usage, _usage_and_policies, _key_identifiers, _urls, _constraints,
)  # fmt: skip
