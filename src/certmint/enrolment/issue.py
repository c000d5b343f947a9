"""The one gate: every certificate of every kind comes out of `Gate.issue`.

It takes a *sequence* of requests; one request is a sequence of one. The calls, in order, and
what a power cut between them leaves behind:

    facts      nothing
    decide     nothing (a refusal is written to the audit log)
    prepare    nothing
    record     intents: serials that `reconcile` will revoke
    sign       the same intents; the signatures die with the process
    store      the certificates, in one durable transaction with what they change
    release    everything; the caller asks again and is answered from the registry

No transaction is open while a key store works.
"""

import datetime as dt
import enum
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

from certmint.enrolment.facts import gather
from certmint.enrolment.signing import SigningKeys
from certmint.issuance.authority import Prepared
from certmint.model.entities import Certificate
from certmint.model.errors import CertmintError, Conflict, Refused
from certmint.model.evidence import EnrolmentSecret, Evidence
from certmint.model.request import CertificateRequest
from certmint.model.serial import RandomBytes, Serial
from certmint.policy.approval import Approval
from certmint.policy.decide import decide
from certmint.registry import audit, fibres, writes
from certmint.registry.documents import canonical
from certmint.registry.engine import Database, Transaction
from certmint.registry.rows import Intent

Outcome = Certificate | CertmintError
_ENROLMENT = "enrolment"  # the kind of label secret that a certificate is bought with
Along = Callable[[Transaction, Sequence[Certificate]], None]
Taking = Callable[[Transaction], None]


class Step(enum.StrEnum):
    """Where a call of the gate has come to; the crash test kills the process at each."""

    ENTERED = "entered"
    GATHERED = "gathered"
    DECIDED = "decided"
    PREPARED = "prepared"
    RECORDED = "recorded"
    SIGNED = "signed"
    STORED = "stored"
    RELEASED = "released"


def _carry_on(_: Step) -> None:
    """What happens between two steps outside of the crash test."""


class Gate:
    """Decide, write down the intent, sign, write down the result; then let go."""

    def __init__(
        self,
        db: Database,
        keys: SigningKeys,
        random_bytes: RandomBytes,
        reached: Callable[[Step], None] = _carry_on,
        replacing: set[str] | None = None,
    ) -> None:
        self._db = db
        self._keys = keys
        self._random = random_bytes
        self._reached = reached
        self._replacing: set[str] = set() if replacing is None else replacing

    def through(self, db: Database) -> "Gate":
        """The same gate for one request, which writes by its own handle of the database."""
        return Gate(db, self._keys, self._random, self._reached, self._replacing)

    @contextmanager
    def replacing(self, serial: str) -> Iterator[bool]:
        """Whether the caller is the first on this node to replace this certificate just now.

        It saves the others a try that the registry would end; the registry decides all the same.
        """
        is_first = serial not in self._replacing
        self._replacing.add(serial)
        try:
            yield is_first
        finally:
            if is_first:
                self._replacing.discard(serial)

    def issue(
        self,
        requests: Sequence[CertificateRequest],
        now: dt.datetime,
        along: Along | None = None,
        taking: Taking | None = None,
    ) -> list[Outcome]:
        """One outcome for each request, in order: the certificate, or why there is none.

        `taking` takes what the certificates are for (an order) in the transaction that records
        their intents, if there are any; what it raises ends the call, and nothing is recorded.
        `along` writes what else changes with the certificates (a device's state, an order's)
        in the very transaction that stores them. Raises Unavailable if the registry or a key
        store fails; then nothing was released, and `reconcile` tidies up.
        """
        self._reached(Step.ENTERED)
        with self._db.read() as tx:
            facts = gather(tx, requests)
        self._reached(Step.GATHERED)
        outcomes: dict[int, Outcome] = {}
        approved: list[tuple[int, Approval]] = []
        for place, (request, known) in enumerate(zip(requests, facts, strict=True)):
            try:
                approved.append((place, decide(request, known, now)))
            except Refused as refusal:
                outcomes[place] = refusal
        self._reached(Step.DECIDED)
        prepared = self._prepare(approved, now)
        self._reached(Step.PREPARED)
        recorded = self._record(requests, prepared, outcomes, now, taking)
        self._reached(Step.RECORDED)
        signed = self._sign(recorded)
        self._reached(Step.SIGNED)
        if signed:
            outcomes |= self._store(signed, now, along)
        self._reached(Step.STORED)
        released = [outcomes[place] for place in range(len(requests))]
        self._reached(Step.RELEASED)
        return released

    def issue_one(
        self,
        request: CertificateRequest,
        now: dt.datetime,
        along: Along | None = None,
        taking: Taking | None = None,
    ) -> Certificate:
        """`issue` for a sequence of one. Raises what refused it."""
        (outcome,) = self.issue([request], now, along, taking)
        if isinstance(outcome, CertmintError):
            raise outcome
        return outcome

    def check(self, request: CertificateRequest, now: dt.datetime) -> None:
        """Weigh a request without issuing anything. Raises Refused, and writes that down."""
        with self._db.read() as tx:
            (facts,) = gather(tx, [request])
        try:
            decide(request, facts, now)
        except Refused as refusal:
            refused = {0: refusal}
            self._db.write(lambda tx: _audit_refusals(tx, [request], refused, now))
            raise

    def _prepare(
        self, approved: Sequence[tuple[int, Approval]], now: dt.datetime
    ) -> list[tuple[int, Prepared]]:
        by_authority: dict[str, list[tuple[int, Approval]]] = {}
        for place, approval in approved:
            by_authority.setdefault(approval.authority.id, []).append((place, approval))
        ready: list[tuple[int, Prepared]] = []
        for group in by_authority.values():
            signer = self._keys.of(group[0][1].authority)
            made = signer.prepare([approval for _, approval in group], now, self._random)
            ready += zip((place for place, _ in group), made, strict=True)
        return ready

    def _record(
        self,
        requests: Sequence[CertificateRequest],
        prepared: Sequence[tuple[int, Prepared]],
        outcomes: dict[int, Outcome],
        now: dt.datetime,
        taking: Taking | None,
    ) -> list[tuple[int, Prepared, Intent]]:
        call_id = self._random(12).hex()
        rows = [(place, each, _intent(each, call_id, now)) for place, each in prepared]
        if not rows and not outcomes:
            return []

        def work(tx: Transaction) -> dict[int, CertmintError]:
            _audit_refusals(tx, requests, outcomes, now)
            if not rows:
                return {}
            origins = {
                each.approval.request.public_key.fingerprint: each.approval.request.key_origin
                for _, each, _ in rows
            }
            rejected = _spend_secrets(tx, rows, now)
            kept = [intent for _, _, intent in rows if intent.serial not in rejected]
            rejected |= writes.record_intents(tx, kept, origins)
            late = {
                place: rejected[intent.serial] for place, _, intent in rows
                if intent.serial in rejected
            }  # fmt: skip
            _audit_refusals(tx, requests, late, now)
            if taking is not None and len(late) < len(rows):
                taking(tx)
            return late

        late = self._db.write(work)  # durable from here: if we die now, `reconcile` revokes these
        outcomes.update(late)
        return [row for row in rows if row[0] not in late]

    def _sign(
        self, recorded: Sequence[tuple[int, Prepared, Intent]]
    ) -> list[tuple[int, Intent, bytes]]:
        by_authority: dict[str, list[tuple[int, Prepared, Intent]]] = {}
        for row in recorded:
            by_authority.setdefault(row[2].authority_id, []).append(row)
        signed: list[tuple[int, Intent, bytes]] = []
        for group in by_authority.values():
            signer = self._keys.of(group[0][1].approval.authority)
            work = partial(signer.sign, [each for _, each, _ in group])
            # Hardware takes its time, and must not hold up everybody else on the event loop.
            certificates = work() if signer.is_software else fibres.aside(None, work)
            signed += [
                (place, intent, der)
                for (place, _, intent), der in zip(group, certificates, strict=True)
            ]
        return signed

    def _store(
        self,
        signed: Sequence[tuple[int, Intent, bytes]],
        now: dt.datetime,
        along: Along | None,
    ) -> dict[int, Certificate]:
        issued = {place: _certificate(intent, der, now) for place, intent, der in signed}

        def work(tx: Transaction) -> None:
            writes.record_issued(tx, [(intent, der) for _, intent, der in signed], now)
            if along is not None:
                along(tx, list(issued.values()))

        self._db.write(work)
        return issued


def _spend_secrets(
    tx: Transaction, rows: Sequence[tuple[int, Prepared, Intent]], now: dt.datetime
) -> dict[Serial, CertmintError]:
    """Spend the one-time secrets of these requests; of two at once, one finds it spent."""
    refused: dict[Serial, CertmintError] = {}
    for _, each, intent in rows:
        if not any(isinstance(p, EnrolmentSecret) for p in each.approval.request.evidence):
            continue
        if intent.device_id is None or not writes.spend_label_secret(
            tx, intent.tenant_id, intent.device_id, _ENROLMENT, intent.serial, now
        ):
            refused[intent.serial] = Conflict(
                "secret-spent", "the enrolment secret was spent by another request: it serves once"
            )
    return refused


def _intent(prepared: Prepared, call_id: str, now: dt.datetime) -> Intent:
    approval = prepared.approval
    request = approval.request
    return Intent(
        serial=prepared.serial,
        authority_id=approval.authority.id,
        tenant_id=request.tenant_id,
        profile=request.profile.name,
        profile_version=request.profile.version,
        purpose=request.profile.purpose,
        device_id=request.device_id,
        subject=str(request.subject),
        names=tuple(map(str, request.names)),
        key_fingerprint=request.public_key.fingerprint,
        not_before=approval.not_before,
        not_after=approval.not_after,
        crl_shard=prepared.shard,
        requester=str(request.requester),
        evidence=describe(request.evidence),
        rules=" ".join(approval.rules),
        calendar=approval.calendar,
        tbs=prepared.tbs,
        call_id=call_id,
        recorded_at=now,
        replaces=request.replaces,
    )


def _certificate(intent: Intent, der: bytes, now: dt.datetime) -> Certificate:
    return Certificate(
        serial=intent.serial,
        authority_id=intent.authority_id,
        tenant_id=intent.tenant_id,
        profile=intent.profile,
        profile_version=intent.profile_version,
        purpose=intent.purpose,
        device_id=intent.device_id,
        subject=intent.subject,
        names=intent.names,
        key_fingerprint=intent.key_fingerprint,
        not_before=intent.not_before,
        not_after=intent.not_after,
        issued_at=now,
        crl_shard=intent.crl_shard,
        der=der,
    )


def describe(evidence: Iterable[Evidence]) -> str:
    """Evidence as canonical JSON for the record: kinds and facts, never a secret."""
    pieces = [
        {"kind": piece.kind} | {name: getattr(piece, name) for name in piece.__match_args__}
        for piece in evidence
    ]
    return canonical(pieces, otherwise=str)


def _audit_refusals(
    tx: Transaction,
    requests: Sequence[CertificateRequest],
    outcomes: Mapping[int, Outcome],
    now: dt.datetime,
) -> None:
    # One event a tenant and call, however many were refused: an attacker who is refused a
    # thousand times in one call writes one row.
    by_tenant: dict[str, list[tuple[CertificateRequest, CertmintError]]] = {}
    for place, outcome in outcomes.items():
        if isinstance(outcome, CertmintError):
            request = requests[place]
            by_tenant.setdefault(request.tenant_id, []).append((request, outcome))
    for tenant_id, refused in by_tenant.items():
        request, first = refused[0]
        audit.append(
            tx,
            audit.Event(
                at=now,
                tenant_id=tenant_id,
                actor=str(request.requester),
                action="certificate.refused",
                subject=request.device_id or request.authority_id,
                detail={
                    "codes": dict(Counter(error.code for _, error in refused)),
                    "first": first.detail,
                    "names": [str(name) for name in request.names],
                },
            ),
        )
