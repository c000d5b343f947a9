"""A whole batch into a folder: keys under way, packages, the signed result."""

import contextlib
import datetime as dt
import hashlib
from collections.abc import Callable
from pathlib import Path

from certmint.enrolment import batches
from certmint.enrolment.batches import Line, Refusal
from certmint.enrolment.issue import Gate
from certmint.enrolment.packages import PackageFormat, PackageWriter, replace_file
from certmint.enrolment.results import signed_result
from certmint.enrolment.spool import Spool
from certmint.model.entities import Batch, Manufacturer
from certmint.model.errors import Refused, Unavailable
from certmint.model.pbes2 import batch_cipher
from certmint.model.serial import RandomBytes
from certmint.model.states import BatchState, DeviceState
from certmint.registry import reads
from certmint.registry.engine import Database

RESULT_FILE = "result.csv"
SIGNATURE_FILE = "result.csv.p7s"


def mint_into(
    db: Database,
    gate: Gate,
    tenant: Manufacturer,
    batch: Batch,
    folder: Path,
    form: PackageFormat,
    passphrase: bytes,
    *,
    clock: Callable[[], dt.datetime],
    random_bytes: RandomBytes,
    progress: Callable[[int], None],
) -> list[Refusal]:
    """Mint what is left of a batch, write the signed result; the devices that were refused.

    An empty `passphrase` leaves keys plain. `progress` hears how many devices were done before,
    then of each chunk; what it raises stops the work between two chunks, and nothing is lost.
    Raises Refused `batch-finished`, BadInput `batch-folder` or `passphrase-wrong`, Conflict
    `batch-locked` or `batch-elsewhere`, Unavailable `package-folder` when the folder cannot be
    written; after that a package is whole or not there, and minting again goes on.
    """
    if batch.state is BatchState.FINISHED:
        raise Refused("batch-finished", f"batch {batch.id} is finished; nothing is left to mint")
    # The salt follows from the batch, so that a resumed run derives the same key; no two batches
    # share one.
    salt = hashlib.sha256(batch.id.encode()).digest()[:16]
    cipher = batch_cipher(passphrase, salt) if passphrase else None
    try:
        with contextlib.closing(Spool(folder, batch.id, cipher, random_bytes)) as spool:
            line = batches.open_line(
                db, gate, tenant, batch,
                station=spool.station, clock=clock, random_bytes=random_bytes,
            )  # fmt: skip
            writer = PackageWriter(
                folder=folder,
                format=form,
                identity_chain=batches.chain_of(db, tenant, line.product.identity_authority_id),
                service_chain=batches.chain_of(db, tenant, line.product.service_authority_id),
                random_bytes=random_bytes,
                cipher=cipher,
                passphrase=passphrase,
            )
            return _mint(line, batch, writer, spool, progress)
    except BrokenPipeError:
        raise  # of somebody who listened to the progress
    except OSError as error:
        raise Unavailable(
            "package-folder",
            f"the folder {folder} cannot be written: {error.strerror}; nothing is lost, mend that "
            "and resume there",
        ) from None


def _mint(
    line: Line,
    batch: Batch,
    writer: PackageWriter,
    spool: Spool,
    progress: Callable[[int], None],
) -> list[Refusal]:
    with line.db.read() as tx:
        counts = reads.count_devices_by_state(tx, line.tenant.id, batch.id)
    done = batch.size - counts.get(DeviceState.EXPECTED, 0)
    batches.refuse_other_folder(spool.begun, done - counts.get(DeviceState.RETIRED, 0))
    progress(done)
    refused = batches.mint(line, batch, writer, spool, progress)
    running = batches.batch_of(line.db, line.tenant, batch.id)
    result = signed_result(line, running, refused)
    replace_file(writer.folder / RESULT_FILE, result.document)
    replace_file(writer.folder / SIGNATURE_FILE, result.signature)
    if not refused:
        batches.finish(line, running)
    return refused
