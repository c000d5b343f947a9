"""Tokens and TPMs for agents: SoftHSM with a TLS server on its keys, and swtpm behind a proxy.

What a test sees of a key it sees by programs that are not ours (GnuTLS, tpm2-tools), each in a
process of its own, since SoftHSM reads its configuration once per process.
"""

import contextlib
import dataclasses
import re
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from cryptography import x509

PIN = "4711-is-the-pin"


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
        self.pin_file.write_text(PIN + "\n")
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

    def keys(self) -> set[str]:
        """The ids of all private keys."""
        return set(re.findall(r"ID: (\S+)", self.p11tool("--list-privkeys")))

    def serve(self, live: Path) -> x509.Certificate:
        """The leaf that a TLS server shows which starts from `live` now; its key must sign."""
        return served(
            ["gnutls-serv", "--quiet", "--noticket", "--nodb", "--http",
             "--provider", self.module, "--x509certfile", str(live / "chain.pem"),
             "--x509keyfile", (live / "key.uri").read_text().strip()],
            "--port",
        )  # fmt: skip


def served(words: list[str], port_option: str) -> x509.Certificate:
    """Start a TLS server on a free port, shake hands with it, and end it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [*words, port_option, str(port)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        end = time.monotonic() + 20
        while True:
            try:
                plain = socket.create_connection(("127.0.0.1", port), 5)
                break
            except ConnectionRefusedError:
                assert server.poll() is None, server.communicate()[0]
                assert time.monotonic() < end
                time.sleep(0.005)
        with plain, context.wrap_socket(plain) as tls:
            return x509.load_der_x509_certificate(tls.getpeercert(binary_form=True) or b"")
    finally:
        server.kill()
        server.communicate()


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
