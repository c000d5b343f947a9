"""An authority with its key: approvals in, certificates out.

    prepare(approvals) -> Prepared    serial, TBS bytes, rehearsed and linted; nothing is signed
    sign(prepared) -> certificates    each Prepared once, in the order given

Between the two calls the caller makes the intent durable, so that a serial which was signed is
always on record. Laws: only an `Approval` can be prepared, only a `Prepared` can become a
certificate, and one `Prepared` becomes one certificate at most. Public certificates are refused
here although policy refuses them too, because this version cannot submit to CT logs.
This module does not choose names, lifetimes or keys; it does not store anything.
"""

import datetime as dt
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from certmint.issuance import asn1, pkixlint
from certmint.issuance.lint import lint
from certmint.issuance.template import Layout, Template, compile_template
from certmint.model import der
from certmint.model.entities import Authority
from certmint.model.errors import BadInput, Misconfigured, Refused, Unavailable, WrongState
from certmint.model.keys import KeyKind, PrivateKey, public_key_of
from certmint.model.profile import Profile, Purpose, Trust
from certmint.model.serial import RandomBytes, Serial, new_serial
from certmint.policy.approval import Approval

SAMPLE = 64
"""After the first, one certificate in so many is rehearsed, and one signature verified."""

_MOST_LAYOUTS = 4096
_TBS_CERTIFICATE = b"\xa0\x03\x02\x01"  # how the content of a TBSCertificate begins: its version


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A certificate that lacks only its signature. `SigningAuthority.prepare` makes it."""

    approval: Approval
    serial: Serial
    shard: int
    tbs: bytes = field(repr=False)
    _unsigned: list[bool] = field(init=False, repr=False, default_factory=lambda: [True])

    def redeem(self) -> None:
        """Spend the one signature. Raises WrongState `already-signed` the second time."""
        try:
            self._unsigned.pop()  # one step for the interpreter, so two threads cannot both win
        except IndexError:
            raise WrongState(
                "already-signed",
                f"serial {self.serial} has been signed once: prepare the request anew",
            ) from None


class SigningAuthority:
    """An authority whose private key is at hand (software or PKCS#11)."""

    def __init__(self, authority: Authority, key: PrivateKey) -> None:
        """Raises Misconfigured `key-mismatch` if the key is not the authority's."""
        if not _is_key_of(key, authority):
            raise Misconfigured(
                "key-mismatch",
                f"the private key opened for authority {authority.name!r} does not belong to its "
                f"public key {authority.key!r}: check the key URI of this authority",
            )
        self.authority = authority
        self._sign = _signer(key, authority.key.kind)
        self._verify = _verifier(key, authority.key.kind)
        self._algorithm = asn1.SIGNATURE_ALGORITHM[authority.key.kind]
        # pyca's own keys compute in this process. Whatever else stands behind the class is
        # hardware or a network away, so each of its signatures is verified.
        self.is_software = type(key).__module__.partition(".")[0] == "cryptography"
        self._templates: dict[tuple[Profile, KeyKind], Template] = {}
        self._rehearsed: set[Layout] = set()
        self._count = itertools.count(1)

    def prepare(
        self, approvals: Sequence[Approval], now: dt.datetime, random_bytes: RandomBytes
    ) -> list[Prepared]:
        """Everything but the signatures, in the order given.

        The first certificate of each layout in this process, and one in SAMPLE after that, is
        written a second time by pyca's builder, signed with a throw-away key, compared byte for
        byte and linted. Raises Refused `lint` or `ct-required`, Misconfigured
        `authority-mismatch`. Nothing is kept: what was prepared can simply be dropped.
        """
        prepared = []
        template = None
        for approval in approvals:
            self._refuse(approval)
            template = self._template(approval, template)
            serial = new_serial(now, random_bytes)
            shard = int(serial[-8:], 16) % self.authority.crl_shards
            holes = template.holes(approval, serial, shard)
            layout = template.layout(holes)
            item = Prepared(approval, serial, shard, layout.fill(holes))
            if layout not in self._rehearsed:
                self._rehearse(template, item, is_first=True)
                self._rehearsed.add(layout)
            elif next(self._count) % SAMPLE == 0:
                self._rehearse(template, item, is_first=False)
            prepared.append(item)
        return prepared

    def sign(self, prepared: Sequence[Prepared]) -> list[bytes]:
        """The certificates in DER, in the order given.

        Raises WrongState `already-signed`, Unavailable `key-store` (the key cannot be reached)
        or `signature-invalid` (it signed something else). After any of them every Prepared of
        the call is spent, and none of its certificates has left: their intents are on record,
        and reconciling revokes their serials.
        """
        for item in prepared:
            self._check_authority(item.approval)
            item.redeem()
        certificates = []
        last = len(prepared) - 1
        for place, item in enumerate(prepared):
            certificate = asn1.signed(item.tbs, self._algorithm, self._sign(item.tbs))
            if not self.is_software or place % SAMPLE == 0 or place == last:
                self._check_certificate(certificate, item.tbs)
            certificates.append(certificate)
        return certificates

    def seal(self, content: bytes, *, sampled: bool = False) -> bytes:
        """A signed CRL or BasicOCSPResponse around its DER `content`, the signature verified.

        With `sampled` one software signature in SAMPLE is verified. A TBSCertificate is refused:
        certificates come from `sign` alone. Raises WrongState `not-status`, Unavailable
        `key-store` or `signature-invalid`.
        """
        if der.content(content).startswith(_TBS_CERTIFICATE):
            raise WrongState("not-status", "a certificate cannot be sealed: it must be prepared")
        signature = self._sign(content)
        if not (sampled and self.is_software) or next(self._count) % SAMPLE == 0:
            self._check_signature(signature, content)
        return asn1.signed(content, self._algorithm, signature)

    def _refuse(self, approval: Approval) -> None:
        self._check_authority(approval)
        if Trust.PUBLIC in (approval.request.profile.trust, self.authority.trust):
            raise Refused(
                "ct-required",
                "public certificates need certificate transparency logs, which this version of "
                "certmint cannot submit to: use a private profile",
            )

    def _check_authority(self, approval: Approval) -> None:
        theirs, ours = approval.authority, self.authority
        if theirs is not ours and (
            (theirs.id, theirs.key, theirs.subject, theirs.status_url, theirs.crl_shards)
            != (ours.id, ours.key, ours.subject, ours.status_url, ours.crl_shards)
        ):
            raise Misconfigured(
                "authority-mismatch",
                f"authority {ours.name!r} cannot sign what was approved for {theirs.name!r}",
            )

    def _template(self, approval: Approval, last: Template | None) -> Template:
        profile, kind = approval.request.profile, approval.request.public_key.kind
        if last is not None and last.profile is profile and last.kind is kind:
            return last  # hashing a profile costs as much as filling its template
        if len(self._rehearsed) >= _MOST_LAYOUTS:
            self._rehearsed.clear()
            self._templates.clear()
        found = self._templates.get((profile, kind))
        if found is None:
            found = compile_template(profile, self.authority, kind)
            self._templates[profile, kind] = found
        return found

    def _rehearse(self, template: Template, item: Prepared, *, is_first: bool) -> None:
        approval = item.approval
        is_root = approval.request.profile.purpose is Purpose.ROOT
        try:
            rehearsal = template.rehearse(approval, item.serial, item.shard)
        except ValueError as error:
            raise Refused("lint", f"the certificate cannot be built: {error}") from None
        if rehearsal.tbs_certificate_bytes != item.tbs:
            raise Refused(
                "lint", "the compiled template and pyca's builder write different certificates"
            )
        findings = lint(item.tbs, approval, None if is_root else approval.authority.der or None)
        if is_first and not findings:
            whole = rehearsal.public_bytes(serialization.Encoding.DER)
            findings = pkixlint.lint_with_pkilint(whole)
        if findings:
            raise Refused("lint", f"{findings[0].code}: {findings[0].detail}")

    def _check_certificate(self, certificate: bytes, tbs: bytes) -> None:
        parsed = x509.load_der_x509_certificate(certificate)
        if parsed.tbs_certificate_bytes != tbs:
            raise Unavailable("signature-invalid", "the signed certificate is not the prepared one")
        self._check_signature(parsed.signature, tbs)

    def _check_signature(self, signature: bytes, content: bytes) -> None:
        try:
            self._verify(signature, content)
        except InvalidSignature:
            raise Unavailable(
                "signature-invalid",
                f"the key store gave authority {self.authority.name!r} a signature that does not "
                "verify: nothing was released; check the key store before trying again",
            ) from None


def _is_key_of(key: PrivateKey, authority: Authority) -> bool:
    try:
        return public_key_of(key).spki == authority.key.spki
    except BadInput:
        return False


def _signer(key: PrivateKey, kind: KeyKind) -> Callable[[bytes], bytes]:
    if isinstance(key, ec.EllipticCurvePrivateKey):
        ecdsa = ec.ECDSA(asn1.digest(kind))
        return lambda content: key.sign(content, ecdsa)
    pkcs1, digest = padding.PKCS1v15(), asn1.digest(kind)
    return lambda content: key.sign(content, pkcs1, digest)


def _verifier(key: PrivateKey, kind: KeyKind) -> Callable[[bytes, bytes], None]:
    public = key.public_key()
    if isinstance(public, ec.EllipticCurvePublicKey):
        ecdsa = ec.ECDSA(asn1.digest(kind))
        return lambda signature, content: public.verify(signature, content, ecdsa)
    return lambda signature, content: _rsa_verify(public, signature, content)


def _rsa_verify(public: rsa.RSAPublicKey, signature: bytes, content: bytes) -> None:
    public.verify(signature, content, padding.PKCS1v15(), asn1.digest(KeyKind.RSA2048))
