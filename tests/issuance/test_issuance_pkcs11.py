"""Keys in a PKCS#11 token (SoftHSM) sign like any other, and never leave it."""

import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from certmint.issuance import pkcs11 as tokens
from certmint.issuance.authority import SigningAuthority
from certmint.issuance.keys import create_key, open_key
from certmint.issuance.pkcs11 import TokenURI
from certmint.model.errors import CertmintError, Conflict, Misconfigured, Unavailable
from certmint.model.keys import KeyKind, public_key_of
from certmint.model.profile import ROOT, SERVICE

_MODULES = [
    Path("/usr/lib/softhsm/libsofthsm2.so"),
    Path("/usr/lib/pkcs11/libsofthsm2.so"),
    Path("/usr/local/lib/softhsm/libsofthsm2.so"),
]
PIN = b"4711-is-the-pin"
KINDS = [KeyKind.P256, KeyKind.P384, KeyKind.RSA2048]


def _secrets(name: str) -> bytes:
    assert name in ("pin:ca", "pin:gone")
    return PIN


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], str]]:
    """A fresh token named `ca`; gives the URI of an object in it."""
    module = next((path for path in _MODULES if path.exists()), None)
    util = shutil.which("softhsm2-util")
    if module is None or util is None:
        if os.environ.get("CI") == "true":
            pytest.fail("SoftHSM is missing in CI: install the Debian package softhsm2")
        pytest.skip("needs SoftHSM: install the Debian package softhsm2")
    import pkcs11

    folder = tmp_path_factory.mktemp("softhsm")
    (folder / "tokens").mkdir()
    configuration = folder / "softhsm2.conf"
    configuration.write_text(f"directories.tokendir = {folder / 'tokens'}\nlog.level = ERROR\n")
    before = os.environ.get("SOFTHSM2_CONF")
    os.environ["SOFTHSM2_CONF"] = str(configuration)
    pin = PIN.decode()
    subprocess.run(
        [util, "--init-token", "--free", "--label", "ca", "--pin", pin, "--so-pin", pin],
        check=True, capture_output=True, timeout=30,
    )  # fmt: skip
    yield lambda label: f"pkcs11:token=ca;object={label}?module-path={module}"
    # The module reads its configuration once: let the next user of this process read its own.
    pkcs11.lib(str(module)).finalize()
    if before is None:
        del os.environ["SOFTHSM2_CONF"]
    else:
        os.environ["SOFTHSM2_CONF"] = before


@pytest.mark.parametrize("kind", KINDS)
def test_certificates_signed_in_the_token_verify(
    world: Any, token: Callable[[str], str], kind: KeyKind
) -> None:
    """A root with its key in the token issues itself and a leaf; pyca accepts both."""
    uri = token(f"root-{kind}")
    public = create_key(uri, kind, _secrets, Path("/"))
    private = open_key(uri, _secrets, Path("/"))
    pending = world.authority(public, ROOT)
    approval = world.approve(pending, ROOT, public, subject=pending.subject)

    (der,) = world.issue(SigningAuthority(pending, private), approval)

    root = x509.load_der_x509_certificate(der)
    root.verify_directly_issued_by(root)
    assert public_key_of(private) == public
    assert public.kind is kind


def test_batch_signed_in_the_token(world: Any, token: Callable[[str], str]) -> None:
    """A hundred certificates, each verified before it is handed on."""
    import dataclasses

    uri = token("batch")
    public = create_key(uri, KeyKind.P256, _secrets, Path("/"))
    private = open_key(uri, _secrets, Path("/"))
    pending = world.authority(public, ROOT)
    approval = world.approve(pending, ROOT, public, subject=pending.subject)
    (der,) = world.issue(SigningAuthority(pending, private), approval)
    active = dataclasses.replace(
        pending, der=der, not_before=approval.not_before, not_after=approval.not_after
    )
    signing, leaf = SigningAuthority(active, private), world.key()
    approvals = [
        world.approve(active, SERVICE, leaf, names=(f"r{n}.example.com",)) for n in range(100)
    ]

    issued = world.issue(signing, *approvals)

    root = x509.load_der_x509_certificate(der)
    for certificate in issued:
        x509.load_der_x509_certificate(certificate).verify_directly_issued_by(root)


def test_existing_object_is_never_replaced(token: Callable[[str], str]) -> None:
    """A label names one key pair, for ever."""
    made = create_key(token("once"), KeyKind.P256, _secrets, Path("/"))

    with pytest.raises(Conflict) as refused:
        create_key(token("once"), KeyKind.P384, _secrets, Path("/"))

    assert refused.value.code == "key-exists"
    assert public_key_of(open_key(token("once"), _secrets, Path("/"))) == made


def test_key_does_not_leave_the_token(token: Callable[[str], str]) -> None:
    """Neither pyca's class nor the token itself gives the private half away."""
    import pkcs11

    create_key(token("stays"), KeyKind.P256, _secrets, Path("/"))
    key = open_key(token("stays"), _secrets, Path("/"))
    assert isinstance(key, tokens.TokenECKey)

    for attempt in (key.private_numbers, key.private_bytes, key.exchange):
        with pytest.raises(UnsupportedAlgorithm):
            attempt()
    inside = key._token.private_key("stays")
    assert inside[pkcs11.Attribute.EXTRACTABLE] is False
    assert inside[pkcs11.Attribute.SENSITIVE] is True


def test_missing_key_and_missing_token(token: Callable[[str], str]) -> None:
    """The one is a wrong URI, the other a key store that is away."""
    with pytest.raises(Misconfigured) as missing:
        open_key(token("nobody"), _secrets, Path("/"))
    with pytest.raises(Unavailable) as away:
        open_key(token("x").replace("token=ca", "token=gone"), _secrets, Path("/"))

    assert missing.value.code == "key-missing"
    assert away.value.code == "key-store"


def test_missing_module_is_unavailable() -> None:
    """A path where no module is: one sentence."""
    uri = "pkcs11:token=ca;object=a?module-path=/nonexistent/module.so"

    with pytest.raises(Unavailable) as away:
        open_key(uri, _secrets, Path("/"))

    assert away.value.code == "key-store"


def test_wrong_pin_is_tried_once(token: Callable[[str], str]) -> None:
    """The token is not locked by us, and the PIN is not repeated in the error."""
    create_key(token("guarded"), KeyKind.P256, _secrets, Path("/"))
    attempts = []

    def wrong() -> bytes:
        attempts.append(1)
        return b"0000-wrong"

    uri = TokenURI.parse(token("guarded"))
    fresh = tokens._Token(uri, wrong)
    shared = tokens._TOKENS[uri.module_path, uri.token]
    shared._forget_session()  # logs the process out, so that the PIN is asked for

    with pytest.raises(Misconfigured) as refused:
        fresh.run(lambda token: token.private_key("guarded"))

    assert refused.value.code == "key-passphrase"
    assert "0000" not in refused.value.detail
    assert len(attempts) == 1


def test_lost_session_is_opened_again(token: Callable[[str], str]) -> None:
    """A token that was reset in between costs nothing but a moment."""
    create_key(token("reset"), KeyKind.P256, _secrets, Path("/"))
    key = open_key(token("reset"), _secrets, Path("/"))
    assert isinstance(key, tokens.TokenECKey)
    key._token.session.close()

    signature = key.sign(b"message", ec.ECDSA(hashes.SHA256()))

    key.public_key().verify(signature, b"message", ec.ECDSA(hashes.SHA256()))


def test_key_that_vanished_is_reported(token: Callable[[str], str]) -> None:
    """An object destroyed behind our back is an error with a code, not a traceback."""
    create_key(token("vanishes"), KeyKind.P256, _secrets, Path("/"))
    key = open_key(token("vanishes"), _secrets, Path("/"))
    assert isinstance(key, tokens.TokenECKey)
    with key._token.session.token.open(rw=True) as session:
        import pkcs11

        for found in session.get_objects({pkcs11.Attribute.LABEL: "vanishes"}):
            found.destroy()

    with pytest.raises(CertmintError) as failed:
        key.sign(b"message", ec.ECDSA(hashes.SHA256()))

    assert failed.value.code == "key-missing"


def test_two_threads_share_one_token(token: Callable[[str], str]) -> None:
    """The module crashes when two threads enter it; the lock keeps them apart."""
    for label in ("one", "two"):
        create_key(token(label), KeyKind.P256, _secrets, Path("/"))
    failures: list[Exception] = []

    def work(label: str) -> None:
        key = open_key(token(label), _secrets, Path("/"))
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        for n in range(100):
            message = f"{label} {n}".encode()
            try:
                signature = key.sign(message, ec.ECDSA(hashes.SHA256()))
                key.public_key().verify(signature, message, ec.ECDSA(hashes.SHA256()))
            except (CertmintError, x509.InvalidVersion) as error:
                failures.append(error)

    threads = [threading.Thread(target=work, args=(label,)) for label in ("one", "two") * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []


@pytest.mark.parametrize(
    "uri",
    [
        "pkcs11:",
        "pkcs11:token=ca",
        "pkcs11:token=ca;object=a",
        "pkcs11:token=ca;object=a;object=b?module-path=/m",
        "pkcs11:token=;object=a?module-path=/m",
        "pkcs11:token=ca;object=a;serial=1?module-path=/m",
        "pkcs11:token=ca;object=a?module-path=/m&pin-value=4711-is-the-pin",
    ],
)
def test_uris_that_name_no_key_are_refused(uri: str) -> None:
    """Three attributes, each once; a PIN has no place in a URI and is not repeated."""
    with pytest.raises(Misconfigured) as refused:
        TokenURI.parse(uri)

    assert refused.value.code == "key-uri"
    assert PIN.decode() not in refused.value.detail


def test_uri_is_percent_decoded() -> None:
    """RFC 7512, 2.3."""
    parsed = TokenURI.parse("pkcs11:token=my%20ca;object=a%3Bb?module-path=/m.so")

    assert parsed == TokenURI("my ca", "a;b", "/m.so")
