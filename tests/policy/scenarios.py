"""Whole, well-formed requests that policy accepts, and the small changes that case files make."""

import dataclasses
import datetime as dt
from collections.abc import Callable
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from certmint.model import evidence as ev
from certmint.model.acceptance import Situation, parse_acceptance
from certmint.model.constraints import NameConstraints, technically_constrained
from certmint.model.csr import CSR, parse_csr
from certmint.model.entities import (
    Authority,
    Batch,
    Certificate,
    Device,
    DomainValidation,
    KeyRecord,
    Product,
    Revocation,
    RevocationReason,
    Sighting,
    ValidationMethod,
)
from certmint.model.hardware import PermanentIdentifier
from certmint.model.keys import KeyKind, KeyOrigin, PublicKey, public_key_of
from certmint.model.names import parse_name
from certmint.model.profile import (
    CLIENT_AUTH,
    IDENTITY,
    ISSUING,
    ROOT,
    SERVER_AUTH,
    SERVICE,
    SERVICE_PUBLIC,
    SUBORDINATE,
    Purpose,
    Trust,
)
from certmint.model.request import (
    CertificateRequest,
    Facts,
    HeldKey,
    Requester,
    RequesterKind,
)
from certmint.model.serial import Serial
from certmint.model.states import AuthorityState, BatchState, DeviceState
from certmint.model.subject import DistinguishedName

NOW = dt.datetime(2026, 11, 23, 12, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
MINUTE = dt.timedelta(minutes=1)
SERIAL, OLD, NEXT = Serial("01" * 20), Serial("02" * 20), Serial("03" * 20)
MAKER = DistinguishedName.of(C="US", O="Example Router Inc")
_PRIVATE = ec.generate_private_key(ec.SECP256R1())
KEY = public_key_of(_PRIVATE)
SN1 = PermanentIdentifier("SN1")


@dataclasses.dataclass(frozen=True)
class Case:
    """What `decide` is given."""

    request: CertificateRequest
    facts: Facts
    now: dt.datetime = NOW


def csr(*names: str, common_name: str | None = None) -> CSR:
    """A real CSR with the key of every scenario."""
    subject = [x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)] if common_name else []
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(subject))
    if names:
        general = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
        builder = builder.add_extension(general, critical=False)
    signed = builder.sign(_PRIVATE, hashes.SHA256())
    return parse_csr(signed.public_bytes(serialization.Encoding.DER))


def ca_certificate(*usages: str) -> bytes:
    """A CA certificate that is bounded to these extended key usages."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "CA")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(_PRIVATE.public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + DAY)
    )
    if usages:
        oids = [x509.ObjectIdentifier(usage) for usage in usages]
        builder = builder.add_extension(x509.ExtendedKeyUsage(oids), critical=False)
    return builder.sign(_PRIVATE, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def authority(purpose: Purpose = Purpose.SUBORDINATE, usage: str = SERVER_AUTH) -> Authority:
    """An active authority of the maker."""
    return Authority(
        id="ca",
        tenant_id="maker",
        name="ca",
        purpose=purpose,
        trust=Trust.PRIVATE,
        parent_id=None,
        subject=MAKER,
        key=KEY,
        key_uri="file:ca",
        constraints=None,
        path_length=None if purpose in (Purpose.ROOT, Purpose.ISSUING) else 0,
        state=AuthorityState.ACTIVE,
        status_url="http://pki.example.com",
        crl_shards=1,
        created_at=NOW - 100 * DAY,
        der=ca_certificate(usage) if purpose is not Purpose.ROOT else ca_certificate(),
        not_before=NOW - 100 * DAY,
        not_after=NOW + 1000 * DAY,
    )


def domain(name: str = "example.com") -> DomainValidation:
    """A validated domain."""
    return DomainValidation(
        id="v",
        tenant_id="maker",
        domain=name,
        method=ValidationMethod.DNS_TXT,
        random_value="x",
        record_name=f"_certmint-challenge.{name}",
        created_at=NOW - 30 * DAY,
        expires_at=NOW,
        verified_at=NOW - 30 * DAY,
    )


DEVICE = Device(
    id="dev",
    tenant_id="maker",
    product_id="prd",
    serial_number="R1",
    label="r1",
    mac="",
    state=DeviceState.ACTIVE,
    batch_id="bat",
    line=2,
    owner_id="own",
    created_at=NOW - 100 * DAY,
)
PRODUCT = Product(
    id="prd",
    tenant_id="maker",
    name="router",
    identity_authority_id="ca",
    identity_profile="identity",
    service_authority_id="ca",
    service_profile="service",
    name_patterns=("{id}.dev.example.com",),
    shared_names=(parse_name("router.example.com"),),
)
HELD = Certificate(
    serial=SERIAL,
    authority_id="identity-ca",
    tenant_id="maker",
    profile="identity",
    profile_version=1,
    purpose=Purpose.IDENTITY,
    device_id="dev",
    subject="serialNumber=R1",
    names=(),
    key_fingerprint="aa",
    not_before=NOW - 100 * DAY,
    not_after=dt.datetime(9999, 12, 31, 23, 59, 59, tzinfo=dt.UTC),
    issued_at=NOW - 100 * DAY,
    crl_shard=0,
    der=b"",
)
OLD_SERVICE = dataclasses.replace(
    HELD,
    serial=OLD,
    authority_id="ca",
    profile="service",
    purpose=Purpose.SERVICE,
    not_after=NOW + 10 * DAY,
)
BATCH = Batch("bat", "maker", "prd", "ff" * 32, 10, BatchState.RUNNING, NOW - DAY)


def renewal() -> Case:
    """A device renews its service certificate, by its identity certificate."""
    request = CertificateRequest(
        tenant_id="maker",
        authority_id="ca",
        profile=SERVICE,
        key=csr(),
        requester=Requester(RequesterKind.DEVICE, "dev"),
        evidence=(ev.HoldsCertificate("identity-ca", SERIAL, NOW),),
        names=PRODUCT.names_of("r1"),
        device_id="dev",
        replaces=OLD,
    )
    constraints = technically_constrained(("example.com",), MAKER)
    facts = Facts(
        authority=authority(),
        ancestors=(constraints,),
        domains=(domain(),),
        device=DEVICE,
        product=PRODUCT,
        presented=HELD,
        replaced=OLD_SERVICE,
    )
    return Case(request, facts)


def lost_answer() -> Case:
    """A device shows the service certificate that it had, and asks again for its successor."""
    case = renewal()
    successor = dataclasses.replace(OLD_SERVICE, serial=NEXT, key_fingerprint=KEY.fingerprint)
    old = dataclasses.replace(OLD_SERVICE, successor=NEXT)
    return Case(
        dataclasses.replace(
            case.request, evidence=(ev.HoldsCertificate("ca", OLD, NOW),), replaces=NEXT
        ),
        dataclasses.replace(case.facts, presented=old, replaced=successor, newest=successor),
    )


def owner() -> Case:
    """The owner asks, with the login at the maker."""
    case = renewal()
    return Case(
        dataclasses.replace(
            case.request,
            requester=Requester(RequesterKind.OWNER, "own"),
            evidence=(ev.OwnerLogin("own", NOW),),
        ),
        dataclasses.replace(case.facts, presented=None),
    )


def attested() -> Case:
    """Hardware vouches for the device's new key."""
    case = renewal()
    proof = ev.Attestation("tpm", KEY.fingerprint, "R1", "00" * 32, NOW)
    return Case(
        dataclasses.replace(case.request, evidence=(proof,)),
        dataclasses.replace(case.facts, presented=None),
    )


def operator() -> Case:
    """An operator asks for a server that is no device."""
    case = renewal()
    return Case(
        dataclasses.replace(
            case.request,
            requester=Requester(RequesterKind.OPERATOR, "op"),
            evidence=(ev.OperatorGrant("op", NOW),),
            names=(parse_name("www.example.com"),),
            device_id=None,
            replaces=None,
        ),
        dataclasses.replace(case.facts, device=None, product=None, presented=None, replaced=None),
    )


def controls() -> Case:
    """As an ACME account will: the requester proved control of the names itself."""
    case = operator()
    accepts = (frozenset({ev.EvidenceKind.CONTROLS_NAMES}),)
    proof = ev.ControlsNames((parse_name("www.example.com"),), NOW)
    return dataclasses.replace(
        case,
        request=dataclasses.replace(
            case.request,
            profile=dataclasses.replace(SERVICE, accepts=accepts),
            evidence=(proof,),
        ),
    )


def factory() -> Case:
    """A line of a running batch: the device's identity."""
    request = CertificateRequest(
        tenant_id="maker",
        authority_id="ca",
        profile=IDENTITY,
        key=HeldKey(KEY, KeyOrigin.FACTORY),
        requester=Requester(RequesterKind.STATION, "line-1"),
        evidence=(ev.BatchLine("bat", 2, "ff" * 32),),
        subject=DistinguishedName.of(C="US", O="Example Router Inc", serialNumber="R1"),
        device_id="dev",
    )
    issuer = dataclasses.replace(
        authority(Purpose.ISSUING, CLIENT_AUTH),
        not_after=dt.datetime(9999, 12, 31, 23, 59, 59, tzinfo=dt.UTC),
    )
    device = dataclasses.replace(DEVICE, state=DeviceState.EXPECTED)
    facts = Facts(
        authority=issuer, ancestors=(), domains=(domain(),), device=device, product=PRODUCT,
        batch=BATCH,
    )  # fmt: skip
    return Case(request, facts)


def public() -> Case:
    """A public profile, at an installation that can log certificates."""
    case = owner()
    product = dataclasses.replace(PRODUCT, service_profile="service-public")
    issuer = dataclasses.replace(case.facts.authority, trust=Trust.PUBLIC)
    return Case(
        dataclasses.replace(case.request, profile=SERVICE_PUBLIC),
        dataclasses.replace(case.facts, product=product, authority=issuer, ct_logs=2),
    )


def _authority_case(profile: Any, issuer: Authority, constraints: NameConstraints | None) -> Case:
    request = CertificateRequest(
        tenant_id="maker",
        authority_id="ca",
        profile=profile,
        key=HeldKey(KEY, KeyOrigin.AUTHORITY),
        requester=Requester(RequesterKind.OPERATOR, "op"),
        evidence=(ev.OperatorGrant("op", NOW),),
        subject=MAKER,
        constraints=constraints,
    )
    return Case(request, Facts(authority=issuer, ancestors=(), domains=(domain(),)))


def subordinate() -> Case:
    """A SubCA below an issuing CA."""
    constraints = technically_constrained(("example.com",), MAKER)
    return _authority_case(SUBORDINATE, authority(Purpose.ISSUING), constraints)


def issuing() -> Case:
    """An issuing CA below a root."""
    return _authority_case(ISSUING, authority(Purpose.ROOT), None)


def root() -> Case:
    """A root certifies itself."""
    pending = dataclasses.replace(
        authority(Purpose.ROOT),
        state=AuthorityState.PENDING,
        der=b"",
        not_before=None,
        not_after=None,
    )
    return _authority_case(ROOT, pending, None)


SCENARIOS: dict[str, Callable[[], Case]] = {
    each.__name__: each
    for each in (
        renewal, lost_answer, owner, attested, operator, controls, factory, public, subordinate,
        issuing, root,
    )
}  # fmt: skip


def _request(**fields: Any) -> Callable[[Case], Case]:
    return lambda case: dataclasses.replace(
        case, request=dataclasses.replace(case.request, **fields)
    )


def _facts(**fields: Any) -> Callable[[Case], Case]:
    return lambda case: dataclasses.replace(case, facts=dataclasses.replace(case.facts, **fields))


def _thing(name: str, **fields: Any) -> Callable[[Case], Case]:
    """Change the authority, device, batch … that the facts hold."""
    return lambda case: dataclasses.replace(
        case,
        facts=dataclasses.replace(
            case.facts, **{name: dataclasses.replace(getattr(case.facts, name), **fields)}
        ),
    )


def _naming(*hardware: str) -> CSR:
    found = tuple(map(PermanentIdentifier.parse, hardware))
    return dataclasses.replace(csr(), hardware=found)


def _rsa_shaped(kind: str) -> PublicKey:
    return PublicKey(KeyKind(kind), KEY.spki)


def _profile(**fields: Any) -> Callable[[Case], Case]:
    return lambda case: _request(profile=dataclasses.replace(case.request.profile, **fields))(case)


def _domain(**fields: Any) -> Callable[[Case], Case]:
    """The validated domain, changed."""
    return lambda case: _facts(domains=(dataclasses.replace(case.facts.domains[0], **fields),))(
        case
    )


# What a case file may say in `change`: the name, and how its value is applied.
CHANGES: dict[str, Callable[[Any], Callable[[Case], Case]]] = {
    "now": lambda v: lambda case: dataclasses.replace(case, now=v),
    "names": lambda v: _request(names=tuple(map(parse_name, v))),
    "hardware": lambda v: _request(hardware=tuple(map(PermanentIdentifier.parse, v))),
    "csr_hardware": lambda v: _request(key=_naming(*v)),
    "subject": lambda v: _request(subject=DistinguishedName.parse(v) if v else DistinguishedName()),
    "lifetime_days": lambda v: _request(lifetime=dt.timedelta(days=v)),
    "lifetime_seconds": lambda v: _request(lifetime=dt.timedelta(seconds=v)),
    "csr_names": lambda v: _request(key=csr(*v)),
    "csr_common_name": lambda v: _request(key=csr(common_name=v)),
    "key_made_by": lambda v: _request(key=HeldKey(KEY, KeyOrigin(v))),
    "key_kind": lambda v: _request(key=HeldKey(_rsa_shaped(v), KeyOrigin.FACTORY)),
    "device_id": lambda v: _request(device_id=v or None),
    "replaces": lambda v: _request(replaces=Serial(v) if v else None),
    "requester_id": lambda v: _request(requester=Requester(RequesterKind.OPERATOR, v)),
    "evidence": lambda v: _request(evidence=tuple(_PIECES[each] for each in v)),
    "constraints_domains": lambda v: _request(
        constraints=technically_constrained(tuple(v), MAKER) if v else None
    ),
    "accepts": lambda v: _profile(
        accepts=tuple(frozenset(map(ev.EvidenceKind, each)) for each in v)
    ),
    "authority.tenant": lambda v: _thing("authority", tenant_id=v),
    "authority.state": lambda v: _thing("authority", state=AuthorityState(v)),
    "authority.purpose": lambda v: _thing("authority", purpose=Purpose(v)),
    "authority.path_length": lambda v: _thing("authority", path_length=v),
    "authority.trust": lambda v: _thing("authority", trust=Trust(v)),
    "authority.not_after": lambda v: _thing("authority", not_after=v),
    "authority.usage": lambda v: _thing("authority", der=ca_certificate(v)),
    "ancestors": lambda v: _facts(
        ancestors=tuple(NameConstraints(permitted_dns=(each,)) for each in v)
    ),
    "ancestor_directory": lambda v: _facts(
        ancestors=(
            NameConstraints(
                permitted_dns=("example.com",),
                permitted_directory=(DistinguishedName.parse(v),),
            ),
        )
    ),
    "domains": lambda v: _facts(domains=tuple(map(domain, v))),
    "domain.age_days": lambda v: _domain(created_at=NOW - v * DAY),
    "domain.method": lambda v: _domain(method=ValidationMethod(v)),
    "domain.created_at": lambda v: _domain(created_at=v),
    "device": lambda _: _facts(device=None),
    "device.tenant": lambda v: _thing("device", tenant_id=v),
    "device.state": lambda v: _thing("device", state=DeviceState(v)),
    "device.owner": lambda v: _thing("device", owner_id=v),
    "device.product": lambda v: _thing("device", product_id=v),
    "device.line": lambda v: _thing("device", line=v),
    "device.serial_number": lambda v: _thing("device", serial_number=v),
    "product.service_profile": lambda v: _thing("product", service_profile=v),
    "product.pattern": lambda v: _thing("product", name_patterns=(v,)),
    "product.shared": lambda v: _thing("product", shared_names=(parse_name(v),)),
    "batch.state": lambda v: _thing("batch", state=BatchState(v)),
    "batch.manifest": lambda v: _thing("batch", manifest_hash=v),
    "product.accepts": lambda v: _thing("product", accepts=parse_acceptance(v)),
    "product.approval": lambda v: _thing("product", approval=frozenset(map(Situation, v))),
    "product.grace_days": lambda v: _thing("product", grace=v * DAY),
    "source": lambda v: _request(source=v),
    "seen": lambda v: _facts(sighting=Sighting("dev", v[0], v[1], NOW - v[2] * MINUTE)),
    "newest": lambda v: _facts(newest=dataclasses.replace(OLD_SERVICE, key_fingerprint=v)),
    "newest.not_before": lambda v: _thing("newest", not_before=v),
    "newest.not_after": lambda v: _thing("newest", not_after=v),
    "newest.issued_at": lambda v: _thing("newest", issued_at=v),
    "newest.key": lambda v: _thing("newest", key_fingerprint=v),
    "newest.revoked": lambda v: _thing(
        "newest", revocation=Revocation(v, RevocationReason.UNSPECIFIED)
    ),
    "presented": lambda _: _facts(presented=None),
    "presented.device": lambda v: _thing("presented", device_id=v),
    "presented.purpose": lambda v: _thing("presented", purpose=Purpose(v)),
    "presented.not_before": lambda v: _thing("presented", not_before=v),
    "presented.not_after": lambda v: _thing("presented", not_after=v),
    "presented.revoked": lambda v: _thing(
        "presented", revocation=Revocation(v, RevocationReason.UNSPECIFIED)
    ),
    "presented.successor": lambda v: _thing("presented", successor=Serial(v)),
    "replaced.device": lambda v: _thing("replaced", device_id=v),
    "replaced.successor": lambda v: _thing("replaced", successor=Serial(v)),
    "key_of": lambda v: _facts(
        key_record=KeyRecord(KEY.fingerprint, v[0], v[1] or None, KeyOrigin(v[2]))
    ),
    "key_blocked": lambda v: _facts(
        key_record=KeyRecord(KEY.fingerprint, "maker", "dev", KeyOrigin.SUBSCRIBER, blocked=v)
    ),
    "ct_logs": lambda v: _facts(ct_logs=v),
}

_PIECES: dict[str, ev.Evidence] = {
    "identity": ev.HoldsCertificate("identity-ca", SERIAL, NOW),
    "secret": ev.EnrolmentSecret("R1", "", NOW),
    "secret-of-other-device": ev.EnrolmentSecret("R2", "", NOW),
    "secret-spent": ev.EnrolmentSecret("R1", NEXT, NOW),
    "owner": ev.OwnerLogin("own", NOW),
    "attestation": ev.Attestation("tpm", KEY.fingerprint, "R1", "00" * 32, NOW),
    "attestation-of-sn1": ev.Attestation("tpm", KEY.fingerprint, "R1", "00" * 32, NOW, (SN1,)),
    "attestation-of-sn1-alone": ev.Attestation("tpm", KEY.fingerprint, "", "00" * 32, NOW, (SN1,)),
    "attestation-of-other-key": ev.Attestation("tpm", "ab" * 32, "R1", "00" * 32, NOW),
    "attestation-of-other-device": ev.Attestation("tpm", KEY.fingerprint, "R2", "00" * 32, NOW),
    "approval": ev.ApprovedRequest("req", "dev", KEY.fingerprint, "op", NOW),
    "approval-of-made-key": ev.ApprovedRequest("req", "dev", "", "op", NOW),
    "approval-of-other-key": ev.ApprovedRequest("req", "dev", "ab" * 32, "op", NOW),
    "approval-of-other-device": ev.ApprovedRequest("req", "d2", KEY.fingerprint, "op", NOW),
    "grant": ev.OperatorGrant("op", NOW),
    "control-of-www": ev.ControlsNames((parse_name("www.example.com"),), NOW),
    "control-of-mail": ev.ControlsNames((parse_name("mail.example.com"),), NOW),
}
