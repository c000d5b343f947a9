"""The values of this room: what is trusted, what was asked for, and what the hardware answered."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from certmint.model.errors import BadInput
from certmint.model.hardware import HardwareModuleName, HardwareName
from certmint.model.keys import PublicKey


class Format(StrEnum):
    """Attestation statement formats; the values are the `fmt` of an attestation object.

    `TPM_EK` and `IDEVID` are ours and not registered with IANA.
    """

    TPM = "tpm"  # an AK certificate and TPM2_Certify
    TPM_EK = "tpm-ek"  # an EK and credential activation, see `credential`
    ANDROID_KEY = "android-key"
    APPLE = "apple"
    STEP = "step"  # YubiKey PIV
    IDEVID = "idevid"  # IEEE 802.1AR


@dataclass(frozen=True, slots=True)
class Anchor:
    """A CA certificate in DER that the caller trusts to vouch for hardware of one format only."""

    certificate: bytes = field(repr=False)
    format: Format


@dataclass(frozen=True, slots=True)
class Proof:
    """What the statement has to be about: the key authorization and the token of a challenge.

    Octets as ACME writes them (RFC 8555 8.1). Outside ACME both are the nonce that was asked.
    Raises BadInput `attestation-proof` for an empty one, which nobody was ever asked.
    """

    key_authorization: bytes
    token: bytes

    def __post_init__(self) -> None:
        if not self.key_authorization or not self.token:
            raise BadInput(
                "attestation-proof", "a key authorization and a token are needed to judge by"
            )


class SerialKind(StrEnum):
    """Where a number or digest that identifies a device comes from."""

    TPM_EK = "tpm-ek"  # SHA-256 of the endorsement key's SubjectPublicKeyInfo, in hex
    TPM_AK = "tpm-ak"  # SHA-256 of the attestation key's SubjectPublicKeyInfo, in hex
    ANDROID_SERIAL = "android-serial"
    ANDROID_IMEI = "android-imei"
    ANDROID_MEID = "android-meid"
    APPLE_SERIAL = "apple-serial"
    APPLE_UDID = "apple-udid"
    YUBIKEY_SERIAL = "yubikey-serial"
    IDEVID_SERIAL = "idevid-serial"  # serialNumber of the IDevID's subject


@dataclass(frozen=True, slots=True)
class Serial:
    """A device's own number, unique among the devices of its maker."""

    kind: SerialKind
    value: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.value}"


@dataclass(frozen=True)
class Vouched:
    """What one format found in its statement; `statement.verify` makes an `Attested` of it."""

    public_key: PublicKey
    identifiers: tuple[HardwareName | Serial, ...]
    claims: Mapping[str, str]


@dataclass(frozen=True)
class Attested:
    """A verified statement: this key, in the device with these identifiers.

    `claims` are further facts, for policy and the audit; `statement_hash` is the SHA-256, in
    hex, of everything that was verified. It holds for the moment of its verification only.
    """

    format: Format
    public_key: PublicKey
    identifiers: tuple[HardwareName | Serial, ...]
    claims: Mapping[str, str]
    statement_hash: str

    def names(self, asked: HardwareName) -> bool:
        """Whether the hardware itself says that it is `asked`, octet for octet.

        A permanent identifier without an assigner may also be a serial number that the format
        defines, since Apple, Android and YubiKey certificates carry no RFC 4043 name.
        """
        if asked in self.identifiers:
            return True
        if isinstance(asked, HardwareModuleName) or asked.assigner is not None:
            return False
        return any(isinstance(i, Serial) and i.value == asked.value for i in self.identifiers)
