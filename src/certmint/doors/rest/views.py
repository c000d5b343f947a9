"""The JSON that the REST door speaks: models in, models out. OpenAPI is made from these."""

import datetime as dt
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from certmint.enrolment.chains import pem
from certmint.enrolment.devicelogins import Shown
from certmint.enrolment.devices import DeviceView
from certmint.enrolment.renewal import Enrolled, renewal_window
from certmint.model.entities import Certificate, Device, RevocationReason
from certmint.model.keys import KeyKind


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LabelBody(_Strict):
    """What is printed on a device."""

    manufacturer: str = Field(min_length=1, max_length=64)
    serial_number: str = Field(min_length=1, max_length=64)
    secret: str = Field(min_length=1, max_length=64)


class ActivationBody(_Strict):
    """A TPM without an AK certificate, second message; base64 of the TPM's structures."""

    ek_public: str = Field(max_length=4_096, description="TPMT_PUBLIC")
    ek_chain: str = Field(default="", max_length=32_768, description="PEM; or the EK is expected")
    ak_public: str = Field(max_length=4_096, description="TPMT_PUBLIC")
    secret: str = Field(max_length=128, description="what TPM2_ActivateCredential found")
    cert_info: str = Field(max_length=4_096, description="TPMS_ATTEST of TPM2_Certify")
    signature: str = Field(max_length=4_096, description="TPMT_SIGNATURE")
    area: str = Field(max_length=4_096, description="TPMT_PUBLIC of the device's key")


class AttestationBody(_Strict):
    """What hardware says about the CSR's key, over a nonce of ours."""

    manufacturer: str = Field(min_length=1, max_length=64)
    product: str = Field(min_length=1, max_length=128)
    nonce: str = Field(min_length=1, max_length=64)
    object: str | None = Field(default=None, max_length=49_152, description="base64 of CBOR")
    activation: ActivationBody | None = None


class Proofs(_Strict):
    """What may come in a body beside the client certificate and the login."""

    label: LabelBody | None = None
    attestation: AttestationBody | None = None
    serial_number: str | None = Field(default=None, max_length=64)


class CertifyBody(Proofs):
    """A request for a certificate."""

    csr: str = Field(min_length=1, max_length=16_384, description="PKCS#10 in PEM")
    login: str | None = Field(default=None, max_length=64, description="id of a device's login")


class DeviceLoginBody(_Strict):
    """What the owner's login is to be good for."""

    csr: str = Field(min_length=1, max_length=16_384, description="PKCS#10 in PEM")


class DeviceLoginView(_Strict):
    """What a device shows its user (RFC 8628 3.2); `interval` is seconds between polls."""

    id: str
    user_code: str
    verification_uri: str
    verification_uri_complete: str
    interval: int
    expires_at: dt.datetime

    @classmethod
    def of(cls, shown: Shown) -> "DeviceLoginView":
        return cls(**vars(shown))


class DeviceLoginProgress(_Strict):
    """Where a device's login stands: ask again after `interval` seconds, or use it until then."""

    status: Literal["pending", "granted"]
    interval: int
    expires_at: dt.datetime


class SessionView(_Strict):
    """An owner's session: the token goes into `Authorization: Bearer`."""

    token: str
    expires_at: dt.datetime


class ChallengeBody(_Strict):
    """Which devices a nonce is for."""

    manufacturer: str = Field(min_length=1, max_length=64)
    product: str = Field(min_length=1, max_length=128)


class NonceView(_Strict):
    """A nonce, to be signed as the text that it is."""

    nonce: str
    expires_at: dt.datetime


class HideBody(ChallengeBody):
    """A TPM without an AK certificate, first message; base64 of the TPM's structures."""

    nonce: str = Field(min_length=1, max_length=64)
    ek_public: str = Field(max_length=4_096)
    ek_chain: str = Field(default="", max_length=32_768)
    ak_public: str = Field(max_length=4_096)


class CredentialView(_Strict):
    """TPM2B_ID_OBJECT and TPM2B_ENCRYPTED_SECRET in base64."""

    credential_blob: str
    encrypted_secret: str


class PairingBody(_Strict):
    """The code that the owner was shown."""

    code: str = Field(min_length=1, max_length=32)


class PairingView(PairingBody):
    """A code, and until when the device may name it."""

    expires_at: dt.datetime


class ClaimCodeBody(_Strict):
    """The claim code on the label."""

    code: str = Field(min_length=1, max_length=64)


class OfferView(_Strict):
    """A transfer that waits for the other owner."""

    serial_number: str
    expires_at: dt.datetime


class OwnedView(_Strict):
    """A device, and whether it has an owner."""

    serial_number: str
    state: str
    claimed: bool

    @classmethod
    def of(cls, device: Device) -> "OwnedView":
        return cls(
            serial_number=device.serial_number,
            state=device.state.value,
            claimed=device.owner_id is not None,
        )


class TimeView(_Strict):
    """What time it is."""

    time: dt.datetime


class KeyBody(Proofs):
    """A request for a key pair and its certificate."""

    kind: KeyKind = KeyKind.P256


class RevocationBody(_Strict):
    """Why a certificate is revoked (RFC 5280 5.3.1)."""

    reason: Literal[
        "unspecified", "key-compromise", "affiliation-changed", "superseded",
        "cessation-of-operation", "privilege-withdrawn",
    ] = "unspecified"  # fmt: skip

    def parsed(self) -> RevocationReason:
        return RevocationReason(self.reason)


class ClaimBody(_Strict):
    """Whose device it becomes."""

    username: str = Field(min_length=1, max_length=128)


class WindowView(_Strict):
    """When to renew: pick a moment inside at random (RFC 9773 4.2)."""

    start: dt.datetime
    end: dt.datetime


class CertificateView(_Strict):
    """A certificate as the registry knows it."""

    serial: str
    profile: str
    subject: str
    names: tuple[str, ...]
    not_before: dt.datetime
    not_after: dt.datetime
    issued_at: dt.datetime
    key_sha256: str
    revoked_at: dt.datetime | None
    revocation_reason: str | None
    certificate: str = Field(description="PEM; empty for an abandoned serial")

    @classmethod
    def of(cls, found: Certificate) -> "CertificateView":
        revocation = found.revocation
        return cls(
            serial=found.serial,
            profile=found.profile,
            subject=found.subject,
            names=found.names,
            not_before=found.not_before,
            not_after=found.not_after,
            issued_at=found.issued_at,
            key_sha256=found.key_fingerprint,
            revoked_at=revocation.revoked_at if revocation else None,
            revocation_reason=revocation.reason.value if revocation else None,
            certificate=pem(found.der) if found.der else "",
        )


class CurrentView(_Strict):
    """The newest service certificate of a device."""

    serial: str
    not_before: dt.datetime
    not_after: dt.datetime
    renewal: WindowView


class DeviceSelfView(_Strict):
    """What a device is told about itself; `time` is the server's, for devices without a clock."""

    serial_number: str
    label: str
    product: str
    state: str
    names: tuple[str, ...]
    time: dt.datetime
    certificate: CurrentView | None

    @classmethod
    def of(cls, found: DeviceView, now: dt.datetime) -> "DeviceSelfView":
        service, current = found.service, None
        if service is not None and service.revocation is None:
            planned = renewal_window(service, found, now)
            current = CurrentView(
                serial=service.serial,
                not_before=service.not_before,
                not_after=service.not_after,
                renewal=WindowView(start=planned.start, end=planned.end),
            )
        return cls(
            serial_number=found.device.serial_number,
            label=found.device.label,
            product=found.product.name,
            state=found.device.state.value,
            names=tuple(map(str, found.product.names_of(found.device.label))),
            time=now,
            certificate=current,
        )


class EnrolledView(_Strict):
    """A fresh certificate for a device. `chain` has the CAs above it, without the root."""

    serial: str
    certificate: str
    chain: str
    not_before: dt.datetime
    not_after: dt.datetime
    renewal: WindowView

    @classmethod
    def of(cls, enrolled: Enrolled) -> "EnrolledView":
        certificate = enrolled.certificate
        return cls(
            serial=certificate.serial,
            certificate=pem(certificate.der),
            chain=enrolled.chain,
            not_before=certificate.not_before,
            not_after=certificate.not_after,
            renewal=WindowView(start=enrolled.renewal.start, end=enrolled.renewal.end),
        )


class WaitingView(_Strict):
    """202: an operator decides first. The same request, with the same key, gets the answer."""

    code: str
    detail: str
    retry_after: int = Field(description="seconds")


# What `renewal.renew` may answer instead of a certificate, for OpenAPI.
WAITING: dict[int | str, dict[str, Any]] = {202: {"model": WaitingView}}


class DeliveredKeyView(EnrolledView):
    """The same, with the private key in CMS EnvelopedData for the device's identity (base64)."""

    encrypted_key: str
