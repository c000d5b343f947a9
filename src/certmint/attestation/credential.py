"""Credential activation: a TPM without an AK certificate proves that an AK is its own.

Two messages (TPM 2.0 Library, part 1, 24). First the device sends its endorsement key (EK), whose
certificate the TPM's maker issued or whose digest the registry knows, and a fresh AK. `challenge`
hides a secret so that only a TPM holding *both* can find it. Then the device returns the secret,
which makes an `ActivatedKey` of the AK, and a TPM2_Certify of its key by the AK, which `certified`
judges. Between the two the caller stores what the device sent and the secret, and takes that
secret away when it is used. The types allow no other order.

EKs are those of the TCG's EK credential profile, templates L-1 (RSA 2048) and L-2 (P-256): the
template is what makes a TPM refuse to open such a secret for a key that is not its own.
"""

import datetime as dt
import hashlib
import hmac
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

from certmint.attestation import chain, members, signatures, structures, tpm
from certmint.attestation.attested import Anchor, Attested, Format, Serial, SerialKind
from certmint.attestation.structures import Attributes, Public, Symmetric, TPMAlgorithm
from certmint.model.errors import BadInput, Refused
from certmint.model.hardware import HardwareName

EK_CERTIFICATE = x509.ObjectIdentifier("2.23.133.8.1")
SHORTEST_SECRET, LONGEST_SECRET = 16, 32

_EK_ATTRIBUTES = (
    structures.BORN_HERE
    | Attributes.ADMIN_WITH_POLICY | Attributes.RESTRICTED | Attributes.DECRYPT
)  # fmt: skip
# PolicySecret(TPM_RH_ENDORSEMENT), TCG EK Credential Profile B.3.
_EK_POLICY = bytes.fromhex("837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa")
_EK_CIPHER = Symmetric(TPMAlgorithm.AES, 128, TPMAlgorithm.CFB)
_AK_ATTRIBUTES = structures.BORN_HERE | Attributes.RESTRICTED | Attributes.SIGN
_EXPLAINED = frozenset({x509.OID_SUBJECT_ALTERNATIVE_NAME, x509.OID_EXTENDED_KEY_USAGE})

RandomBytes = Callable[[int], bytes]
EphemeralKey = Callable[[ec.EllipticCurve], ec.EllipticCurvePrivateKey]


@dataclass(frozen=True)
class Endorsement:
    """An endorsement key that is known to be in a real TPM, and which one that is."""

    public: Public
    identifiers: tuple[HardwareName | Serial, ...]
    claims: dict[str, str]


@dataclass(frozen=True, slots=True)
class AttestationKey:
    """A restricted signing key, if it lives where it says; only activation proves that it does.

    Raises Refused `attestation-key` for a key that is something else.
    """

    public: Public

    def __post_init__(self) -> None:
        attributes, key = self.public.attributes, self.public.key
        # Only a restricted key is certain to sign what the TPM itself generated, nothing else.
        if _AK_ATTRIBUTES & ~attributes or attributes & Attributes.DECRYPT:
            raise Refused(
                "attestation-key",
                "the AK is not a restricted signing key that cannot leave its TPM",
            )
        if isinstance(key, rsa.RSAPublicKey) and key.key_size < signatures.SMALLEST_RSA:
            raise Refused("attestation-key", f"the AK has {key.key_size} bits only: use 2048")


@dataclass(frozen=True, slots=True)
class ActivatedKey:
    """An attestation key in the TPM that holds the endorsement key. Made by `activated`."""

    public: Public
    endorsement: Endorsement


@dataclass(frozen=True, slots=True)
class Challenge:
    """What TPM2_ActivateCredential takes: TPM2B_ID_OBJECT and TPM2B_ENCRYPTED_SECRET."""

    credential_blob: bytes = field(repr=False)
    encrypted_secret: bytes = field(repr=False)


def endorsed_by_certificate(
    ek_public: bytes, x5c: Sequence[bytes], anchors: Sequence[Anchor], now: dt.datetime
) -> Endorsement:
    """An EK that the TPM's maker vouches for. Anchors are those of `Format.TPM_EK`.

    Raises BadInput `attestation-syntax`, `hardware-syntax`; Refused with an `attestation-…` code.
    """
    public = _endorsement_key(ek_public)
    path = chain.validate(x5c, anchors, Format.TPM_EK, now, _EXPLAINED)
    claims = _check_certificate(path.leaf)
    if not hmac.compare_digest(members.spki(path.leaf), public.spki):
        raise Refused("attestation-mismatch", "the EK certificate is about another key than this")
    identifiers = (*members.hardware_names(path.leaf), _ek_serial(public))
    return Endorsement(public, identifiers, claims)


def endorsed_by_registry(ek_public: bytes, registered: AbstractSet[str]) -> Endorsement:
    """An EK that the maker recorded in the factory, by the SHA-256 of its SPKI in lower-case hex.

    Raises BadInput `attestation-syntax`; Refused `attestation-key`, `attestation-untrusted`.
    """
    public = _endorsement_key(ek_public)
    serial = _ek_serial(public)
    if serial.value not in registered:
        raise Refused(
            "attestation-untrusted", f"no device with endorsement key {serial.value} is expected"
        )
    return Endorsement(public, (serial,), {})


def attestation_key(ak_public: bytes) -> AttestationKey:
    """The AK in a TPMT_PUBLIC. Raises BadInput `attestation-syntax`; Refused `attestation-key`."""
    return AttestationKey(structures.public(ak_public))


def challenge(
    endorsement: Endorsement,
    ak: AttestationKey,
    secret: bytes,
    *,
    random_bytes: RandomBytes,
    ephemeral: EphemeralKey,
) -> Challenge:
    """TPM2_MakeCredential: hide `secret` from all but the TPM that holds the EK and the AK.

    `secret` is 16 to 32 random octets; `ephemeral` is `ec.generate_private_key`, and is not called
    for RSA, where pyca draws OAEP's seed itself. Raises BadInput `credential-secret`.
    """
    if not SHORTEST_SECRET <= len(secret) <= LONGEST_SECRET:
        raise BadInput(
            "credential-secret",
            f"the secret has {len(secret)} octets: use {SHORTEST_SECRET} to {LONGEST_SECRET}",
        )
    key = endorsement.public.key
    if isinstance(key, rsa.RSAPublicKey):
        seed = random_bytes(32)
        encrypted = key.encrypt(seed, _IDENTITY_OAEP)
    else:
        seed, encrypted = _agreed(key, ephemeral(key.curve))
    return Challenge(_sized(_protected(seed, ak.public.name, secret)), _sized(encrypted))


def activated(
    endorsement: Endorsement, ak: AttestationKey, secret: bytes, answer: bytes
) -> ActivatedKey:
    """The AK, once the device has found the secret that `challenge` hid for it and for this EK.

    Raises Refused `attestation-mismatch`.
    """
    if len(secret) < SHORTEST_SECRET or not hmac.compare_digest(secret, answer):
        raise Refused(
            "attestation-mismatch", "the TPM did not find the secret: its AK or its EK is another's"
        )
    return ActivatedKey(ak.public, endorsement)


def certified(
    ak: ActivatedKey,
    *,
    cert_info: bytes,
    signature: bytes,
    area: bytes,
    nonce: bytes,
) -> Attested:
    """The key that the AK certified: TPM2_Certify with `nonce` as its qualifying data.

    `signature` is the TPMT_SIGNATURE, `area` the key's TPMT_PUBLIC, `nonce` has 16 octets or more.
    Raises BadInput `attestation-syntax`, `credential-nonce`; Refused `attestation-signature`,
    `attestation-mismatch`, `attestation-key`.
    """
    if len(nonce) < SHORTEST_SECRET:
        raise BadInput(
            "credential-nonce", f"the nonce has {len(nonce)} octets: use {SHORTEST_SECRET} or more"
        )
    algorithm, octets = structures.signature(signature)
    signatures.check(ak.public.key, signatures.algorithm(algorithm), octets, cert_info)
    public, claims = tpm.certified_key(cert_info, area, [nonce])
    ak_serial = Serial(SerialKind.TPM_AK, hashlib.sha256(ak.public.spki).hexdigest())
    statement = b"".join(map(_sized, (cert_info, signature, area)))
    return Attested(
        Format.TPM_EK,
        public.public_key,
        (*ak.endorsement.identifiers, ak_serial),
        {**ak.endorsement.claims, **claims},
        hashlib.sha256(statement).hexdigest(),
    )


_IDENTITY = b"IDENTITY\x00"
_IDENTITY_OAEP = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), _IDENTITY)


def _endorsement_key(ek_public: bytes) -> Public:
    public = structures.public(ek_public)
    key = public.key
    fits = (isinstance(key, rsa.RSAPublicKey) and key.key_size == 2048) or (
        isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name == "secp256r1"
    )
    template = (public.name_algorithm, public.attributes, public.policy, public.symmetric)
    if not fits or template != (TPMAlgorithm.SHA256, _EK_ATTRIBUTES, _EK_POLICY, _EK_CIPHER):
        raise Refused(
            "attestation-key",
            "the endorsement key is not made from the TCG's template L-1 (RSA 2048) or L-2 (P-256)",
        )
    return public


def _check_certificate(certificate: x509.Certificate) -> dict[str, str]:
    """TCG EK Credential Profile 3.2; some makers leave subject and subjectAltName bare."""
    try:
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        fits = EK_CERTIFICATE in usage
    except x509.ExtensionNotFound:
        fits = False
    if not fits:
        raise Refused(
            "attestation-certificate",
            "the EK certificate is refused: its extended key usage lacks "
            f"{EK_CERTIFICATE.dotted_string}",
        )
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return {}
    return tpm.hardware_claims(names)


def _ek_serial(public: Public) -> Serial:
    return Serial(SerialKind.TPM_EK, hashlib.sha256(public.spki).hexdigest())


def _protected(seed: bytes, name: bytes, secret: bytes) -> bytes:
    """TPMS_ID_OBJECT: the encrypted secret, bound to the AK's name by an HMAC (part 1, 24.5)."""
    encryptor = Cipher(
        algorithms.AES128(_kdfa(seed, b"STORAGE\x00", name, 128)), CFB(bytes(16))
    ).encryptor()  # the key is new each time, so the IV may be zero
    hidden = encryptor.update(_sized(secret)) + encryptor.finalize()
    integrity = _kdfa(seed, b"INTEGRITY\x00", b"", 256)
    return _sized(hmac.digest(integrity, hidden + name, "sha256")) + hidden


def _agreed(
    key: ec.EllipticCurvePublicKey, ephemeral: ec.EllipticCurvePrivateKey
) -> tuple[bytes, bytes]:
    """The seed by one-pass ECDH, and the TPMS_ECC_POINT that lets the TPM derive it (C.6.4)."""
    mine, theirs = ephemeral.public_key().public_numbers(), key.public_numbers()
    x, y, their_x = (number.to_bytes(32, "big") for number in (mine.x, mine.y, theirs.x))
    shared = ephemeral.exchange(ec.ECDH(), key)
    # KDFe (part 1, 11.4.10.3): one round is enough for 256 bits.
    seed = hashlib.sha256(b"\x00\x00\x00\x01" + shared + _IDENTITY + x + their_x).digest()
    return seed, _sized(x) + _sized(y)


def _kdfa(key: bytes, label: bytes, context: bytes, bits: int) -> bytes:
    """KDFa (part 1, 11.4.10.2) with SHA-256; one round is enough for 256 bits."""
    message = b"\x00\x00\x00\x01" + label + context + bits.to_bytes(4, "big")
    return hmac.digest(key, message, "sha256")[: bits // 8]


def _sized(octets: bytes) -> bytes:
    """A TPM2B."""
    return len(octets).to_bytes(2, "big") + octets
