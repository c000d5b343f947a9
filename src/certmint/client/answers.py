"""What the server answers, as frozen values; `build` makes them from JSON.

Members that this version does not know are ignored, so that a server may learn more. Times have a
zone; durations are in seconds. `etag` says which state of a thing was read: what changes the thing
takes it along, and only what a `show_…` method read has one.
"""

import dataclasses
import datetime as dt
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from certmint.client.errors import Unexpected

T = TypeVar("T")

_HINTS: dict[type, Mapping[str, Any]] = {}


@dataclass(frozen=True)
class Myself:
    """Whose token this is, and what it may do."""

    id: str
    name: str
    role: str
    manufacturer: str
    operations: tuple[str, ...]


@dataclass(frozen=True)
class Manufacturer:
    slug: str
    subject: str
    created_at: dt.datetime


@dataclass(frozen=True)
class Operator:
    id: str
    name: str
    role: str
    disabled: bool
    etag: str = field(default="", repr=False, compare=False)


@dataclass(frozen=True)
class Token:
    """An API token; `scopes` None: all that the role has."""

    id: str
    name: str
    scopes: tuple[str, ...] | None
    created_at: dt.datetime
    expires_at: dt.datetime
    revoked_at: dt.datetime | None


@dataclass(frozen=True)
class NewToken(Token):
    """A token with its value, which is shown this once."""

    token: str = field(repr=False)


@dataclass(frozen=True)
class Contacts:
    domain: str
    addresses: tuple[str, ...]


@dataclass(frozen=True)
class Domain:
    domain: str
    method: str
    verified_at: dt.datetime
    public_until: dt.datetime | None
    private_until: dt.datetime | None
    lapses_at: dt.datetime
    days_left: int


@dataclass(frozen=True)
class Validation:
    """An attempt to prove a domain: `record_type` TXT, CNAME, FILE, or "" for e-mail."""

    id: str
    domain: str
    method: str
    record_name: str
    record_type: str
    record_value: str
    created_at: dt.datetime
    expires_at: dt.datetime
    verified_at: dt.datetime | None
    evidence: dict[str, Any] | None


@dataclass(frozen=True)
class Authority:
    """`certificate` is PEM, "" while the authority is pending."""

    id: str
    name: str
    kind: str
    trust: str
    state: str
    subject: str
    parent_id: str | None
    key: str
    domains: tuple[str, ...]
    path_length: int | None
    status_url: str
    serial: str | None
    not_before: dt.datetime | None
    not_after: dt.datetime | None
    certificate: str = field(repr=False)


@dataclass(frozen=True)
class Profile:
    """One version of a profile; `lifetime` None: without end."""

    name: str
    version: int
    trust: str
    purpose: str
    lifetime: int | None
    grace: int
    key_kinds: tuple[str, ...]
    key_origins: tuple[str, ...]
    accepts: tuple[str, ...]
    extended_key_usage: tuple[str, ...]
    plain_delivery: bool
    etag: str = field(default="", repr=False, compare=False)


@dataclass(frozen=True)
class Product:
    id: str
    name: str
    identity_profile: str
    identity_authority_id: str
    service_profile: str
    service_authority_id: str
    name_patterns: tuple[str, ...]
    shared_names: tuple[str, ...]
    renew_at: float
    accepts: tuple[str, ...]
    grace: int | None
    approval: tuple[str, ...]
    channel_linking: bool
    etag: str = field(default="", repr=False, compare=False)


@dataclass(frozen=True)
class Device:
    """A device in a listing."""

    serial_number: str
    label: str
    mac: str
    product_id: str
    state: str
    suspended_for: str
    batch_id: str | None
    owner_id: str | None
    claimed: bool
    created_at: dt.datetime


@dataclass(frozen=True)
class Window:
    start: dt.datetime
    end: dt.datetime


@dataclass(frozen=True)
class CurrentCertificate:
    serial: str
    not_before: dt.datetime
    not_after: dt.datetime
    renewal: Window


@dataclass(frozen=True)
class DeviceRecord:
    """One device, its names and its newest service certificate; `time` is the server's."""

    serial_number: str
    label: str
    product: str
    state: str
    names: tuple[str, ...]
    time: dt.datetime
    certificate: CurrentCertificate | None


@dataclass(frozen=True)
class DeviceRequest:
    """What a device asked for and an operator decides."""

    id: str
    serial_number: str
    wish: str
    key_sha256: str
    requester: str
    evidence: tuple[str, ...]
    source: str
    reason: str
    state: str
    created_at: dt.datetime
    expires_at: dt.datetime
    decided_by: str | None
    decided_at: dt.datetime | None
    serial: str | None


@dataclass(frozen=True)
class Owner:
    id: str
    username: str
    created_at: dt.datetime


@dataclass(frozen=True)
class Batch:
    """A factory run; `by_state` None in listings."""

    id: str
    product_id: str
    manifest_sha256: str
    devices: int
    state: str
    created_at: dt.datetime
    by_state: dict[str, int] | None = None


@dataclass(frozen=True)
class ListedCertificate:
    serial: str
    authority_id: str
    profile: str
    purpose: str
    subject: str
    names: tuple[str, ...]
    not_before: dt.datetime
    not_after: dt.datetime
    issued_at: dt.datetime
    key_sha256: str
    revoked_at: dt.datetime | None
    revocation_reason: str | None
    successor: str | None


@dataclass(frozen=True)
class Certificate:
    """`certificate` is PEM, "" for a serial that was abandoned."""

    serial: str
    profile: str
    subject: str
    names: tuple[str, ...]
    not_before: dt.datetime
    not_after: dt.datetime
    issued_at: dt.datetime
    key_sha256: str
    revoked_at: dt.datetime | None
    revocation_reason: str | None
    certificate: str = field(repr=False)


@dataclass(frozen=True)
class Issued:
    """A fresh certificate; `chain` has the CAs above it, without the root."""

    serial: str
    certificate: str = field(repr=False)
    chain: str = field(repr=False)
    not_after: dt.datetime


@dataclass(frozen=True)
class AuditEvent:
    number: int
    at: dt.datetime
    actor: str
    action: str
    subject: str
    detail: dict[str, Any]
    previous_hash: str
    hash: str


@dataclass(frozen=True)
class Job:
    """Long work: how far it is, and what came of it."""

    id: str
    kind: str
    state: str
    done: int
    total: int
    requested_by: str
    created_at: dt.datetime
    finished_at: dt.datetime | None
    outcome: dict[str, Any]

    @property
    def is_over(self) -> bool:
        return self.state in ("done", "failed", "cancelled")


@dataclass(frozen=True)
class Approval:
    """What waits for a second operator; `document` is what will be carried out."""

    id: str
    operation: str
    summary: str
    document: dict[str, Any]
    state: str
    requested_by: str
    requested_at: dt.datetime
    expires_at: dt.datetime
    decided_by: str | None
    decided_at: dt.datetime | None
    outcome: str


def build(kind: type[T], said: Any, etag: str = "") -> T:
    """A value of this kind from a JSON object. Raises Unexpected."""
    if not isinstance(said, Mapping):
        raise Unexpected(f"the server did not answer with an object for {kind.__name__}")
    hints = _hints(kind)
    given: dict[str, Any] = {}
    for member in dataclasses.fields(kind):  # type: ignore[arg-type]  # every T is a dataclass
        if member.name == "etag":
            given["etag"] = etag
        elif member.name in said:
            given[member.name] = _convert(hints[member.name], said[member.name], member.name)
        elif member.default is dataclasses.MISSING:
            raise Unexpected(f"the server's {kind.__name__} has no member {member.name!r}")
    return kind(**given)


def _hints(kind: type) -> Mapping[str, Any]:
    """The types of a kind's members; worked out once, since a stream builds a million."""
    known = _HINTS.get(kind)
    if known is None:
        known = _HINTS[kind] = typing.get_type_hints(kind)
    return known


def _convert(hint: Any, value: Any, name: str) -> Any:
    if value is None:
        return None
    if isinstance(hint, types.UnionType):
        (hint,) = (each for each in typing.get_args(hint) if each is not types.NoneType)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return build(hint, value)
    try:
        if hint is dt.datetime:
            return dt.datetime.fromisoformat(value)
        if typing.get_origin(hint) is tuple:
            return tuple(value)
    except (TypeError, ValueError):
        raise Unexpected(f"the server's member {name!r} is not as it should be") from None
    return value
