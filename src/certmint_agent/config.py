"""agent.toml: read once into a frozen value. An unknown key is refused by its name.

Paths are relative to the folder of agent.toml. Secrets stay in the files that the configuration
names: they are read when they are needed, and are in no repr. Whether those files exist is found
out on use, since a router may mount them late.

    server = "https://certmint.example.com"      # https only
    ca_file = "server-ca.pem"                    # trust anchors of the server, nothing else is
    service_folder = "/etc/router/tls"           # the key and chain are below its `live`
    identity_certificate = "idevid.pem"          # the IDevID, and its key (unencrypted PEM)
    identity_key = "idevid.key"
    names = []                                   # none: the server's names for this device
    key_kind = "ec-p256"                         # or "rsa-2048"
    key_store = "file:"                          # or "tpm:", or "pkcs11:…": see docs/agents.md
    reload_command = ["/etc/init.d/www", "reload"]   # "" for none; run without a shell
    check_address = "127.0.0.1:443"              # "" for no look at the router's own TLS
    check_name = ""                              # SNI; "" for the first name that is no wildcard
    check_timeout_s = 20
    server_timeout_s = 30
    owner_username = "maker/jo"                  # instead of the identity, or with it
    owner_password_file = "owner-password"
    device_serial_number = "RT-0001"             # needed with owner_username
"""

import tomllib
import urllib.parse
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from certmint_agent import key_store
from certmint_agent.errors import Misconfigured

KEY_KINDS = ("ec-p256", "rsa-2048")


@dataclass(frozen=True)
class Config:
    """What agent.toml says. Raises Misconfigured if it contradicts itself."""

    server: str
    ca_file: Path
    service_folder: Path
    identity_certificate: Path | None = None
    identity_key: Path | None = None
    names: tuple[str, ...] = ()
    key_kind: str = "ec-p256"
    key_store: str = "file:"
    reload_command: tuple[str, ...] = ()
    check_address: tuple[str, int] | None = None
    check_name: str = ""
    check_timeout_s: float = 20
    server_timeout_s: float = 30
    owner_username: str = ""
    owner_password_file: Path | None = None
    device_serial_number: str = ""

    def __post_init__(self) -> None:
        if not _is_base_url(self.server):
            raise Misconfigured(f"server = {self.server!r} must be an https:// address")
        if self.key_kind not in KEY_KINDS:
            raise Misconfigured(f"key_kind = {self.key_kind!r} must be {' or '.join(KEY_KINDS)}")
        key_store.check(self.key_store)
        if self.check_timeout_s <= 0 or self.server_timeout_s <= 0:
            raise Misconfigured("check_timeout_s and server_timeout_s must be above 0")
        if (self.identity_certificate is None) != (self.identity_key is None):
            raise Misconfigured("identity_certificate and identity_key belong together")
        owner = (self.owner_username, self.owner_password_file, self.device_serial_number)
        if any(owner) and not all(owner):
            raise Misconfigured(
                "owner_username, owner_password_file and device_serial_number belong together"
            )
        if self.identity_certificate is None and not self.owner_username:
            raise Misconfigured("identity_certificate (or owner_username) is missing: who are we?")
        if self.identity_certificate is None and not self.names:
            raise Misconfigured("names is missing: without an identity the server tells us none")


def load(path: Path) -> Config:
    """The configuration in `path`. Raises Misconfigured, naming the key that is wrong."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as problem:
        raise Misconfigured(f"{path} cannot be read: {problem}") from None
    known = {field.name for field in fields(Config)}
    for key in table.keys() - known:
        raise Misconfigured(f"{path}: unknown key {key!r}; known are {', '.join(sorted(known))}")
    for key in ("server", "ca_file", "service_folder"):
        if key not in table:
            raise Misconfigured(f"{path}: the key {key!r} is missing")
    return Config(**{key: _value(key, value, path.parent) for key, value in table.items()})


def _is_base_url(text: str) -> bool:
    try:
        url = urllib.parse.urlsplit(text)
        port = url.port
    except ValueError:
        return False
    plain = text.isascii() and text.isprintable() and " " not in text
    asked = url.query or url.fragment or url.username or port == 0
    return plain and url.scheme == "https" and bool(url.hostname) and not asked


_PATHS = {
    "ca_file", "service_folder", "identity_certificate", "identity_key", "owner_password_file",
}  # fmt: skip
_LISTS = {"names", "reload_command"}
_NUMBERS = {"check_timeout_s", "server_timeout_s"}


def _value(key: str, value: object, folder: Path) -> Any:
    if key in _NUMBERS:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise Misconfigured(f"{key} = {value!r} must be a number of seconds")
        return value
    if key in _LISTS:
        words = [] if value == "" else value
        if not isinstance(words, list) or not all(isinstance(w, str) and w for w in words):
            raise Misconfigured(f"{key} = {value!r} must be a list of strings")
        return tuple(w.lower() for w in words) if key == "names" else tuple(words)
    if not isinstance(value, str):
        raise Misconfigured(f"{key} = {value!r} must be a string")
    if key in _PATHS:
        if not value:
            raise Misconfigured(f"{key} must not be empty")
        return folder / value
    return _address(value) if key == "check_address" else value


def _address(text: str) -> tuple[str, int] | None:
    if not text:
        return None
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise Misconfigured(f"check_address = {text!r} must be host:port")
    return host.strip("[]"), int(port)
