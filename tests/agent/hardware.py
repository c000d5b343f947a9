"""Tokens and TPMs for agents: SoftHSM as GnuTLS sees it, and swtpm behind a resource manager.

What a test sees of a key it sees by programs that are not ours (GnuTLS, tpm2-tools), each in a
process of its own, since SoftHSM reads its configuration once per process.
"""

import base64
import contextlib
import dataclasses
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from pyasn1.codec.der import decoder

PIN = "4711-is-the-pin"
STORAGE = "restricted|decrypt|fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda"


@dataclasses.dataclass(frozen=True)
class Token:
    """A fresh SoftHSM token named `router`; SOFTHSM2_CONF must say `configuration`."""

    module: str
    folder: Path

    @property
    def configuration(self) -> Path:
        return self.folder / "softhsm2.conf"

    @property
    def pin_file(self) -> Path:
        return self.folder / "pin"

    @property
    def key_store(self) -> str:
        return (
            f"pkcs11:token=router;object=https?module-path={self.module}"
            f"&pin-source=file:{self.pin_file}"
        )

    def make(self, softhsm2_util: str) -> None:
        (self.folder / "tokens").mkdir(parents=True)
        self.configuration.write_text(f"directories.tokendir = {self.folder / 'tokens'}\n")
        self.pin_file.write_text(PIN)
        self.initialise(softhsm2_util)

    def initialise(self, softhsm2_util: str, *, again: bool = False) -> None:
        """`again` throws away whatever is in the token, as a factory reset does."""
        which = ("--token", "router", "--force") if again else ("--free",)
        subprocess.run(
            [softhsm2_util, "--init-token", *which, "--label", "router", "--pin", PIN,
             "--so-pin", PIN],
            check=True, capture_output=True, timeout=30,
        )  # fmt: skip

    def p11tool(self, *words: str) -> str:
        """GnuTLS's look into the token, logged in."""
        return subprocess.run(
            ["p11tool", "--batch", "--login", f"--set-pin={PIN}", "--provider", self.module,
             *words, "pkcs11:token=router"],
            check=True, capture_output=True, text=True, timeout=30,
        ).stdout  # fmt: skip

    def log_in(self) -> None:
        """With the right PIN; GnuTLS's programs do not try one after a wrong one either."""
        order = (
            f"import pkcs11; token = pkcs11.lib({self.module!r}).get_token(token_label='router')\n"
            f"token.open(user_pin={PIN!r}).close()"
        )
        subprocess.run([sys.executable, "-c", order], check=True, timeout=30)

    def keys(self) -> set[str]:
        """The ids of all private keys."""
        return set(re.findall(r"ID: (\S+)", self.p11tool("--list-privkeys")))

    def signs_for(self, live: Path) -> x509.Certificate:
        """The live leaf, whose key in the token has just signed something, by GnuTLS."""
        done = subprocess.run(
            ["certtool", "--generate-request", "--template", "/dev/null", "--provider", self.module,
             "--load-privkey", (live / "key.uri").read_text().strip()],
            check=False, capture_output=True, timeout=30, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        leaf = x509.load_pem_x509_certificate((live / "chain.pem").read_bytes())
        check_signature(x509.load_pem_x509_csr(done.stdout[done.stdout.index(b"-----") :]), leaf)
        return leaf


def check_signature(signed: x509.CertificateSigningRequest, leaf: x509.Certificate) -> None:
    """The key of `leaf` signed it."""
    public = leaf.public_key()
    if isinstance(public, rsa.RSAPublicKey):
        padding = signed.signature_algorithm_parameters
        public.verify(
            signed.signature, signed.tbs_certrequest_bytes, padding, signed.signature_hash_algorithm
        )
    else:
        scheme = ec.ECDSA(signed.signature_hash_algorithm)
        public.verify(signed.signature, signed.tbs_certrequest_bytes, scheme)


@dataclasses.dataclass(frozen=True)
class TPM:
    """A swtpm behind what the kernel's /dev/tpmrm0 does: nothing is left loaded in it."""

    folder: Path

    @property
    def tcti(self) -> str:
        program = Path(__file__).with_name("tpm_connection.py")
        return f"cmd:{sys.executable} -I -S {program} {self.folder / 'socket'}"

    @property
    def key_store(self) -> str:
        return f"tpm:{self.tcti}"

    def signs_for(self, live: Path) -> x509.Certificate:
        """The live leaf, whose key file the TPM has just signed with, by tpm2-tools alone.

        tpm2_load 5.4 reads no TSS2 PRIVATE KEY, so the two structures are taken out of it here.
        """
        leaf = x509.load_pem_x509_certificate((live / "chain.pem").read_bytes())
        pem = (live / "key.pem").read_text().splitlines()
        assert pem[0] == "-----BEGIN TSS2 PRIVATE KEY-----"
        der = base64.b64decode("".join(pem[1:-1]))
        *_, public, private = decoder.decode(der)[0].values()
        (self.folder / "public").write_bytes(bytes(public))
        (self.folder / "private").write_bytes(bytes(private))
        (self.folder / "message").write_bytes(b"something to sign")
        self.tool("createprimary", "-G", "ecc", "-a", STORAGE, "-c", "primary")
        self.tool("load", "-C", "primary", "-u", "public", "-r", "private", "-c", "key")
        self.tool("sign", "-c", "key", "-g", "sha256", "-f", "plain", "-o", "signature", "message")
        signature = (self.folder / "signature").read_bytes()
        leaf.public_key().verify(signature, b"something to sign", ec.ECDSA(hashes.SHA256()))
        return leaf

    def tool(self, name: str, *words: str | Path) -> str:
        return subprocess.run(
            [f"tpm2_{name}", "-T", self.tcti, *map(str, words)],
            check=True, capture_output=True, text=True, timeout=60, cwd=self.folder,
        ).stdout  # fmt: skip


@contextlib.contextmanager
def running_tpm(swtpm: str, folder: Path) -> Iterator[TPM]:
    """A TPM with its state and its socket in `folder`."""
    folder.mkdir()
    process = subprocess.Popen(
        [swtpm, "socket", "--tpm2", "--tpmstate", f"dir={folder}",
         "--server", f"type=unixio,path={folder / 'socket'}",
         "--flags", "not-need-init,startup-clear"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        end = time.monotonic() + 20
        while not (folder / "socket").exists():
            assert process.poll() is None, "swtpm ended"
            assert time.monotonic() < end, "swtpm does not listen"
            time.sleep(0.01)
        yield TPM(folder)
    finally:
        process.kill()
        process.wait()
