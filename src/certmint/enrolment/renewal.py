"""A device's service certificate, again and again: by its own CSR, or with a key made for it."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from cryptography.hazmat.primitives.asymmetric import ec

from certmint.enrolment import chains, device_requests, devices
from certmint.enrolment.device_requests import Wanted
from certmint.enrolment.devices import DeviceView
from certmint.enrolment.issue import Along, Gate
from certmint.enrolment.keygen import make_key, pkcs8_of
from certmint.model.cms import envelop
from certmint.model.csr import CSR
from certmint.model.entities import Certificate, DeviceRequest, Sighting, Wish
from certmint.model.errors import Conflict, NotFound, Refused, WrongState
from certmint.model.evidence import EvidenceKind, HoldsCertificate
from certmint.model.keys import KeyKind, KeyOrigin, public_key_of
from certmint.model.profile import Purpose
from certmint.model.request import Asker, CertificateRequest, HeldKey
from certmint.model.serial import RandomBytes
from certmint.model.states import DeviceEvent, DeviceState
from certmint.policy.renewal import Window, called_window, earlier, window
from certmint.policy.situation import ANSWER_AGAIN
from certmint.registry import reads, writes
from certmint.registry.engine import Database, Transaction


@dataclass(frozen=True)
class Enrolled:
    """What a device gets: its certificate, the CAs above it without the root, when to come again.

    `encrypted_key` is CMS EnvelopedData around a PKCS#8 key for the device's identity key, when
    the key pair was made for it; it exists nowhere else.
    """

    certificate: Certificate
    chain: str
    renewal: Window
    encrypted_key: bytes = field(default=b"", repr=False)


def renew(
    db: Database,
    gate: Gate,
    target: DeviceView,
    key: CSR | HeldKey,
    asker: Asker,
    now: dt.datetime,
    wanted: Wanted | None = None,
) -> Enrolled:
    """Certify the device's new key (story step 5, 2.1).

    Where the product wants an operator's approval, `wanted` is what waits for it: the CSR, unless
    a door knows the request by something else. Raises what the gate refuses, Pending
    `request-pending`, Refused `request-rejected`, TooOften `requests-full`.

    Asking again with the same key within `ANSWER_AGAIN` is answered with that very certificate,
    so a lost answer costs nothing; the evidence is weighed all the same.
    """
    if wanted is None:
        wanted = Wanted.certificate(key) if isinstance(key, CSR) else Wanted(Wish.KEY)
    approved = device_requests.standing(db, target, wanted, now)
    if approved is not None:
        evidence = (*asker.evidence, device_requests.approval(approved, now))
        asker = replace(asker, evidence=evidence)
    try:
        return _enrol(db, gate, target, key, asker, now, approved)
    except Refused as refusal:
        if refusal.code != "approval-required":
            raise
        raise device_requests.wait(db, target, wanted, asker, refusal, now) from None


def deliver_key(
    db: Database,
    gate: Gate,
    target: DeviceView,
    kind: KeyKind,
    asker: Asker,
    now: dt.datetime,
    random_bytes: RandomBytes,
) -> Enrolled:
    """Make a key pair for a device, certify it, encrypt it to the device's identity (2.2).

    The private key leaves memory only inside the envelope. Raises Refused `key-origin` for a
    public profile (BR 6.1.1.3), NotFound `identity-unknown` when there is nobody to encrypt to.
    """
    with db.read() as tx:
        identity = reads.latest_certificate(
            tx, target.device.tenant_id, target.device.id, Purpose.IDENTITY
        )
    if identity is None or identity.revocation is not None:
        raise NotFound("identity-unknown", "the device has no identity to encrypt a key to")
    device_requests.standing(db, target, Wanted(Wish.KEY), now)  # before the work of making a key
    private = make_key(kind)
    key = HeldKey(public_key_of(private), KeyOrigin.KEY_MANAGEMENT)
    enrolled = renew(db, gate, target, key, asker, now)
    envelope = envelop(
        pkcs8_of(private),
        identity.der,
        ephemeral=ec.generate_private_key,
        random_bytes=random_bytes,
    )
    return Enrolled(enrolled.certificate, enrolled.chain, enrolled.renewal, envelope)


def renewal_window(certificate: Certificate, target: DeviceView, now: dt.datetime) -> Window:
    """When this device should replace this certificate: as planned, or as a campaign calls it."""
    who = target.device.id
    planned = window(who, certificate.not_before, certificate.not_after, target.product.renew_at)
    is_called = target.service is not None and target.service.serial == certificate.serial
    if target.call is None or not is_called:
        return planned
    return earlier(planned, called_window(who, target.call, now))


def _enrol(
    db: Database,
    gate: Gate,
    target: DeviceView,
    key: CSR | HeldKey,
    asker: Asker,
    now: dt.datetime,
    approved: DeviceRequest | None,
) -> Enrolled:
    replaces = _replaceable(target.service)
    shown = {each.serial for each in asker.evidence if isinstance(each, HoldsCertificate)}
    if replaces is None or replaces in shown:
        return _enrol_once(db, gate, target, key, asker, now, approved, replaces)
    with gate.replacing(replaces) as is_first:
        if is_first:
            try:
                return _enrol_once(db, gate, target, key, asker, now, approved, replaces)
            except Conflict as race:
                if race.code != "already-replaced":
                    raise
    # Another request of this device was quicker and replaces that certificate; nothing is wrong
    # with this one, whose evidence is another.
    return _enrol_once(db, gate, target, key, asker, now, approved, None)


def _enrol_once(
    db: Database,
    gate: Gate,
    target: DeviceView,
    key: CSR | HeldKey,
    asker: Asker,
    now: dt.datetime,
    approved: DeviceRequest | None,
    replaces: str | None,
) -> Enrolled:
    device, product = target.device, target.product
    with db.read() as tx:
        profile = reads.profile(tx, device.tenant_id, product.service_profile)
        chain = chains.intermediates_pem(tx, device.tenant_id, product.service_authority_id)
    if profile is None:
        raise NotFound("profile-unknown", f"there is no profile {product.service_profile!r}")
    request = CertificateRequest(
        tenant_id=device.tenant_id,
        authority_id=product.service_authority_id,
        profile=profile,
        key=key,
        requester=asker.requester,
        evidence=asker.evidence,
        names=product.names_of(device.label),
        device_id=device.id,
        replaces=replaces,
        source=asker.source,
    )
    certificate = _answered_before(target, request, now)
    try:
        if certificate is not None:
            gate.check(request, now)
        else:
            certificate = gate.issue_one(request, now, _seen(target, asker, approved))
    except Refused as refusal:
        if refusal.code == "device-cloned":
            devices.quarantine(db, device, refusal, asker.source, now)
        raise
    return Enrolled(certificate, chain, renewal_window(certificate, target, now))


def _replaceable(service: Certificate | None) -> str | None:
    """The certificate that a new one succeeds: the newest, unless it was revoked."""
    if service is None or service.revocation is not None or service.successor is not None:
        return None
    return service.serial


def _answered_before(
    target: DeviceView, request: CertificateRequest, now: dt.datetime
) -> Certificate | None:
    service = target.service
    if (
        service is not None
        and service.key_fingerprint == request.public_key.fingerprint
        and service.revocation is None
        and now - service.issued_at < ANSWER_AGAIN
        and isinstance(request.key, CSR)
    ):
        return service
    return None


def _seen(target: DeviceView, asker: Asker, approved: DeviceRequest | None) -> Along:
    came_by_itself = bool(asker.source) and all(
        piece.kind in (EvidenceKind.HOLDS_CERTIFICATE, EvidenceKind.APPROVED_REQUEST)
        for piece in asker.evidence
    )

    def along(tx: Transaction, issued: Sequence[Certificate]) -> None:
        device = reads.device(tx, target.device.tenant_id, target.device.id)
        if device is None or device.state in (DeviceState.SUSPENDED, DeviceState.RETIRED):
            raise WrongState(
                "wrong-state",
                f"device {target.device.serial_number} went out of service while its certificate "
                "was being signed: nothing was released",
            )
        # Most devices were seen before. Not `move_device`: of two first requests at once the slower
        # finds the device ACTIVE, and that is no reason to withhold its certificate.
        if device.state is DeviceState.PROVISIONED:
            writes.move_devices(
                tx, target.device.tenant_id, [target.device.id], DeviceState.PROVISIONED,
                DeviceEvent.SEEN, by=f"device:{target.device.id}", at=issued[0].issued_at,
            )  # fmt: skip
        if approved is not None:
            device_requests.use(tx, approved, issued[0].serial, issued[0].issued_at)
        if came_by_itself:
            seen = Sighting(device.id, asker.source, issued[0].key_fingerprint, issued[0].issued_at)
            writes.set_sighting(tx, device.tenant_id, seen)

    return along
