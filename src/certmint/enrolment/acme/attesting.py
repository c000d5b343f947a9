"""device-attest-01 (draft-ietf-acme-device-attest): hardware answers for its name and for a key.

Laws: a statement counts for the challenge that it was made for, once, and for one key; it is
judged by the roots that the directory trusts, and for a bound account by those of the product;
the hardware calls itself what the order does, octet for octet; where the account is bound to a
device, the hardware is that device's. The verdict is about what hardware says now: whether the
CSR has the same key, `certifying` and the gate ask.
"""

import contextlib
import datetime as dt
import json
from dataclasses import dataclass

from certmint.attestation.attested import Anchor, Attested, Format, Proof
from certmint.attestation.statement import verify
from certmint.enrolment import attesting
from certmint.enrolment.acme import limits as rates
from certmint.enrolment.acme.authorizations import PENDING_LIFE, Scope, scope_of
from certmint.enrolment.acme.challenges import fail_challenge, pass_challenge, waiting
from certmint.enrolment.acme.limits import GENEROUS, Limits
from certmint.model.acme import (
    Account,
    Authorization,
    Challenge,
    ChallengeType,
    Directory,
)
from certmint.model.entities import Device
from certmint.model.errors import BadInput, NotFound, Refused, WrongState
from certmint.model.evidence import Attestation
from certmint.model.hardware import HardwareName, PermanentIdentifier
from certmint.model.states import DeviceState
from certmint.registry import reads, writes
from certmint.registry.engine import Database, Transaction

FORMATS = (Format.TPM, Format.STEP, Format.ANDROID_KEY, Format.APPLE)


@dataclass(frozen=True)
class Answer:
    """What a client sent: the attestation object, for one of its challenges."""

    directory: Directory
    account: Account
    challenge_id: str
    attestation: bytes


def answer(db: Database, sent: Answer, now: dt.datetime, limits: Limits = GENEROUS) -> bool:
    """Judge an attestation, and write the verdict down; False if the challenge waits for no such.

    Nobody is called, so the challenge is never seen `processing`: taken and over are one
    transaction. Raises NotFound `challenge-unknown`, WrongState `authorization-over`, Refused
    `binding-revoked`, RateLimited after too many failures.
    """
    with db.read() as tx:
        found = waiting(tx, sent.account, sent.challenge_id, now, limits)
        if found is None or found[1].type is not ChallengeType.DEVICE_ATTEST_01:
            return False
        authorization, challenge = found
        scope = scope_of(tx, sent.account)
        failing = rates.failures(tx, sent.account, limits)
        verdict = _verdict(tx, sent, scope, authorization, challenge, now)

    def work(tx: Transaction) -> None:
        if isinstance(verdict, dict):
            pass_challenge(tx, authorization, challenge, verdict, PENDING_LIFE, now)
            return
        rates.count(tx, failing, limits, now)
        error = {"type": "badAttestationStatement", "detail": verdict.detail}
        fail_challenge(tx, authorization, challenge, json.dumps(error), now)

    with contextlib.suppress(WrongState):  # another answer was quicker, or it was given up
        db.write(work)
    return True


def attestation_of(authorization: Authorization) -> Attestation:
    """The evidence in a valid authorization of hardware."""
    seen, name = json.loads(authorization.evidence), authorization.identifier.hardware
    return Attestation(
        format=seen["format"],
        key_fingerprint=seen["key"],
        device_serial=seen["device"],
        statement_hash=seen["statement"],
        verified_at=dt.datetime.fromisoformat(seen["at"]),
        hardware=(name,) if name is not None else (),
    )


def _verdict(
    tx: Transaction,
    sent: Answer,
    scope: Scope,
    authorization: Authorization,
    challenge: Challenge,
    now: dt.datetime,
) -> dict[str, object] | BadInput | Refused:
    asked = authorization.identifier.hardware
    if asked is None:
        return Refused("attestation-unexpected", "only hardware is authorized by an attestation")
    proof = Proof(f"{challenge.token}.{sent.account.thumbprint}".encode(), challenge.token.encode())
    try:
        trusted = _trusted(tx, sent.directory, scope)
        attested = verify(sent.attestation, proof, trusted, now, revoked=frozenset())
        _check_identity(tx, scope, attested, asked, sent.account.tenant_id)
    except (BadInput, Refused) as refusal:
        return refusal
    return {
        "method": ChallengeType.DEVICE_ATTEST_01.value,
        "format": attested.format.value,
        "key": attested.public_key.fingerprint,
        "device": scope.device.serial_number if scope.device else "",
        "statement": attested.statement_hash,
        "at": now.isoformat(),
    }


def _trusted(tx: Transaction, directory: Directory, scope: Scope) -> list[Anchor]:
    own = reads.acme_anchors(tx, directory)
    found = [Anchor(each.der, Format(each.format)) for each in own]
    if scope.product is not None:
        found += attesting.anchors(tx, scope.product)
    return [anchor for anchor in found if anchor.format in FORMATS]


def _check_identity(
    tx: Transaction, scope: Scope, attested: Attested, asked: HardwareName, tenant_id: str
) -> None:
    if not attested.names(asked):
        raise Refused("attestation-mismatch", f"the hardware does not attest that it is {asked}")
    texts = [attesting.identifier_text(each) for each in attested.identifiers]
    holders = {reads.device_id_by_hardware(tx, tenant_id, each) for each in texts} - {None}
    if scope.device is not None:
        _check_own(tx, scope.device, holders, asked)
        return
    for holder in holders:
        device = reads.device(tx, tenant_id, holder or "")
        if device is None or device.state in (DeviceState.SUSPENDED, DeviceState.RETIRED):
            raise _unexpected(f"{asked} is a device that gets no certificates any more")
        if scope.product is not None and device.product_id != scope.product.id:
            raise _unexpected(f"{asked} is a device of another product than the account's")


def _check_own(
    tx: Transaction, device: Device, holders: set[str | None], asked: HardwareName
) -> None:
    """Expected hardware where the registry knows some, and else what bears the serial number."""
    if reads.expected_hardware(tx, device.tenant_id, device.id):
        is_own = holders == {device.id}
    else:
        text = asked.value if isinstance(asked, PermanentIdentifier) else asked.serial
        is_own = not holders and text in (device.serial_number, device.serial_number.encode())
    if not is_own:
        raise _unexpected(f"{asked} is not the hardware of the device that this account is for")


def _unexpected(detail: str) -> Refused:
    return Refused("attestation-unexpected", detail)


# Which roots a directory trusts


def add_anchors(
    db: Database, directory: Directory, kind: str, pem: bytes, *, by: str, now: dt.datetime
) -> list[str]:
    """Trust CA certificates to vouch for hardware of one format; their SHA-256 in hex.

    Raises BadInput `attestation-root`, Conflict `anchor-exists`.
    """
    rows = attesting.anchor_rows(kind, pem, FORMATS, now)

    def work(tx: Transaction) -> None:
        for row in rows:
            writes.add_acme_anchor(tx, directory, row, by=by)

    db.write(work)
    return [row.fingerprint for row in rows]


def remove_anchor(
    db: Database, directory: Directory, fingerprint: str, *, by: str, now: dt.datetime
) -> None:
    """Trust a root no longer, for whatever format. Raises NotFound `anchor-unknown`."""
    if not db.write(
        lambda tx: writes.remove_acme_anchor(tx, directory, fingerprint, by=by, at=now)
    ):
        raise NotFound(
            "anchor-unknown", f"directory {directory.name!r} trusts no root {fingerprint}"
        )
