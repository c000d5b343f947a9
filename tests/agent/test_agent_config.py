"""agent.toml: what it may say, and how it is refused."""

import inspect
from pathlib import Path

import pytest

from certmint_agent import config
from certmint_agent.errors import Misconfigured
from certmint_agent.keys import StoredKey
from certmint_agent.pkcs11_keys import TokenURI

GOOD = {
    "server": '"https://certmint.example.com/base"',
    "ca_file": '"ca.pem"',
    "service_folder": '"/var/tls"',
    "identity_certificate": '"idevid.pem"',
    "identity_key": '"idevid.key"',
}
OWNER = {"owner_username": '"jo"', "owner_password_file": '"pw"', "device_serial_number": '"R/1"'}


TOKEN = "pkcs11:token=a%20b;object=c?module-path=/usr/lib/m.so&pin-source=file:/etc/pin"


def write(folder: Path, table: dict[str, str]) -> Path:
    path = folder / "agent.toml"
    path.write_text("".join(f"{key} = {value}\n" for key, value in table.items()))
    return path


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    """A configuration can be moved together with the files that it names."""
    loaded = config.load(write(tmp_path, GOOD))
    assert loaded.ca_file == tmp_path / "ca.pem"
    assert loaded.service_folder == Path("/var/tls")
    assert loaded.key_kind == "ec-p256"
    assert loaded.check_address is None


def test_every_key_is_in_the_documented_example() -> None:
    """The example in the module's docstring is accepted, and knows every key."""
    example = inspect.cleandoc((config.__doc__ or "").split("\n\n", 2)[2])
    keys = {line.split(" = ")[0] for line in example.splitlines() if " = " in line}
    assert keys == set(config.Config.__dataclass_fields__)


def test_the_documented_example_is_valid(tmp_path: Path) -> None:
    """What people copy from the docstring works."""
    path = tmp_path / "agent.toml"
    path.write_text(inspect.cleandoc((config.__doc__ or "").split("\n\n", 2)[2]))
    loaded = config.load(path)
    assert loaded.reload_command == ("/etc/init.d/www", "reload")
    assert loaded.check_address == ("127.0.0.1", 443)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"nmaes": '["a"]'}, "unknown key 'nmaes'"),
        ({"server": '"http://certmint.example.com"'}, "https"),
        ({"server": '"https://certmint.example.com:port"'}, "https"),
        ({"server": '"https://jo:secret@certmint.example.com"'}, "https"),
        ({"server": "None"}, "cannot be read"),
        ({"ca_file": None}, "'ca_file' is missing"),
        ({"identity_key": None}, "belong together"),
        ({"identity_key": None, "identity_certificate": None}, "who are we"),
        ({"identity_key": None, "identity_certificate": None, **OWNER}, "names is missing"),
        ({"owner_username": '"jo"'}, "belong together"),
        ({"key_kind": '"rsa-1024"'}, "key_kind"),
        ({"key_store": '"usb:"'}, "must be file:, tpm: or pkcs11:"),
        ({"key_store": f'"{TOKEN}&pin-value=7"'}, "with the PIN in that file"),
        ({"key_store": '"pkcs11:token=a;object=b"'}, "key_store must be pkcs11:token="),
        ({"key_store": f'"{TOKEN.replace("file:/", "")}"'}, "whole paths"),
        ({"key_store": "7"}, "must be a string"),
        ({"names": '"a.example.com"'}, "list of strings"),
        ({"reload_command": '"reload www"'}, "list of strings"),
        ({"check_address": '"localhost"'}, "host:port"),
        ({"check_address": '":443"'}, "host:port"),
        ({"check_timeout_s": '"soon"'}, "number of seconds"),
        ({"check_timeout_s": "0"}, "above 0"),
        ({"service_folder": '""'}, "must not be empty"),
        ({"ca_file": "7"}, "must be a string"),
    ],
)
def test_a_wrong_key_is_named(tmp_path: Path, change: dict[str, str | None], says: str) -> None:
    """Each mistake gets one sentence that names the key."""
    table = {key: value for key, value in (GOOD | change).items() if value is not None}
    with pytest.raises(Misconfigured, match=says):
        config.load(write(tmp_path, table))


def test_a_pin_in_the_configuration_is_not_repeated(tmp_path: Path) -> None:
    """Errors go to logs, which many people read."""
    with pytest.raises(Misconfigured) as caught:
        config.load(write(tmp_path, {**GOOD, "key_store": f'"{TOKEN}&pin-value=7319"'}))
    assert "7319" not in str(caught.value)


@pytest.mark.parametrize("pin", ["/etc/pin", "file:/etc/pin", "file:///etc/pin"])
def test_the_uri_of_a_token_is_read_as_rfc_7512_writes_it(pin: str) -> None:
    """Percent-encoded words; the PIN's file as a path, or as a file: URI of either form."""
    uri = TokenURI.parse(TOKEN.replace("file:/etc/pin", pin))
    assert uri == TokenURI("a b", "c", "/usr/lib/m.so", Path("/etc/pin"))
    key = StoredKey("pkcs11", uri.of_key(b"certmint\x00;?").encode())
    assert uri.id_of(key) == b"certmint\x00;?"
    assert TokenURI("a b", "other", "/m.so", Path("/etc/pin")).id_of(key) is None


def test_the_owners_login_can_stand_alone(tmp_path: Path) -> None:
    """A device without an identity works with its owner's login, given names and serial."""
    table = {**GOOD, **OWNER, "names": '["A.example.com"]', "check_address": '"[::1]:443"'}
    del table["identity_key"], table["identity_certificate"]
    loaded = config.load(write(tmp_path, table))
    assert loaded.names == ("a.example.com",)
    assert loaded.check_address == ("::1", 443)
