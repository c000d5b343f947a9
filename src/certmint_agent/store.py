"""The service folder: versions of key and chain, and the link `live` to the one in use.

    service_folder/
      lock                           held while an agent works (fcntl)
      live -> versions/<name>        what the router's server reads: live/key.pem, live/chain.pem
      versions/<utc-timestamp>-<n>/  key.pem (0600), chain.pem (leaf first), state.json
      versions/pending/              key.pem and request.pem of a request under way
      versions/failed/               a version that the router did not serve, kept for a retry

Laws, which hold whenever the power fails:

- A version is written and synced in `versions/.new` and gets its name by rename: whatever has a
  name is complete. `live` is replaced by rename too, and only by a link to a synced version: it
  names the old pair or the new pair, each whole, and never a key beside another key's chain.
- The pending key and its CSR are on disk before the CSR leaves the device. An answer that was lost
  is asked for again with the same CSR, and the server answers with the same certificate.
- A version is deleted only after the router has served a newer one. Only state.json, which can be
  drawn anew, ever changes in place (by rename).

Of a key in a token a folder holds key.uri instead of key.pem, as `certmint_agent.keys` says. The
store talks to nobody, and does not judge certificates.
"""

import datetime as dt
import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from certmint_agent import schedule
from certmint_agent.credential import Credential, PrivateKey
from certmint_agent.errors import Locked, StorageFailed
from certmint_agent.keys import StoredKey, stored
from certmint_agent.schedule import Window


@dataclass(frozen=True)
class State:
    """What a version's certificate does not say itself: `proved` means the router served it."""

    window: Window | None
    renew_at: dt.datetime
    proved: bool = False


@dataclass(frozen=True)
class Version:
    """A complete key and chain on disk; the key matches the leaf."""

    path: Path
    key: StoredKey
    leaf: x509.Certificate
    state: State


def _no_step(_: str) -> None:
    """Nothing is watched."""


@dataclass(frozen=True)
class Store:
    """A service folder. `step` hears of each change right after it: tests cut the power there."""

    folder: Path
    step: Callable[[str], None] = _no_step

    @property
    def _versions(self) -> Path:
        return self.folder / "versions"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """The folder for ourselves, tidied. Raises Locked, and StorageFailed for any OSError.

        The kernel drops the lock with the process, so that there is no stale one after a crash.
        """
        with self.guarded():
            self._versions.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                self._lock(handle)
                self._tidy()
                yield
            finally:
                os.close(handle)

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Reading without the lock. Raises StorageFailed for any OSError."""
        try:
            yield
        except OSError as problem:
            raise StorageFailed(
                f"the service folder {self.folder} failed: {problem.strerror or problem}"
            ) from None

    def _lock(self, handle: int) -> None:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Locked(f"another agent is at work in {self.folder}: wait for it") from None

    def _tidy(self) -> None:
        """Remove what a power cut left: half-written files, and versions that never were live."""
        (self.folder / ".live").unlink(missing_ok=True)
        live = self._live_name()
        for path in self._versions.iterdir():
            never_live = live is not None and _number(path) > _number(Path(live))
            if path.name.startswith(".") or never_live:
                shutil.rmtree(path)

    def live(self) -> Version | None:
        """The version in use, or None if there is none that can be read."""
        name = self._live_name()
        return _load(self._versions / name) if name is not None else None

    def failed(self) -> Version | None:
        """The version that was set aside."""
        return _load(self._versions / "failed")

    def previous(self, version: Version) -> Version | None:
        """What to go back to: the newest older version, a proved one if there is any."""
        older = [v for v in map(_load, self._older(version)) if v is not None]
        return max(older, key=lambda v: (v.state.proved, _number(v.path)), default=None)

    def keys(self) -> list[StoredKey]:
        """What each complete folder holds of its key: no other key is in use any more."""
        found = []
        for folder in self._versions.iterdir():
            with suppress(FileNotFoundError, NotADirectoryError):
                found += [] if folder.name.startswith(".") else [StoredKey.read(folder)]
        return found

    def pending(self) -> tuple[StoredKey, x509.CertificateSigningRequest] | None:
        """The key and CSR of a request under way."""
        folder = self._versions / "pending"
        try:
            key = StoredKey.read(folder)
            return key, x509.load_pem_x509_csr((folder / "request.pem").read_bytes())
        except (FileNotFoundError, ValueError):
            return None

    def put_pending(self, key: PrivateKey, request: x509.CertificateSigningRequest) -> None:
        """Make a request durable, before it is sent."""
        self.drop_pending()
        files = {**stored(key).files(), "request.pem": request.public_bytes(Encoding.PEM)}
        self._write_folder(self._versions / "pending", files)

    def drop_pending(self) -> None:
        """Forget the request under way."""
        self._discard(self._versions / "pending")

    def add(self, credential: Credential, state: State, now: dt.datetime) -> Version:
        """A new version, complete and synced, not live yet."""
        chain = b"".join(c.public_bytes(Encoding.PEM) for c in credential.chain)
        key = stored(credential.key)
        path = self._new_path(now)
        self._write_folder(path, {**key.files(), "chain.pem": chain, "state.json": _encode(state)})
        return Version(path, key, credential.leaf, state)

    def readopt(self, failed: Version, now: dt.datetime) -> Version:
        """The version that was set aside, under a name of its own again."""
        path = self._new_path(now)
        failed.path.rename(path)
        self._done(self._versions, "readopted")
        return replace(failed, path=path)

    def point(self, version: Version) -> None:
        """Make `version` live. Before the rename the old one is, after it the new one is."""
        temporary = self.folder / ".live"
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(Path("versions") / version.path.name)
        self.step("link written")
        temporary.replace(self.folder / "live")
        self._done(self.folder, "live switched")

    def remember(self, version: Version, state: State) -> Version:
        """Replace state.json."""
        temporary = version.path / ".state.json"
        self._write(temporary, _encode(state))
        temporary.replace(version.path / "state.json")
        self._done(version.path, "state replaced")
        return replace(version, state=state)

    def set_aside(self, version: Version) -> None:
        """Keep a version that failed its check for a retry; it must not be live any more."""
        self._discard(self._versions / "failed")
        version.path.rename(self._versions / "failed")
        self._done(self._versions, "failed set aside")
        self.drop_pending()

    def retire(self, version: Version) -> None:
        """After the router has served `version`: drop all but it and the newest older one."""
        self.drop_pending()
        self._discard(self._versions / "failed")
        keep = self.previous(version)
        for path in self._older(version):
            if keep is None or path != keep.path:
                self._discard(path)

    def _live_name(self) -> str | None:
        try:
            return (self.folder / "live").readlink().name
        except FileNotFoundError:
            return None

    def _older(self, version: Version) -> list[Path]:
        return [p for p in self._versions.iterdir() if 0 <= _number(p) < _number(version.path)]

    def _new_path(self, now: dt.datetime) -> Path:
        number = max((_number(path) for path in self._versions.iterdir()), default=0)
        return self._versions / f"{now:%Y%m%dT%H%M%SZ}-{max(number, 0) + 1}"

    def _write_folder(self, path: Path, files: dict[str, bytes]) -> None:
        temporary = self._versions / ".new"
        if temporary.exists():
            shutil.rmtree(temporary)
        temporary.mkdir()
        for name, content in files.items():
            self._write(temporary / name, content)
        _sync(temporary)
        temporary.rename(path)
        self._done(self._versions, f"{path.name} complete")

    def _write(self, path: Path, content: bytes) -> None:
        mode = 0o600 if path.name == "key.pem" else 0o644
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(handle)
        self.step(f"{path.name} written")

    def _discard(self, path: Path) -> None:
        if not path.exists():
            return
        gone = self._versions / ".gone"
        if gone.exists():
            shutil.rmtree(gone)
        path.rename(gone)
        self._done(self._versions, f"{path.name} renamed away")
        shutil.rmtree(gone)
        self.step(f"{path.name} deleted")

    def _done(self, folder: Path, what: str) -> None:
        _sync(folder)
        self.step(what)


def _sync(folder: Path) -> None:
    """A rename is durable once its folder is synced."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _number(path: Path) -> int:
    """The n of <utc-timestamp>-<n>, by which versions are ordered (clocks go back), or -1."""
    text = path.name.rpartition("-")[2]
    return int(text) if text.isdecimal() else -1


def _load(path: Path) -> Version | None:
    try:
        leaf = x509.load_pem_x509_certificates((path / "chain.pem").read_bytes())[0]
        key = StoredKey.read(path)
    except (FileNotFoundError, ValueError):
        return None
    if not key.belongs_to(leaf):
        return None
    return Version(path, key, leaf, _state(path / "state.json", leaf))


def _encode(state: State) -> bytes:
    window = None
    if state.window is not None:
        window = {
            "start": state.window.start.isoformat(),
            "end": state.window.end.isoformat(),
        }
    content = {"window": window, "renew_at": state.renew_at.isoformat(), "proved": state.proved}
    return json.dumps(content, indent=1).encode() + b"\n"


def _state(path: Path, leaf: x509.Certificate) -> State:
    """What state.json says; if it is damaged, the plainest state that the certificate allows."""
    try:
        content = json.loads(path.read_bytes())
        window = content["window"]
        return State(
            window and Window(_time(window["start"]), _time(window["end"])),
            _time(content["renew_at"]),
            content["proved"] is True,
        )
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        start, end = leaf.not_valid_before_utc, leaf.not_valid_after_utc
        return State(None, schedule.next_attempt(start, start, end, None, lambda: 0.5))


def _time(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).astimezone(dt.UTC)
