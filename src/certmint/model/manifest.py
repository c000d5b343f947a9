"""Factory manifests: a CSV file, or NDJSON, that names the devices of one batch.

The header names the columns: `serial`, and optionally `mac`, `label` and `attestation_id`. A label
is the device's part of its DNS name; without one it is the serial number in lower case. An
attestation id is the hardware that the device has, `KIND:VALUE`. Every line is checked before
anything is stored: one bad line refuses the whole manifest and is named.
"""

import csv
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from certmint.model.errors import BadInput

COLUMNS = ("serial", "mac", "label", "attestation_id")
MAX_LINES = 1_000_000

_SERIAL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/+-]{0,63}\Z")
_MAC = re.compile(r"(?:[0-9a-f]{2}:){5}[0-9a-f]{2}\Z")
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\Z")


@dataclass(frozen=True, slots=True)
class ManifestLine:
    """One device: its line in the file, and what the maker calls it."""

    line: int
    serial_number: str
    mac: str
    label: str
    attestation_id: str = ""


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest that is whole and free of contradictions; `hash` is its SHA-256 in hex."""

    hash: str
    lines: tuple[ManifestLine, ...]


def parse_manifest(data: bytes) -> Manifest:
    """Read a manifest in CSV; or in NDJSON, whose objects have the columns as members.

    Raises BadInput `manifest-syntax` or `manifest-duplicate`, with the line.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise BadInput("manifest-syntax", "the manifest is not UTF-8 text") from None
    lines = tuple(_objects(text) if text.lstrip().startswith("{") else _lines(text))
    if not lines:
        raise BadInput("manifest-syntax", "the manifest names no device")
    _refuse_duplicates(lines)
    return Manifest(hashlib.sha256(data).hexdigest(), lines)


def _lines(text: str) -> Iterator[ManifestLine]:
    rows = csv.reader(text.splitlines(keepends=True), strict=True)
    header: list[str] | None = None
    try:
        for row in rows:
            if not row or not any(cell.strip() for cell in row):
                continue
            cells = [cell.strip() for cell in row]
            if header is None:
                header = _header(cells)
            elif rows.line_num > MAX_LINES:
                raise BadInput("manifest-syntax", f"more than {MAX_LINES} lines: split the batch")
            else:
                yield _line(rows.line_num, header, cells)
    except csv.Error as error:
        raise BadInput("manifest-syntax", f"line {rows.line_num}: {error}") from None


def _objects(text: str) -> Iterator[ManifestLine]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        if number > MAX_LINES:
            raise BadInput("manifest-syntax", f"more than {MAX_LINES} lines: split the batch")
        try:
            said = json.loads(line)
        except (ValueError, RecursionError):
            raise BadInput("manifest-syntax", f"line {number} is not JSON") from None
        if not isinstance(said, dict) or not all(isinstance(each, str) for each in said.values()):
            raise BadInput("manifest-syntax", f"line {number} is not an object of texts")
        yield _line(number, _header(list(said)), list(said.values()))


def _header(cells: list[str]) -> list[str]:
    names = [cell.lower() for cell in cells]
    unknown = [name for name in names if name not in COLUMNS]
    if unknown or "serial" not in names or len(set(names)) != len(names):
        raise BadInput(
            "manifest-syntax",
            f"the header is {','.join(cells)!r}: write 'serial', and optionally 'mac', 'label' and "
            "'attestation_id'",
        )
    return names


def _line(number: int, header: list[str], cells: list[str]) -> ManifestLine:
    if len(cells) != len(header):
        raise BadInput(
            "manifest-syntax",
            f"line {number} has {len(cells)} fields, the header has {len(header)}",
        )
    fields = dict(zip(header, cells, strict=True))
    serial, mac = fields["serial"], fields.get("mac", "").lower().replace("-", ":")
    label = fields.get("label") or re.sub(r"[^a-z0-9]+", "-", serial.lower()).strip("-")
    if not _SERIAL.match(serial):
        raise BadInput(
            "manifest-syntax",
            f"line {number}: serial {serial!r} must have 1 to 64 letters, digits or . _ : / + -",
        )
    if mac and not _MAC.match(mac):
        raise BadInput("manifest-syntax", f"line {number}: {mac!r} is not a MAC address")
    if not _LABEL.match(label):
        raise BadInput("manifest-syntax", f"line {number}: label {label!r} is not a DNS label")
    return ManifestLine(number, serial, mac, label, fields.get("attestation_id", ""))


def _refuse_duplicates(lines: tuple[ManifestLine, ...]) -> None:
    for field in ("serial_number", "label", "mac", "attestation_id"):
        first: dict[str, int] = {}
        for line in lines:
            value = getattr(line, field)
            if value and value in first:
                raise BadInput(
                    "manifest-duplicate",
                    f"line {line.line}: {field.replace('_', ' ')} {value!r} stands already in "
                    f"line {first[value]}",
                )
            first[value] = line.line
