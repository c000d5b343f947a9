"""The server's REST contract, as this device uses it: asking who we are, and for certificates.

Fields are taken by name and type; whatever else an answer holds is ignored. A certificate or key
that comes out of here is text from the network: `certmint_agent.credential` judges it.
"""

import base64
import binascii
import datetime as dt
import urllib.parse
from dataclasses import dataclass, field
from typing import TypeVar

from cryptography import x509

from certmint_agent.config import Config
from certmint_agent.errors import Misconfigured, Unacceptable
from certmint_agent.schedule import Window
from certmint_agent.transport import Transport

_DEVICE = "/api/v1/device"
T = TypeVar("T")


@dataclass(frozen=True)
class Device:
    """What the server knows of us. `serial` is that of our newest certificate there, if any."""

    serial_number: str
    names: tuple[str, ...]
    serial: int | None
    window: Window | None


@dataclass(frozen=True)
class Issued:
    """A certificate, and the encrypted private key if the server made it (CMS, DER)."""

    leaf_pem: bytes
    chain_pem: bytes
    window: Window | None
    envelope: bytes | None = field(default=None, repr=False)


def connect(config: Config, *, clock_is_right: bool) -> Transport:
    """The way to the server. Raises Misconfigured if the password's file cannot be read."""
    identity = None
    if config.identity_certificate is not None and config.identity_key is not None:
        identity = (config.identity_certificate, config.identity_key)
    authorization = None
    if config.owner_password_file is not None:
        try:
            password = config.owner_password_file.read_bytes().strip(b"\r\n")
        except OSError as problem:
            raise Misconfigured(
                f"owner_password_file {config.owner_password_file}: {problem.strerror}"
            ) from None
        pair = base64.b64encode(config.owner_username.encode() + b":" + password)
        authorization = f"Basic {pair.decode()}"
    return Transport(
        config.server,
        config.ca_file,
        identity,
        config.server_timeout_s,
        clock_is_right,
        authorization,
    )


def vouchers(config: Config) -> tuple[list[x509.Certificate], str]:
    """Who may vouch for the server, and its name. Raises Misconfigured if ca_file is none."""
    try:
        anchors = x509.load_pem_x509_certificates(config.ca_file.read_bytes())
    except (OSError, ValueError) as problem:
        raise Misconfigured(f"ca_file {config.ca_file}: {problem}") from None
    return anchors, urllib.parse.urlsplit(config.server).hostname or ""


def time_of(transport: Transport) -> dt.datetime | None:
    """The server's clock: any answer has it, a refusal too."""
    return transport.exchange("GET", _DEVICE, None).time


def device(transport: Transport) -> Device:
    """Ourselves, as the server sees us. It needs an identity certificate."""
    content = transport.get(_DEVICE)
    names = _field(content, "names", list)
    if not all(isinstance(name, str) for name in names):
        raise Unacceptable("the server's answer has a name that is no text")
    newest = content.get("certificate")
    serial = window = None
    if isinstance(newest, dict):
        window = _window(newest)
        try:
            serial = int(_field(newest, "serial", str), 16)
        except ValueError:
            raise Unacceptable("the server's answer has a serial that is no hex number") from None
    return Device(
        _field(content, "serial_number", str), tuple(n.lower() for n in names), serial, window
    )


def certify(transport: Transport, csr_pem: str, owned_device: str) -> Issued:
    """A certificate for a CSR. The same CSR gets the same certificate, however often it is sent.

    `owned_device` is the device's serial number where its owner asks, and "" where it asks itself.
    """
    path = _DEVICE + "/certificates"
    if owned_device:
        quoted = urllib.parse.quote(owned_device, safe="")
        path = f"/api/v1/owner/devices/{quoted}/certificates"
    return _issued(transport.post(path, {"csr": csr_pem}))


def deliver_key(transport: Transport, kind: str) -> Issued:
    """A key pair that the maker's key management made, certified; the key is encrypted to us."""
    content = transport.post(_DEVICE + "/keys", {"kind": kind})
    try:
        envelope = base64.b64decode(_field(content, "encrypted_key", str), validate=True)
    except binascii.Error:
        raise Unacceptable("the server's encrypted_key is not base64") from None
    issued = _issued(content)
    return Issued(issued.leaf_pem, issued.chain_pem, issued.window, envelope)


def _issued(content: dict[str, object]) -> Issued:
    return Issued(
        _field(content, "certificate", str).encode(errors="replace"),
        _field(content, "chain", str).encode(errors="replace"),
        _window(content),
    )


def _field(content: dict[str, object], key: str, kind: type[T]) -> T:
    value = content.get(key)
    if not isinstance(value, kind):
        raise Unacceptable(f"the server's answer lacks {key!r}, or it is no {kind.__name__}")
    return value


def _window(content: dict[str, object]) -> Window | None:
    """The suggested window; one that makes no sense is none, and our own schedule holds."""
    renewal = content.get("renewal")
    if not isinstance(renewal, dict):
        return None
    try:
        start, end = (_time(_field(renewal, key, str)) for key in ("start", "end"))
        return Window(start, end)
    except (ValueError, Unacceptable):
        return None


def _time(text: str) -> dt.datetime:
    found = dt.datetime.fromisoformat(text)
    if found.tzinfo is None:
        raise ValueError("a time without a zone")
    return found.astimezone(dt.UTC)
