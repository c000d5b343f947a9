"""Factory batches: a manifest in, a package for each device out; resumable at any line.

For each chunk of devices the private keys are written to a spool first, then the certificates go
through the gate, then the packages are written, then the spool is dropped. After a crash the
spool says which keys are waiting and the registry says which of them are certified already, so
that every serial number leaves exactly once, with exactly one identity.
"""

import datetime as dt
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives import serialization

from certmint.enrolment import chains
from certmint.enrolment.attesting import parse_identifier
from certmint.enrolment.authorities import profile_named
from certmint.enrolment.issue import Gate, Outcome
from certmint.enrolment.keygen import make_key, pkcs8_of
from certmint.enrolment.manufacturers import new_id
from certmint.enrolment.packages import Package, PackageWriter, overwrite_file, sync_folder
from certmint.enrolment.spool import Chunk, Spool, undisturbed
from certmint.model.entities import Batch, Certificate, Device, Manufacturer, Product
from certmint.model.errors import BadInput, CertmintError, Conflict, NotFound
from certmint.model.evidence import BatchLine
from certmint.model.keys import KeyKind, KeyOrigin, PublicKey, public_key_of
from certmint.model.manifest import Manifest
from certmint.model.profile import Profile, Purpose
from certmint.model.request import CertificateRequest, HeldKey, Requester, RequesterKind
from certmint.model.serial import RandomBytes
from certmint.model.states import BatchEvent, BatchState, DeviceEvent, DeviceState
from certmint.model.subject import DistinguishedName
from certmint.registry import audit, reads, writes
from certmint.registry.engine import Database, Transaction

CHUNK = 500  # devices whose keys wait in the spool; two certificates each share one commit
LEASE = dt.timedelta(minutes=2)


@dataclass(frozen=True)
class KeyedDevice:
    """A device and the key pair that was made for it; `pkcs8` is DER, not encrypted."""

    device: Device
    key: PublicKey
    pkcs8: bytes = field(repr=False)


@dataclass(frozen=True)
class Refusal:
    """A device that got nothing, and why."""

    serial_number: str
    code: str
    detail: str


@dataclass(frozen=True)
class Line:
    """Where and how a batch is minted: the product's choices, and the time and chance to use.

    A service profile that accepts no factory-made keys (a public one never does) is left to the
    device: it makes its own key at first boot, and leaves the factory with its identity alone.
    """

    db: Database
    gate: Gate
    tenant: Manufacturer
    product: Product
    identity: Profile
    service: Profile
    station: str
    clock: Callable[[], dt.datetime]
    random_bytes: RandomBytes

    @property
    def certifies_service(self) -> bool:
        return KeyOrigin.FACTORY in self.service.key_origins

    @property
    def profiles(self) -> tuple[Profile, ...]:
        """What each device is certified under, here."""
        return (self.identity, self.service) if self.certifies_service else (self.identity,)


def open_line(
    db: Database,
    gate: Gate,
    tenant: Manufacturer,
    batch: Batch,
    *,
    station: str,
    clock: Callable[[], dt.datetime],
    random_bytes: RandomBytes,
) -> Line:
    """Everything that minting a batch needs. Raises NotFound `product-unknown`."""
    with db.read() as tx:
        product = reads.product(tx, tenant.id, batch.product_id)
        if product is None:
            raise NotFound("product-unknown", f"batch {batch.id} is of an unknown product")
        identity = profile_named(tx, tenant.id, product.identity_profile)
        service = profile_named(tx, tenant.id, product.service_profile)
    return Line(db, gate, tenant, product, identity, service, station, clock, random_bytes)


def submit(
    db: Database,
    tenant: Manufacturer,
    product: Product,
    manifest: Manifest,
    *,
    by: str,
    now: dt.datetime,
    random_bytes: RandomBytes,
) -> Batch:
    """Take a manifest: its devices become EXPECTED, all of them or none.

    The same manifest for the same product is the same batch. Raises Conflict `device-exists`
    when a serial number or label belongs to an earlier batch, or `hardware-taken`; BadInput
    `manifest-syntax` when no certificate can carry one, or `hardware-syntax`.
    """
    with db.read() as tx:
        known = reads.batch_by_manifest(tx, tenant.id, product.id, manifest.hash)
    if known is not None:
        return known
    batch = Batch(
        id=new_id("bat", now, random_bytes),
        tenant_id=tenant.id,
        product_id=product.id,
        manifest_hash=manifest.hash,
        size=len(manifest.lines),
        state=BatchState.DRAFT,
        created_at=now,
    )
    devices = [
        Device(
            id=new_id("dev", now, random_bytes),
            tenant_id=tenant.id,
            product_id=product.id,
            serial_number=line.serial_number,
            label=line.label,
            mac=line.mac,
            state=DeviceState.EXPECTED,
            batch_id=batch.id,
            line=line.line,
            owner_id=None,
            created_at=now,
        )
        for line in manifest.lines
    ]
    for device in devices:
        _check_nameable(tenant, product, device)
    expected = [
        (device.id, parse_identifier(line.attestation_id))
        for device, line in zip(devices, manifest.lines, strict=True)
        if line.attestation_id
    ]

    def work(tx: Transaction) -> None:
        writes.add_batch(tx, batch, by=by, at=now)
        writes.add_devices(tx, devices, by=by, at=now)
        for device_id, name in expected:
            writes.expect_hardware(tx, tenant.id, device_id, name, by=by, at=now)

    db.write(work)
    return batch


def _check_nameable(tenant: Manufacturer, product: Product, device: Device) -> None:
    # Found here, a bad name refuses a manifest; found while minting, it would stop the line.
    try:
        product.names_of(device.label)
        identity_subject(tenant, device)
    except BadInput as problem:
        raise BadInput("manifest-syntax", f"line {device.line}: {problem}") from None


def mint(
    line: Line,
    batch: Batch,
    writer: PackageWriter,
    spool: Spool,
    progress: Callable[[int], None],
) -> list[Refusal]:
    """Mint every device of the batch that has no package yet; the ones that were refused.

    `progress` is told how many devices each chunk finished. Raises Conflict `batch-elsewhere`
    when another station is at it; an interrupt between chunks loses nothing.
    """
    _hold(line, batch)
    spool.begin()
    if batch.state is BatchState.DRAFT:
        _move(line, batch, BatchEvent.STARTED)
    refused: dict[str, Refusal] = {}
    for waiting in spool.chunks():
        keyed = _reload(line, waiting)
        refused |= _through(line, batch, keyed, spool, waiting, writer, again=True)
        progress(len(waiting.keys))
    for devices in _expected(line, batch):
        keyed = [_make(device) for device in devices if device.id not in refused]
        if not keyed:
            continue
        # Durable before anything is signed: from here on these keys are the devices'.
        chunk = spool.put(
            keyed[0].device.line or 0, [(each.device.id, each.pkcs8) for each in keyed]
        )
        refused |= _through(line, batch, keyed, spool, chunk, writer)
        progress(len(keyed))
    return list(refused.values())


def finish(line: Line, batch: Batch) -> None:
    """Mark the batch as FINISHED. Raises WrongState `wrong-state` unless it runs."""
    _move(line, batch, BatchEvent.COMPLETED)


def _through(
    line: Line,
    batch: Batch,
    keyed: Sequence[KeyedDevice],
    spool: Spool,
    chunk: Chunk,
    writer: PackageWriter,
    *,
    again: bool = False,
) -> dict[str, Refusal]:
    """One chunk from keys to packages; what was refused, by device id, stays in the spool."""
    _hold(line, batch)
    refused = _finish_chunk(line, batch, keyed, writer, again=again)
    spool.keep(chunk, frozenset(refused))
    return refused


def _expected(line: Line, batch: Batch) -> Iterator[list[Device]]:
    after = 0
    while True:
        with line.db.read() as tx:
            devices = reads.batch_devices(
                tx, line.tenant.id, batch.id,
                state=DeviceState.EXPECTED, after_line=after, limit=CHUNK,
            )  # fmt: skip
        if not devices:
            return
        yield devices
        after = devices[-1].line or after


def _hold(line: Line, batch: Batch) -> None:
    now = line.clock()
    name = f"batch:{batch.id}"
    if not line.db.write(lambda tx: writes.take_lease(tx, name, line.station, now, now + LEASE)):
        raise Conflict(
            "batch-elsewhere",
            f"batch {batch.id} is being minted by another station: "
            f"wait {LEASE.seconds // 60} minutes after it stops",
        )


def _make(device: Device) -> KeyedDevice:
    private = make_key(KeyKind.P256)
    return KeyedDevice(device, public_key_of(private), pkcs8_of(private))


def _reload(line: Line, waiting: Chunk) -> list[KeyedDevice]:
    with line.db.read() as tx:
        devices = reads.devices_by_id(tx, line.tenant.id, [key[0] for key in waiting.keys])
    keyed = []
    for device_id, pkcs8 in waiting.keys:
        if devices[device_id].state is DeviceState.RETIRED:
            continue  # it will never have a package: its key is dropped with the chunk
        private = serialization.load_der_private_key(pkcs8, None)
        keyed.append(
            KeyedDevice(devices[device_id], public_key_of(private), pkcs8)  # type: ignore[arg-type]
        )
    return keyed


def _finish_chunk(
    line: Line,
    batch: Batch,
    keyed: Sequence[KeyedDevice],
    writer: PackageWriter,
    *,
    again: bool,
) -> dict[str, Refusal]:
    """Certify what is not certified yet, then write the packages; refusals by device id."""
    held, refused = _held_certificates(line, keyed)
    missing = [
        (each, profile)
        for each in keyed
        for profile in line.profiles
        if each.device.id not in refused and (each.device.id, profile.purpose) not in held
    ]
    requests = [_request(line, batch, each, profile) for each, profile in missing]

    def along(tx: Transaction, issued: Sequence[Certificate]) -> None:
        complete = _complete(line, keyed, held, issued)
        moved = writes.move_devices(
            tx, line.tenant.id, complete, DeviceState.EXPECTED, DeviceEvent.MINTED,
            by=f"station:{line.station}", at=line.clock(),
        )  # fmt: skip
        if moved != len(complete):  # our lease ended while the key store worked
            raise Conflict(
                "batch-elsewhere",
                f"devices of batch {batch.id} were minted or retired by somebody else meanwhile: "
                "nothing was released here",
            )

    outcomes: list[Outcome] = line.gate.issue(requests, line.clock(), along) if requests else []
    for (each, profile), outcome in zip(missing, outcomes, strict=True):
        if isinstance(outcome, CertmintError):
            refused[each.device.id] = Refusal(
                each.device.serial_number, outcome.code, outcome.detail
            )
        else:
            held[each.device.id, profile.purpose] = outcome
    writer.write(
        [
            Package(
                each.device.serial_number,
                each.pkcs8,
                held[each.device.id, Purpose.IDENTITY].der,
                held[each.device.id, Purpose.SERVICE].der if line.certifies_service else b"",
            )
            for each in keyed
            if each.device.id not in refused
        ],
        again=again,
    )
    return refused


def _held_certificates(
    line: Line, keyed: Sequence[KeyedDevice]
) -> tuple[dict[tuple[str, Purpose], Certificate], dict[str, Refusal]]:
    """Good certificates that an earlier run has left for these very keys.

    And, by device id, who has an identity for another key: it must not get a second one.
    """
    with line.db.read() as tx:
        issued = reads.batch_certificates(tx, line.tenant.id, [each.device.id for each in keyed])
    found, refused = {}, {}
    for each in keyed:
        for certificate in issued.get(each.device.id, []):
            if certificate.revocation is not None:
                continue
            if certificate.key_fingerprint == each.key.fingerprint:
                found[each.device.id, certificate.purpose] = certificate
            elif certificate.purpose is Purpose.IDENTITY:
                refused[each.device.id] = Refusal(
                    each.device.serial_number,
                    "device-minted",
                    "the device has an identity for a key that is in another folder: resume there",
                )
    return found, refused


def _complete(
    line: Line,
    keyed: Sequence[KeyedDevice],
    held: Mapping[tuple[str, Purpose], Certificate],
    issued: Sequence[Certificate],
) -> list[str]:
    now_held = set(held) | {(each.device_id, each.purpose) for each in issued}
    return [
        each.device.id
        for each in keyed
        if each.device.state is DeviceState.EXPECTED
        and all((each.device.id, profile.purpose) in now_held for profile in line.profiles)
    ]


def _request(line: Line, batch: Batch, each: KeyedDevice, profile: Profile) -> CertificateRequest:
    device, product = each.device, line.product
    identity = profile.purpose is Purpose.IDENTITY
    return CertificateRequest(
        tenant_id=line.tenant.id,
        authority_id=(product.identity_authority_id if identity else product.service_authority_id),
        profile=profile,
        key=HeldKey(each.key, KeyOrigin.FACTORY),
        requester=Requester(RequesterKind.STATION, line.station),
        evidence=(BatchLine(batch.id, device.line or 0, batch.manifest_hash),),
        subject=identity_subject(line.tenant, device) if identity else DistinguishedName(),
        names=() if identity else product.names_of(device.label),
        device_id=device.id,
    )


def identity_subject(tenant: Manufacturer, device: Device) -> DistinguishedName:
    """An IDevID's subject: the maker, and the device's serial number (802.1AR 8.6)."""
    fields = {kind: value for kind, value in tenant.subject.attributes if kind in ("C", "O")}
    return DistinguishedName.of(**fields, serialNumber=device.serial_number)


def _move(line: Line, batch: Batch, event: BatchEvent) -> None:
    line.db.write(
        lambda tx: writes.move_batch(
            tx, line.tenant.id, batch.id, batch.state, event,
            by=f"station:{line.station}", at=line.clock(),
        )
    )  # fmt: skip


def batch_of(db: Database, tenant: Manufacturer, batch_id: str) -> Batch:
    """Raises NotFound `batch-unknown`."""
    with db.read() as tx:
        found = reads.batch(tx, tenant.id, batch_id)
    if found is None:
        raise NotFound("batch-unknown", f"there is no batch {batch_id!r}")
    return found


def drop_packages(
    db: Database, tenant: Manufacturer, batch_id: str, path: Path, *, by: str, now: dt.datetime
) -> None:
    """Forget the packages of a batch on this node, once the line has them; it is written down.

    Not while it is minted: what went on being written to a file without a name would be devices
    without a key. Raises Conflict `batch-locked`.
    """
    event = audit.Event(now, tenant.id, by, "packages.dropped", batch_id)
    with undisturbed(path.parent):
        db.write(lambda tx: audit.append(tx, event))
        overwrite_file(path)
        path.unlink()
        sync_folder(path.parent)


def chain_of(db: Database, tenant: Manufacturer, authority_id: str) -> list[bytes]:
    """The CAs above a leaf of this authority in DER, nearest first, without the root."""
    with db.read() as tx:
        return [link.der for link in chains.intermediates(tx, tenant.id, authority_id)]


def refuse_other_folder(begun: bool, provisioned: int) -> None:
    """A batch continues in the folder that holds its keys, or not at all."""
    if provisioned and not begun:
        raise BadInput(
            "batch-folder",
            f"{provisioned} devices of this batch are minted already, and their keys are in "
            "another folder: resume there",
        )
