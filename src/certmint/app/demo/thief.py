"""What somebody could sign who stole the SubCA's key: the leaf that certmint refuses to issue.

It shows that name constraints hold against the key itself. The thief is the `openssl` command:
nothing in certmint signs outside the gate, not even for show.
"""

import os
import subprocess
import tempfile
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from certmint.app.demo.clients import OPENSSL
from certmint.app.demo.narrator import NotProved
from certmint.enrolment.chains import pem

_LEAF = """basicConstraints=critical,CA:FALSE
keyUsage=critical,digitalSignature
extendedKeyUsage=serverAuth
authorityKeyIdentifier=keyid
subjectAltName=critical,DNS:{name}
"""


def forge(key_file: Path, passphrase: bytes, ca_der: bytes, name: str) -> bytes:
    """A leaf for any name in DER, valid for a day from now, signed with a stolen CA key."""
    with tempfile.TemporaryDirectory() as created:
        folder = Path(created)
        (folder / "ca.pem").write_text(pem(ca_der))
        (folder / "leaf.cnf").write_text(_LEAF.format(name=name))
        _openssl(
            folder, passphrase, "req", "-new", "-newkey", "ec", "-pkeyopt",
            "ec_paramgen_curve:P-256", "-nodes", "-keyout", "leaf.key", "-subj", "/",
            "-out", "leaf.csr",
        )  # fmt: skip
        _openssl(
            folder, passphrase, "x509", "-req", "-in", "leaf.csr", "-CA", "ca.pem",
            "-CAkey", str(key_file), "-passin", "env:STOLEN", "-days", "1", "-sha256",
            "-set_serial", "0x01f00d", "-extfile", "leaf.cnf", "-out", "leaf.pem",
        )  # fmt: skip
        leaf = x509.load_pem_x509_certificate((folder / "leaf.pem").read_bytes())
        return leaf.public_bytes(serialization.Encoding.DER)


def _openssl(folder: Path, passphrase: bytes, *arguments: str) -> None:
    done = subprocess.run(  # noqa: S603 (a fixed program with our own arguments)
        [OPENSSL or "openssl", *arguments],
        cwd=folder, env=os.environ | {"STOLEN": passphrase.decode()},
        capture_output=True, timeout=30, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise NotProved("demo-failed", f"openssl {arguments[0]}: {done.stderr.decode()[-200:]}")
