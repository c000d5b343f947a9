"""What a factory line flashes: one folder a device, or one line a device in a single file.

A folder appears under its final name complete or not at all: it is written beside it, made
durable, and renamed. The formats:

    pem     identity.pem and service.pem (leaf first), key.pem
    der     identity.der, service.der, chain.pem, key.der
    pkcs12  identity.p12 and service.p12, each with the key and the chain
    jsonl   packages.jsonl: a line with the serial and base64 of each of the above in DER

The key is encrypted PKCS#8 unless the line asked for plain keys.
"""

import base64
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs12

from certmint.enrolment.chains import pem
from certmint.model.errors import BadInput
from certmint.model.pbes2 import BatchCipher
from certmint.model.serial import RandomBytes

_LINES = "packages.jsonl"
_OWN_FILES = ("packages.", "result.")  # no device's folder may stand where a batch's file goes


class PackageFormat(StrEnum):
    PEM = "pem"
    DER = "der"
    PKCS12 = "pkcs12"
    JSONL = "jsonl"


@dataclass(frozen=True)
class Package:
    """One device's key and certificates. `key` is PKCS#8 in DER, not encrypted.

    `service` is empty for a device that gets its service certificate at first boot.
    """

    serial_number: str
    key: bytes = field(repr=False)
    identity: bytes
    service: bytes


@dataclass(frozen=True)
class PackageWriter:
    """Writes packages of one batch into `folder`.

    `cipher` encrypts keys, None leaves them plain; `passphrase` is for PKCS#12 only.
    `identity_chain` and `service_chain` are the CAs above the leaves, nearest first, in DER.
    """

    folder: Path
    format: PackageFormat
    identity_chain: Sequence[bytes]
    service_chain: Sequence[bytes]
    random_bytes: RandomBytes
    cipher: BatchCipher | None
    passphrase: bytes = field(default=b"", repr=False)

    def write(self, packages: Sequence[Package], *, again: bool = False) -> None:
        """Write packages durably.

        `again` says that a run before a crash may have written them: then a folder is replaced
        by the same content, and a line that stands in the file is not added twice.
        """
        if self.format is PackageFormat.JSONL:
            written = _complete_lines(self.folder / _LINES) if again else set()
            self._append([each for each in packages if each.serial_number not in written])
        else:
            for package in packages:
                self._write_folder(package)
        sync_folder(self.folder)

    def _write_folder(self, package: Package) -> None:
        final = self.folder / folder_name(package.serial_number)
        draft = self.folder / f".{final.name}.draft"
        spent = self.folder / f".{final.name}.spent"
        for leftover in (draft, spent):
            if leftover.exists():
                shutil.rmtree(leftover)  # of a process that died here
        draft.mkdir(mode=0o700)
        try:
            for name, content in self._files(package).items():
                write_file(draft / name, content)
            sync_folder(draft)
        except OSError:
            shutil.rmtree(draft, ignore_errors=True)  # a full disk is no place for half a package
            raise
        if final.exists():
            final.rename(spent)  # deleting it here would leave half of it, if we died meanwhile
        draft.rename(final)
        if spent.exists():
            shutil.rmtree(spent)

    def _files(self, package: Package) -> dict[str, bytes]:
        held = [("identity", package.identity, self.identity_chain)]
        if package.service:
            held.append(("service", package.service, self.service_chain))
        if self.format is PackageFormat.PKCS12:
            return {f"{name}.p12": self._pkcs12(package, leaf, chain) for name, leaf, chain in held}
        key = self._key(package)
        if self.format is PackageFormat.DER:
            chain = "".join(pem(link) for _, _, links in held for link in links)
            files = {f"{name}.der": leaf for name, leaf, _ in held}
            return files | {"chain.pem": chain.encode(), "key.der": key}
        files = {
            f"{name}.pem": "".join(map(pem, [leaf, *chain])).encode() for name, leaf, chain in held
        }
        return files | {"key.pem": _key_pem(key, encrypted=self.cipher is not None)}

    def _key(self, package: Package) -> bytes:
        if self.cipher is None:
            return package.key
        return self.cipher.encrypt(package.key, self.random_bytes(16))

    def _pkcs12(self, package: Package, leaf: bytes, chain: Sequence[bytes]) -> bytes:
        key = serialization.load_der_private_key(package.key, None)
        encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
        if self.passphrase:
            encryption = serialization.BestAvailableEncryption(self.passphrase)
        return pkcs12.serialize_key_and_certificates(
            package.serial_number.encode(),
            key,  # type: ignore[arg-type]  # device keys are EC or RSA, which PKCS#12 takes
            x509.load_der_x509_certificate(leaf),
            [x509.load_der_x509_certificate(link) for link in chain],
            encryption,
        )

    def _append(self, packages: Sequence[Package]) -> None:
        lines = []
        for package in packages:
            fields = {
                "serial": package.serial_number,
                "key": _b64(self._key(package)),
                "identity": _b64(package.identity),
                "service": _b64(package.service),
            }
            lines.append(json.dumps(fields, separators=(",", ":")))
        if not lines:
            return
        descriptor = os.open(self.folder / _LINES, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        before = os.fstat(descriptor).st_size
        try:
            with os.fdopen(descriptor, "ab") as file:
                file.write(("\n".join(lines) + "\n").encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            os.truncate(self.folder / _LINES, before)
            raise


def folder_name(serial_number: str) -> str:
    """A device's folder: its serial number, percent-encoded where a path would be cut."""
    name = serial_number.replace("/", "%2F").replace(":", "%3A")
    return name.replace(".", "%2E") if name.startswith(_OWN_FILES) else name


def _complete_lines(path: Path) -> set[str]:
    """Serial numbers of the lines that are whole; a torn last line is cut off."""
    if not path.exists():
        return set()
    found, whole = set(), 0
    with path.open("r+b") as file:
        for line in file:
            if not line.endswith(b"\n"):
                file.truncate(whole)  # the power failed while this line was written
                break
            whole += len(line)
            try:
                found.add(json.loads(line)["serial"])
            except (ValueError, KeyError, TypeError):
                raise BadInput(
                    "package-file", f"{path} holds something that is no package: move it away"
                ) from None
    return found


def write_file(path: Path, content: bytes) -> None:
    """Write a file that only its owner may read, and make it durable."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def overwrite_file(path: Path) -> None:
    """Zeros in place of a file's content, in the same blocks where the file system allows it."""
    with path.open("r+b") as file:
        file.write(b"\0" * path.stat().st_size)
        file.flush()
        os.fsync(file.fileno())


def replace_file(path: Path, content: bytes) -> None:
    """Write a file under its final name complete or not at all."""
    draft = path.with_name(f".{path.name}.draft")
    try:
        write_file(draft, content)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
    draft.replace(path)
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _key_pem(key: bytes, *, encrypted: bool) -> bytes:
    kind = "ENCRYPTED PRIVATE KEY" if encrypted else "PRIVATE KEY"
    text = base64.b64encode(key).decode()
    lines = "\n".join(text[i : i + 64] for i in range(0, len(text), 64))
    return f"-----BEGIN {kind}-----\n{lines}\n-----END {kind}-----\n".encode()


def _b64(content: bytes) -> str:
    return base64.b64encode(content).decode()
