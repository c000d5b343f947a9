"""CA keys in files: encrypted, never overwritten, never half-written."""

import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from certmint.issuance.keys import create_key, open_key
from certmint.model.errors import CertmintError, Conflict, Misconfigured, Unavailable
from certmint.model.keys import KeyKind, public_key_of

PASSPHRASE = b"correct horse battery staple"


def _secrets(name: str) -> bytes:
    assert name == "keys"
    return PASSPHRASE


def _wrong(_: str) -> bytes:
    return b"incorrect donkey"


def _code(attempt: Callable[[], object]) -> str:
    with pytest.raises(CertmintError) as refused:
        attempt()
    for secret in (PASSPHRASE, _wrong("")):
        assert secret.decode() not in refused.value.detail
    return refused.value.code


@pytest.mark.parametrize("kind", [KeyKind.P256, KeyKind.P384, KeyKind.RSA2048])
def test_key_is_found_again(tmp_path: Path, kind: KeyKind) -> None:
    """What was made is what is opened, by the relative URI."""
    made = create_key("file:keys/root.pem", kind, _secrets, tmp_path)

    assert made.kind is kind
    assert public_key_of(open_key("file:keys/root.pem", _secrets, tmp_path)) == made


def test_key_file_is_encrypted_and_private(tmp_path: Path) -> None:
    """Nobody but the owner may read it, and reading it is not enough."""
    create_key("file:root.pem", KeyKind.P256, _secrets, tmp_path)
    path = tmp_path / "root.pem"

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_bytes().startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
    with pytest.raises(TypeError):
        serialization.load_pem_private_key(path.read_bytes(), None)


def test_absolute_path_is_taken_as_it_is(tmp_path: Path) -> None:
    """The base is for relative paths only."""
    uri = f"file:{tmp_path / 'a.pem'}"

    made = create_key(uri, KeyKind.P256, _secrets, Path("/nonexistent"))

    assert public_key_of(open_key(uri, _secrets, Path("/nonexistent"))) == made


def test_key_is_never_overwritten(tmp_path: Path) -> None:
    """The second attempt changes nothing on disk and leaves nothing behind."""
    create_key("file:root.pem", KeyKind.P256, _secrets, tmp_path)
    before = (tmp_path / "root.pem").read_bytes()

    with pytest.raises(Conflict) as refused:
        create_key("file:root.pem", KeyKind.P256, _secrets, tmp_path)

    assert refused.value.code == "key-exists"
    assert (tmp_path / "root.pem").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["root.pem"]


def test_leftover_of_a_power_cut_does_not_block(tmp_path: Path) -> None:
    """A half-written temporary file from before the cut is ignored."""
    (tmp_path / ".root.pem.x1y2z3").write_bytes(b"-----BEGIN ENCRYPTED PRI")

    made = create_key("file:root.pem", KeyKind.P256, _secrets, tmp_path)

    assert public_key_of(open_key("file:root.pem", _secrets, tmp_path)) == made


def test_power_cut_while_writing_leaves_no_key(tmp_path: Path) -> None:
    """Killed at the sync: no file under the key's name, and the same URI can be made anew."""
    program = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from certmint.issuance.keys import create_key\n"
        "from certmint.model.keys import KeyKind\n"
        "os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)\n"
        "create_key('file:root.pem', KeyKind.P256, lambda _: b'secret', Path(sys.argv[1]))\n"
    )
    ended = subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False, timeout=60)

    assert ended.returncode == -9
    assert not (tmp_path / "root.pem").exists()
    assert len(list(tmp_path.iterdir())) == 1
    create_key("file:root.pem", KeyKind.P256, _secrets, tmp_path)


def test_wrong_passphrase_names_the_uri_not_the_secret(tmp_path: Path) -> None:
    """One clear sentence for the person who mistyped."""
    create_key("file:root.pem", KeyKind.P256, _secrets, tmp_path)

    with pytest.raises(Misconfigured) as refused:
        open_key("file:root.pem", _wrong, tmp_path)

    assert refused.value.code == "key-passphrase"
    assert "file:root.pem" in refused.value.detail
    assert _code(lambda: open_key("file:root.pem", _wrong, tmp_path)) == "key-passphrase"


def test_damaged_file_is_a_key_that_cannot_be_decrypted(tmp_path: Path) -> None:
    """Whatever stands in the file, there is no traceback."""
    for content in (b"", b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n", b"\xff" * 100):
        (tmp_path / "root.pem").write_bytes(content)

        assert _code(lambda: open_key("file:root.pem", _secrets, tmp_path)) == "key-passphrase"


def test_missing_key_is_said_to_be_missing(tmp_path: Path) -> None:
    """The file is not there at all."""
    assert _code(lambda: open_key("file:root.pem", _secrets, tmp_path)) == "key-missing"


@pytest.mark.parametrize("uri", ["", "file:", "file:/", "https://x/y", "root.pem", "FILE:root.pem"])
def test_other_uris_are_refused(tmp_path: Path, uri: str) -> None:
    """Two schemes, and nothing is guessed."""
    assert _code(lambda: open_key(uri, _secrets, tmp_path)) == "key-uri"
    assert _code(lambda: create_key(uri, KeyKind.P256, _secrets, tmp_path)) == "key-uri"


def test_unencrypted_key_is_refused(tmp_path: Path) -> None:
    """A CA key that lies in the clear is not used."""
    key = ec.generate_private_key(ec.SECP256R1())
    (tmp_path / "root.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )

    assert _code(lambda: open_key("file:root.pem", _secrets, tmp_path)) == "key-passphrase"


@pytest.mark.parametrize(
    ("key", "code"),
    [
        (ed25519.Ed25519PrivateKey.generate(), "key-kind"),
        (ec.derive_private_key(1 << 90, ec.SECP256R1()), "key-weak"),
    ],
)
def test_unfit_keys_are_refused(
    tmp_path: Path, key: ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey, code: str
) -> None:
    """An algorithm that we do not sign with; a scalar that can be searched for."""
    (tmp_path / "root.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(PASSPHRASE),
        )
    )

    assert _code(lambda: open_key("file:root.pem", _secrets, tmp_path)) == code


def test_empty_passphrase_is_refused(tmp_path: Path) -> None:
    """An unset secret is not an encryption."""
    create_key("file:root.pem", KeyKind.P256, _secrets, tmp_path)
    for attempt in (
        lambda: create_key("file:b.pem", KeyKind.P256, lambda _: b"", tmp_path),
        lambda: open_key("file:root.pem", lambda _: b"", tmp_path),
    ):
        with pytest.raises(Misconfigured) as refused:
            attempt()
        assert refused.value.code == "key-passphrase"


def test_folder_that_cannot_be_written_is_unavailable(tmp_path: Path) -> None:
    """A file stands where the folder should be: one sentence, nothing left behind."""
    (tmp_path / "keys").write_bytes(b"")

    with pytest.raises(Unavailable) as failed:
        create_key("file:keys/root.pem", KeyKind.P256, _secrets, tmp_path)

    assert failed.value.code == "key-store"
