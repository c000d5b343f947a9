"""Requests of devices that wait for an operator (RFC 7030 4.2.3).

A product may want an operator's approval in some situations. The gate weighs everything else
first, so nobody waits for a certificate that would be refused anyway, and only who proved enough
gets a row here. Laws: a device, a wish and a key are one request, so the same request, asked again
at any node and after any restart, finds what was decided; an approval buys one certificate, and is
used in the transaction that stores it; requests are bounded for a device and a manufacturer, and
end after a week. Factory, ACME and operators themselves wait for nobody.
"""

import datetime as dt
import hashlib
from dataclasses import dataclass, field

from certmint.enrolment.devices import DeviceView
from certmint.enrolment.manufacturers import new_id
from certmint.model.csr import CSR
from certmint.model.entities import DeviceRequest, Wish
from certmint.model.errors import NotFound, Pending, Refused, TooOften
from certmint.model.evidence import ApprovedRequest
from certmint.model.request import Asker
from certmint.model.serial import Serial
from certmint.model.states import RequestEvent, RequestState
from certmint.registry import reads, writes
from certmint.registry.engine import Database, Transaction

LIFE = dt.timedelta(days=7)
PER_DEVICE = 3
PER_MANUFACTURER = 10_000
_RETRY_S = (60, 3600)  # whoever has waited long may wait longer
_FULL_RETRY_S = 3600


@dataclass(frozen=True)
class Wanted:
    """What a device wants. `csr` is the DER that is to be certified, empty if a key is made."""

    wish: Wish
    key_fingerprint: str = ""
    csr: bytes = field(default=b"", repr=False)

    @classmethod
    def certificate(cls, csr: CSR) -> "Wanted":
        """A certificate for the CSR's key."""
        return cls(Wish.CERTIFICATE, csr.key.fingerprint, csr.der)


@dataclass(frozen=True)
class Waiting:
    """A request as an operator sees it."""

    request: DeviceRequest
    serial_number: str


def standing(
    db: Database, target: DeviceView, wanted: Wanted, now: dt.datetime
) -> DeviceRequest | None:
    """The approved request that this is; None if nobody was asked, or nobody has to be.

    Raises Pending `request-pending`, Refused `request-rejected`.
    """
    if not target.product.approval:
        return None
    found = _found(db, target, wanted)
    if found is None or now >= found.expires_at or found.state is RequestState.DONE:
        return None
    if found.state is RequestState.REJECTED:
        raise Refused(
            "request-rejected",
            f"an operator rejected request {found.id}; it may be made again from "
            f"{found.expires_at.date().isoformat()} on",
        )
    if found.state is RequestState.PENDING:
        raise _pending(found, now)
    return found


def wait(
    db: Database, target: DeviceView, wanted: Wanted, asker: Asker, why: Refused, now: dt.datetime
) -> Pending:
    """Remember a request that only an operator's approval is missing for; the error to answer with.

    If the power fails before it is durable, the device has no answer, and asks again. Raises
    TooOften `requests-full`.
    """
    device = target.device
    about = f"{device.id} {wanted.wish} {wanted.key_fingerprint}".encode()
    made = DeviceRequest(
        id=new_id("req", now, lambda size: hashlib.sha256(about).digest()[:size]),
        tenant_id=device.tenant_id,
        device_id=device.id,
        wish=wanted.wish,
        key_fingerprint=wanted.key_fingerprint,
        csr=wanted.csr,
        requester=str(asker.requester),
        evidence=tuple(sorted({piece.kind.value for piece in asker.evidence})),
        source=asker.source,
        reason=why.detail,
        state=RequestState.PENDING,
        created_at=now,
        expires_at=now + LIFE,
    )

    def work(tx: Transaction) -> bool:
        _refuse_more(tx, target, now)
        return writes.add_device_request(tx, made, by=str(asker.requester))

    if db.write(work):
        return _pending(made, now)
    return _pending(_found(db, target, wanted) or made, now)


def approval(request: DeviceRequest, now: dt.datetime) -> ApprovedRequest:
    """What the gate is shown of an approved request."""
    key = request.key_fingerprint if request.wish is Wish.CERTIFICATE else ""
    return ApprovedRequest(request.id, request.device_id, key, request.decided_by or "", now)


def use(tx: Transaction, request: DeviceRequest, serial: Serial, now: dt.datetime) -> None:
    """The approval has bought a certificate. Raises Conflict `request-changed`.

    Runs where the certificate is stored: if the power fails before, the approval still stands.
    """
    writes.move_device_request(
        tx, request.tenant_id, request, RequestEvent.USED,
        by=request.requester, at=now, until=request.expires_at, serial=serial,
    )  # fmt: skip


def requests(
    db: Database,
    tenant_id: str,
    now: dt.datetime,
    *,
    state: RequestState | None = RequestState.PENDING,
    after: str = "",
    limit: int = 100,
) -> list[Waiting]:
    """What devices asked for, oldest first; `after` is the last id of the page before."""
    with db.read() as tx:
        found = reads.device_requests(tx, tenant_id, now, state=state, after=after, limit=limit)
        devices = reads.devices_by_id(tx, tenant_id, {each.device_id for each in found})
    return [Waiting(each, devices[each.device_id].serial_number) for each in found]


def decide(
    db: Database, tenant_id: str, request_id: str, event: RequestEvent, *, by: str,
    now: dt.datetime,
) -> Waiting:  # fmt: skip
    """Approve or reject a request; from then on that counts for a week.

    An approval can be taken back until it is used, and a rejection, too. Raises NotFound
    `request-unknown`, WrongState `wrong-state`, Conflict `request-changed`.
    """
    with db.read() as tx:
        found = reads.device_request(tx, tenant_id, request_id)
    if found is None or now >= found.expires_at:
        raise NotFound(
            "request-unknown", f"no request {request_id!r} waits: see `certmint device requests`"
        )
    until = now + LIFE
    db.write(
        lambda tx: writes.move_device_request(
            tx, tenant_id, found, event, by=by, at=now, until=until
        )
    )
    with db.read() as tx:
        moved = reads.device_request(tx, tenant_id, request_id)
        device = reads.device(tx, tenant_id, found.device_id)
    return Waiting(moved or found, device.serial_number if device else "")


def _found(db: Database, target: DeviceView, wanted: Wanted) -> DeviceRequest | None:
    with db.read() as tx:
        return reads.device_request_for(
            tx, target.device.tenant_id, target.device.id, wanted.wish, wanted.key_fingerprint
        )


def _refuse_more(tx: Transaction, target: DeviceView, now: dt.datetime) -> None:
    device = target.device
    if reads.count_device_requests(tx, device.tenant_id, now, device.id) >= PER_DEVICE:
        raise TooOften(
            "requests-full",
            f"device {device.serial_number} has {PER_DEVICE} requests with an operator already: "
            "repeat one of them, with its own key",
            _FULL_RETRY_S,
        )
    if reads.count_device_requests(tx, device.tenant_id, now) >= PER_MANUFACTURER:
        raise TooOften(
            "requests-full",
            f"{PER_MANUFACTURER} requests wait for this manufacturer's operators already",
            _FULL_RETRY_S,
        )


def _pending(request: DeviceRequest, now: dt.datetime) -> Pending:
    least, most = _RETRY_S
    waited = int((now - request.created_at).total_seconds())
    return Pending(
        "request-pending",
        f"request {request.id} waits for an operator: send it again, with the same key",
        max(least, min(waited // 4, most)),
    )
