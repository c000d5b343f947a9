"""Writing down what is about to be signed.

Laws: one public key belongs to one device, in the whole fleet and for ever; a certificate has one
successor; both are claimed in the transaction that records the intent, so two requests that race
cannot both win, on one node or on several.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence

import sqlalchemy as sa

from certmint.model.errors import CertmintError, Conflict
from certmint.model.keys import KeyOrigin
from certmint.model.serial import Serial
from certmint.registry import reads, rows, schema
from certmint.registry.compiled import Compiled
from certmint.registry.engine import Transaction
from certmint.registry.rows import Intent
from certmint.registry.statements import insert_if_absent, log

NAMED_SERIALS = 10  # in an audit event; of a longer call only the digest is kept

_CERTIFICATE = schema.certificate.c
_INSERT = Compiled(sa.insert(schema.intent))
_SUCCEEDED = (
    sa.update(schema.certificate)
    .where(
        _CERTIFICATE.tenant_id == sa.bindparam("of_tenant"),
        _CERTIFICATE.serial == sa.bindparam("of_serial"),
        _CERTIFICATE.successor.is_(None),
    )
    .values(successor=sa.bindparam("new_successor"))
)
_SUCCEED = Compiled(_SUCCEEDED.where(_CERTIFICATE.device_id == sa.bindparam("of_device")))
_SUCCEED_NO_DEVICE = Compiled(_SUCCEEDED.where(_CERTIFICATE.device_id.is_(None)))


def record_intents(
    tx: Transaction, intents: Sequence[Intent], origins: Mapping[str, KeyOrigin]
) -> dict[Serial, CertmintError]:
    """Record the intents of one call of the gate; those that may not be, by serial, and why.

    `origins` says by fingerprint who made each key. A refused intent is Conflict `key-reused` or
    `already-replaced`; the others are recorded. If the process dies after the commit, `reconcile`
    finds them.
    """
    if not intents:
        return {}
    refused = _claim_keys(tx, intents, origins)
    for intent in intents:
        if intent.serial not in refused and not _claim_predecessor(tx, intent):
            refused[intent.serial] = Conflict(
                "already-replaced",
                f"certificate {intent.replaces} has a successor already, or is not of this device",
            )
    recorded = [intent for intent in intents if intent.serial not in refused]
    if recorded:
        _INSERT.run(tx, [rows.intent_row(intent) for intent in recorded])
    for tenant_id, group in by_tenant(intents).items():
        kept = [intent.serial for intent in group if intent.serial not in refused]
        first = group[0]
        log(
            tx, "intents.recorded", tenant_id, first.call_id,
            by=first.requester, at=first.recorded_at,
            count=len(kept), refused=len(group) - len(kept), **digest_of_serials(kept),
        )  # fmt: skip
    return refused


def by_tenant(intents: Iterable[Intent]) -> dict[str, list[Intent]]:
    """The intents of each tenant, in order; in all but the oddest calls there is one tenant."""
    groups: dict[str, list[Intent]] = {}
    for intent in intents:
        groups.setdefault(intent.tenant_id, []).append(intent)
    return groups


def digest_of_serials(serials: Sequence[Serial]) -> dict[str, object]:
    """What an audit event says of many serials: SHA-256 of them all, and them if they are few."""
    said: dict[str, object] = {"digest": hashlib.sha256("".join(serials).encode()).hexdigest()}
    return said | {"serials": list(serials)} if len(serials) <= NAMED_SERIALS else said


def _claim_keys(
    tx: Transaction, intents: Sequence[Intent], origins: Mapping[str, KeyOrigin]
) -> dict[Serial, CertmintError]:
    first: dict[str, Intent] = {}
    for intent in intents:
        first.setdefault(intent.key_fingerprint, intent)
    claims = [
        {
            "fingerprint": fingerprint,
            "tenant_id": intent.tenant_id,
            "device_id": intent.device_id,
            "origin": origins[fingerprint].value,
            "blocked_at": None,
            "first_seen": intent.recorded_at,
        }
        for fingerprint, intent in first.items()
    ]
    if insert_if_absent(tx, schema.public_key, claims) == len(first) == len(intents):
        return {}  # every key is new: the usual case, and nothing to compare
    held = reads.key_records(tx, first)
    refused: dict[Serial, CertmintError] = {}
    for intent in intents:
        key = held[intent.key_fingerprint]
        if key.blocked:
            problem = "was reported compromised"
        elif (key.tenant_id, key.device_id) != (intent.tenant_id, intent.device_id):
            problem = "belongs to another device"
        else:
            continue
        refused[intent.serial] = Conflict(
            "key-reused",
            f"the public key {key.fingerprint[:16]}… {problem}: make a new key pair",
        )
    return refused


def _claim_predecessor(tx: Transaction, intent: Intent) -> bool:
    if intent.replaces is None:
        return True
    claim = {
        "of_tenant": intent.tenant_id,
        "of_serial": intent.replaces,
        "new_successor": intent.serial,
    }
    if intent.device_id is None:
        return _SUCCEED_NO_DEVICE.run(tx, claim) == 1
    return _SUCCEED.run(tx, claim | {"of_device": intent.device_id}) == 1
