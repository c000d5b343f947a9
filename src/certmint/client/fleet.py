"""Operations on devices, what they ask for, owners, batches."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from certmint.client.answers import (
    Batch,
    Device,
    DeviceRecord,
    DeviceRequest,
    Job,
    ListedCertificate,
    Owner,
    build,
)
from certmint.client.calls import Calls, path
from certmint.client.pages import Listing
from certmint.client.transport import NDJSON, Body, Request

Manifest = bytes | Path | Iterable[Mapping[str, str]]


class Fleet(Calls):
    def list_devices(
        self,
        *,
        state: str | None = None,
        product: str | None = None,
        batch: str | None = None,
        owner: str | None = None,
        prefix: str | None = None,
    ) -> Listing[Device]:
        """Devices by serial number; `product`, `batch` and `owner` are ids."""
        return self._list(
            Device, "/devices", state=state, product=product, batch=batch, owner=owner,
            prefix=prefix,
        )  # fmt: skip

    def show_device(self, serial_number: str) -> DeviceRecord:
        return self._show(DeviceRecord, path("devices", serial_number))

    def list_device_certificates(self, serial_number: str) -> Listing[ListedCertificate]:
        """Oldest first."""
        return self._list(ListedCertificate, path("devices", serial_number, "certificates"))

    def change_devices(self, action: str, serial_numbers: Sequence[str]) -> Job:
        """suspend, resume or release up to 10,000 devices; the outcome names who was refused."""
        body = {"action": action, "serial_numbers": list(serial_numbers)}
        return self._make(Job, "/devices/changes", body)

    def claim_device(self, serial_number: str, username: str) -> DeviceRecord:
        """Make an account the owner of an unclaimed device."""
        where = path("devices", serial_number, "claim")
        return self._make(DeviceRecord, where, {"username": username})

    def release_device(self, serial_number: str) -> DeviceRecord:
        """Take a device from its owner."""
        return self._make(DeviceRecord, path("devices", serial_number, "release"))

    def transfer_device(self, serial_number: str, username: str) -> DeviceRecord:
        """Hand a device to another account at once."""
        where = path("devices", serial_number, "transfer")
        return self._make(DeviceRecord, where, {"username": username})

    def suspend_device(self, serial_number: str) -> DeviceRecord:
        """Refuse a device's requests until it is resumed."""
        return self._make(DeviceRecord, path("devices", serial_number, "suspension"))

    def resume_device(self, serial_number: str) -> DeviceRecord:
        return self._make(DeviceRecord, path("devices", serial_number, "resumption"))

    def retire_device(self, serial_number: str) -> DeviceRecord:
        """Out of service for good; its certificates are revoked."""
        return self._make(DeviceRecord, path("devices", serial_number, "retirement"))

    def list_device_requests(self, *, state: str | None = None) -> Listing[DeviceRequest]:
        """What devices asked for and an operator decides, oldest first."""
        return self._list(DeviceRequest, "/device-requests", state=state)

    def approve_device_request(self, request_id: str) -> DeviceRequest:
        """Let the device have it: it gets it when it asks again."""
        return self._make(DeviceRequest, path("device-requests", request_id, "approval"))

    def reject_device_request(self, request_id: str) -> DeviceRequest:
        return self._make(DeviceRequest, path("device-requests", request_id, "rejection"))

    def list_owners(self) -> Listing[Owner]:
        return self._list(Owner, "/owners")

    def show_owner(self, owner_id: str) -> Owner:
        return self._show(Owner, path("owners", owner_id))

    def create_owner(self, username: str, password: str) -> Owner:
        return self._make(Owner, "/owners", {"username": username, "password": password})

    def list_batches(self) -> Listing[Batch]:
        return self._list(Batch, "/batches")

    def show_batch(self, batch_id: str) -> Batch:
        """One batch, and how many of its devices are in each state."""
        return self._show(Batch, path("batches", batch_id))

    def submit_batch(self, product: str, manifest: Manifest) -> Batch:
        """Send a manifest: CSV as bytes or a file, or devices, which are sent as they are taken.

        The same manifest again is the same batch. Devices from an iterator cannot be sent twice,
        so for them there is one attempt. Raises OSError for a file that cannot be read.
        """
        if isinstance(manifest, Path):
            manifest.open("rb").close()  # an error of the network is another one
        body, kind = _manifest(manifest)
        is_repeatable = not isinstance(manifest, Iterator)
        answer = self._transport.call(
            Request(
                "POST", "/batches", {"product": product}, {"Content-Type": kind}, body,
                is_repeatable=is_repeatable,
            )
        )  # fmt: skip
        return build(Batch, answer.json)

    def mint_batch(self, batch_id: str, passphrase: str) -> Job:
        """Mint what is left; `passphrase` will decrypt the keys in the packages."""
        return self._make(Job, path("batches", batch_id, "minting"), {"passphrase": passphrase})

    def fetch_packages(self, batch_id: str, into: Path) -> None:
        """Write a batch's packages into a new file, an object on each line, as they come.

        Raises FileExistsError. Of a transfer that broke off, `<into>.part` stays.
        """
        if into.exists():
            raise FileExistsError(f"{into} is there already")
        part = into.with_name(into.name + ".part")
        request = Request("GET", path("batches", batch_id, "packages"), is_repeatable=True)
        with self._transport.stream(request) as incoming, part.open("wb") as file:
            for piece in incoming.pieces():
                file.write(piece)
        part.replace(into)

    def drop_packages(self, batch_id: str) -> None:
        """Have the packages forgotten, once the line has them."""
        self._transport.call(Request("DELETE", path("batches", batch_id, "packages")))


def _manifest(manifest: Manifest) -> tuple[Body, str]:
    if isinstance(manifest, (bytes, Path)):
        return manifest, "text/csv"
    lines = _Lines(manifest)
    return (iter(lines) if isinstance(manifest, Iterator) else lines), NDJSON


class _Lines:
    """Devices as NDJSON, as often as they are asked for."""

    def __init__(self, devices: Iterable[Mapping[str, str]]) -> None:
        self._devices = devices

    def __iter__(self) -> Iterator[bytes]:
        for each in self._devices:
            yield json.dumps(dict(each)).encode() + b"\n"
