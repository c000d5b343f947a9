"""Private keys of a chunk, on disk before any certificate is asked for.

One file a chunk, written complete or not at all. Where the batch's packages are encrypted the
spool is too, under the same key. It lives inside the batch's folder, and a lock on that folder
keeps a second process of the same machine out.
"""

import base64
import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from certmint.enrolment.packages import overwrite_file, replace_file, sync_folder
from certmint.model import der
from certmint.model.errors import BadInput, Conflict
from certmint.model.pbes2 import BatchCipher
from certmint.model.serial import RandomBytes

_CHECK = der.sequence()  # sealed in the spool, to notice another passphrase on resuming


@dataclass(frozen=True)
class Chunk:
    """Keys that wait for their packages: (device id, PKCS#8 in DER)."""

    path: Path
    keys: tuple[tuple[str, bytes], ...] = field(repr=False)


@contextlib.contextmanager
def undisturbed(folder: Path) -> Iterator[None]:
    """Keep everybody from minting into a batch's folder. Raises Conflict `batch-locked`."""
    (folder / ".spool").mkdir(exist_ok=True, mode=0o700)
    lock = os.open(folder / ".spool" / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        _take(lock, folder)
        yield
    finally:
        os.close(lock)


def _take(lock: int, folder: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise Conflict(
            "batch-locked", f"another process is minting into {folder}: wait for it"
        ) from None


class Spool:
    """The spool of one batch in one folder.

    Raises Conflict `batch-locked`, BadInput `batch-folder`.
    """

    def __init__(
        self, folder: Path, batch_id: str, cipher: BatchCipher | None, random_bytes: RandomBytes
    ) -> None:
        self._folder = folder / ".spool"
        self._batch_id = batch_id
        self._cipher = cipher
        self._random = random_bytes
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder.mkdir(exist_ok=True, mode=0o700)
        for new in (folder.parent, folder):
            sync_folder(new)  # keys in a folder whose name is lost are lost with it
        self._lock = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            self._take_lock()
            self.station = self._identity()
        except BaseException:
            self.close()
            raise

    @property
    def begun(self) -> bool:
        """Whether this folder is the one that holds the batch."""
        return self._station_file.exists()

    @property
    def _station_file(self) -> Path:
        return self._folder / "station.json"

    def _take_lock(self) -> None:
        _take(self._lock, self._folder.parent)
        for leftover in self._folder.glob("gone-*"):
            leftover.unlink()  # the power failed between overwriting and unlinking

    def _identity(self) -> str:
        """The name under which this folder holds the batch's lease, the same after a crash."""
        if not self.begun:
            return self._random(8).hex()
        known = json.loads(self._station_file.read_bytes())
        if known["batch"] != self._batch_id:
            raise BadInput(
                "batch-folder",
                f"{self._folder.parent} belongs to batch {known['batch']}: choose another folder",
            )
        sealed = base64.b64decode(known["check"])
        if (sealed == _CHECK) != (self._cipher is None):
            raise BadInput(
                "passphrase-wrong", "the batch was begun with another choice of key encryption"
            )
        if self._open(sealed) != _CHECK:  # a wrong key decrypts it to some DER, now and then
            raise BadInput("passphrase-wrong", "the passphrase is not the one of this batch")
        return str(known["station"])

    def begin(self) -> None:
        """Make this the folder that holds the batch; only for who has the batch's lease."""
        if self.begun:
            return
        check = base64.b64encode(self._seal(_CHECK)).decode()
        known = {"batch": self._batch_id, "station": self.station, "check": check}
        replace_file(self._station_file, json.dumps(known).encode())

    def put(self, first_line: int, keys: Sequence[tuple[str, bytes]]) -> Chunk:
        """Make keys durable."""
        path = self._folder / f"keys-{first_line:08d}.json"
        replace_file(path, self._sealed(keys))
        return Chunk(path, tuple(keys))

    def chunks(self) -> Iterator[Chunk]:
        """What a crash has left behind, in the order of the manifest."""
        for path in sorted(self._folder.glob("keys-*.json")):
            sealed = json.loads(path.read_bytes())
            yield Chunk(
                path,
                tuple((device_id, self._open(base64.b64decode(key))) for device_id, key in sealed),
            )

    def keep(self, chunk: Chunk, device_ids: frozenset[str]) -> None:
        """Forget the keys whose packages are durable; those of `device_ids` wait on."""
        waiting = [key for key in chunk.keys if key[0] in device_ids]
        if waiting:
            replace_file(chunk.path, self._sealed(waiting))
            return
        gone = chunk.path.rename(chunk.path.with_name(f"gone-{chunk.path.name}"))
        overwrite_file(gone)
        gone.unlink()
        sync_folder(self._folder)

    def close(self) -> None:
        """Let another process in."""
        os.close(self._lock)

    def _sealed(self, keys: Sequence[tuple[str, bytes]]) -> bytes:
        return json.dumps(
            [[device_id, base64.b64encode(self._seal(pkcs8)).decode()] for device_id, pkcs8 in keys]
        ).encode()

    def _seal(self, pkcs8: bytes) -> bytes:
        return self._cipher.encrypt(pkcs8, self._random(16)) if self._cipher else pkcs8

    def _open(self, sealed: bytes) -> bytes:
        return self._cipher.decrypt(sealed) if self._cipher else sealed
