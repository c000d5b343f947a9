"""What each kind of certificate carries: its extensions and their order, in one place.

    extension               critical            which certificates
    basicConstraints        yes                 all; a leaf's is cA FALSE, written 3000
    keyUsage                yes                 all; from the purpose and the subject's key
    extendedKeyUsage        no                  those whose profile names one
    certificatePolicies     no                  those whose profile names one
    subjectAltName          iff subject empty   those with names
    authorityKeyIdentifier  no                  all; keyIdentifier only; a root's is its own SKI
    subjectKeyIdentifier    no                  all but public leaves (BR 7.1.2.7.6)
    cRLDistributionPoints   no                  all but roots; the URL of one shard
    authorityInfoAccess     no                  all but roots; OCSP (not public), caIssuers
    nameConstraints         as asked            constrained SubCAs (RFC 5280 says yes, BR may no)

The objects are pyca's: `template` takes the encoding of those that never change from here and
writes the others itself; its reference passes all of them to pyca's builder. This module does
not decide who may have what (policy) and `lint` does not read it.
"""

import ipaddress

from cryptography import x509
from cryptography.x509.oid import AuthorityInformationAccessOID as Access

from certmint.issuance import asn1
from certmint.model import der
from certmint.model.constraints import NameConstraints
from certmint.model.entities import Authority
from certmint.model.hardware import (
    HARDWARE_MODULE_NAME,
    PERMANENT_IDENTIFIER,
    HardwareModuleName,
    HardwareName,
)
from certmint.model.keys import KeyKind, PublicKey
from certmint.model.names import DNSName, Name
from certmint.model.profile import Profile, Purpose, Trust
from certmint.model.request import CertificateRequest
from certmint.policy.approval import Approval

Extension = tuple[x509.ExtensionType, bool]  # and whether it is critical


def in_order(
    profile: Profile, authority: Authority, approval: Approval, shard: int
) -> list[Extension]:
    """Every extension of one certificate, in the order of the table above."""
    request = approval.request
    found = usage(profile, request.public_key.kind)
    if request.names or request.hardware:
        found.append((_alternative_names(request), not request.subject.attributes))
    found.append(authority_key(authority))
    if has_subject_key_identifier(profile):
        found.append(_subject_key(request.public_key))
    if profile.purpose is not Purpose.ROOT:
        found += [distribution_point(authority, shard), information_access(profile, authority)]
    if profile.purpose is Purpose.SUBORDINATE and request.constraints is not None:
        found.append((_name_constraints(request.constraints), request.constraints.critical))
    return found


def usage(profile: Profile, kind: KeyKind) -> list[Extension]:
    """basicConstraints to certificatePolicies: what follows from the profile and the key kind."""
    is_ca = profile.purpose.is_authority
    found: list[Extension] = [
        (x509.BasicConstraints(ca=is_ca, path_length=profile.path_length if is_ca else None), True),
        (_key_usage(profile, kind), True),
    ]
    if profile.extended_key_usage:
        oids = [x509.ObjectIdentifier(oid) for oid in profile.extended_key_usage]
        found.append((x509.ExtendedKeyUsage(oids), False))
    if profile.policies:
        policies = [
            x509.PolicyInformation(x509.ObjectIdentifier(p), None) for p in profile.policies
        ]
        found.append((x509.CertificatePolicies(policies), False))
    return found


def authority_key(authority: Authority) -> Extension:
    """authorityKeyIdentifier: keyIdentifier only (BR 7.1.2.11.1)."""
    return x509.AuthorityKeyIdentifier(authority.key.key_id, None, None), False


def has_subject_key_identifier(profile: Profile) -> bool:
    """Public leaves have none: NOT RECOMMENDED (BR 7.1.2.7.6)."""
    return profile.trust is not Trust.PUBLIC


def distribution_point(authority: Authority, shard: int) -> Extension:
    """cRLDistributionPoints: one point with one URL, equal to the shard's IDP."""
    url = x509.UniformResourceIdentifier(authority.crl_url(shard))
    point = x509.DistributionPoint([url], None, None, None)
    return x509.CRLDistributionPoints([point]), False


def information_access(profile: Profile, authority: Authority) -> Extension:
    """authorityInfoAccess: OCSP for private hierarchies, caIssuers for all."""
    methods = [(Access.CA_ISSUERS, authority.issuer_url)]
    if profile.trust is not Trust.PUBLIC:
        methods.insert(0, (Access.OCSP, authority.ocsp_url))
    described = [
        x509.AccessDescription(oid, x509.UniformResourceIdentifier(url)) for oid, url in methods
    ]
    return x509.AuthorityInformationAccess(described), False


def encoded(extension: Extension) -> bytes:
    """The Extension in DER."""
    value, critical = extension
    return asn1.extension(value.oid.dotted_string, value.public_bytes(), critical=critical)


def _key_usage(profile: Profile, kind: KeyKind) -> x509.KeyUsage:
    """keyUsage by purpose and key.

    A CA signs its OCSP responses itself, hence its digitalSignature (BR 7.1.2.10.7). An EC
    identity has keyAgreement so that key management can encrypt to it by ECDH; no EC key ever
    has keyEncipherment (RFC 5480, 3), and a public leaf has digitalSignature alone.
    """
    purpose = profile.purpose
    is_device = purpose in (Purpose.IDENTITY, Purpose.SERVICE)
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=purpose is Purpose.SIGNER,
        key_encipherment=is_device and not kind.is_ec and profile.trust is not Trust.PUBLIC,
        data_encipherment=False,
        key_agreement=purpose is Purpose.IDENTITY and kind.is_ec,
        key_cert_sign=purpose.is_authority,
        crl_sign=purpose.is_authority,
        encipher_only=False,
        decipher_only=False,
    )


def _alternative_names(request: CertificateRequest) -> x509.SubjectAlternativeName:
    names = [_general_name(name) for name in request.names]
    return x509.SubjectAlternativeName([*names, *map(_other_name, request.hardware)])


def _other_name(name: HardwareName) -> x509.GeneralName:
    is_module = isinstance(name, HardwareModuleName)
    kind = HARDWARE_MODULE_NAME if is_module else PERMANENT_IDENTIFIER
    _, value = der.children(name.other_name)
    return x509.OtherName(x509.ObjectIdentifier(kind), der.content(value))


def _general_name(name: Name) -> x509.GeneralName:
    if isinstance(name, DNSName):
        return x509.DNSName(name.value)
    return x509.IPAddress(ipaddress.ip_address(name.value))


def _subject_key(key: PublicKey) -> Extension:
    return x509.SubjectKeyIdentifier(key.key_id), False


def _name_constraints(constraints: NameConstraints) -> x509.NameConstraints:
    permitted: list[x509.GeneralName] = [x509.DNSName(tree) for tree in constraints.permitted_dns]
    permitted += [x509.IPAddress(network) for network in constraints.permitted_ip]
    permitted += [x509.DirectoryName(dn.to_x509()) for dn in constraints.permitted_directory]
    excluded: list[x509.GeneralName] = [x509.DNSName(tree) for tree in constraints.excluded_dns]
    excluded += [x509.IPAddress(network) for network in constraints.excluded_ip]
    return x509.NameConstraints(permitted or None, excluded or None)
