"""A software TPM, and a device that uses it with tpm2-tools: real TPM answers, no mock-up."""

import contextlib
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

EK, AK, KEY, PARENT = "0x81010001", "0x81010002", "0x81010003", "0x81000001"
ANSWERS_IN_S = 20.0


@dataclass(frozen=True)
class SoftwareTPM:
    """A running swtpm. Handles are persistent, so nothing has to be flushed between commands."""

    folder: Path
    port: int

    def tool(self, name: str, *arguments: str | Path) -> bytes:
        """What one of the tpm2-tools prints."""
        done = subprocess.run(
            ["tpm2", name, *map(str, arguments)],
            cwd=self.folder,
            env={"TPM2TOOLS_TCTI": f"swtpm:host=127.0.0.1,port={self.port}", "PATH": "/usr/bin"},
            capture_output=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, (name, done.stderr.decode())
        return done.stdout

    def make_ek(self, kind: str) -> bytes:
        """The TPMT_PUBLIC of an endorsement key, `rsa` or `ecc`."""
        self.tool("createek", "-G", kind, "-c", EK, "-u", "ek.pub")
        return self.public(EK)

    def make_ak(self, kind: str, scheme: str) -> bytes:
        """The TPMT_PUBLIC of a restricted signing key below the EK."""
        self.tool(
            *("createak", "-C", EK, "-G", kind, "-g", "sha256", "-s", scheme),
            *("-c", "ak.ctx", "-u", "ak.pub", "-n", "ak.name"),
        )
        self._keep("ak.ctx", AK)
        return self.public(AK)

    def make_key(self, kind: str, attributes: str) -> bytes:
        """The TPMT_PUBLIC of a device key in the storage hierarchy."""
        self.tool("createprimary", "-C", "o", "-c", "primary.ctx")
        self._keep("primary.ctx", PARENT)
        self.tool(
            *("create", "-C", PARENT, "-G", kind, "-a", attributes),
            *("-u", "key.pub", "-r", "key.priv"),
        )
        self.tool("load", "-C", PARENT, "-u", "key.pub", "-r", "key.priv", "-c", "key.ctx")
        self._keep("key.ctx", KEY)
        self.tool("evictcontrol", "-c", PARENT)
        return self.public(KEY)

    def forget(self, handle: str) -> None:
        """Remove a persistent key."""
        self.tool("evictcontrol", "-c", handle)

    def public(self, handle: str) -> bytes:
        """The TPMT_PUBLIC of a key."""
        self.tool("readpublic", "-c", handle, "-f", "tss", "-o", "read.pub")
        return (self.folder / "read.pub").read_bytes()[2:]

    def certify(self, qualifying_data: bytes) -> tuple[bytes, bytes]:
        """TPM2_Certify of the key by the AK: TPMS_ATTEST and TPMT_SIGNATURE.

        tpm2_certify 5.4 cannot set qualifying data, hence the command by hand.
        """
        return self._attest(0x148, [KEY, AK], qualifying_data, b"\x00\x10")

    def quote(self, qualifying_data: bytes) -> tuple[bytes, bytes]:
        """TPM2_Quote of no PCR by the AK: also signed by it, and about no key."""
        return self._attest(0x158, [AK], qualifying_data, b"\x00\x10" + bytes(4))

    def activate(self, credential_blob: bytes, encrypted_secret: bytes) -> bytes | None:
        """TPM2_ActivateCredential: the secret, or None if the TPM refuses."""
        # The file of tpm2-tools: magic, version, then the two structures.
        head = struct.pack(">II", 0xBADCC0DE, 1)
        (self.folder / "cred").write_bytes(head + credential_blob + encrypted_secret)
        self.tool("startauthsession", "--policy-session", "-S", "session.ctx")
        self.tool("policysecret", "-S", "session.ctx", "-c", "e")
        try:
            self.tool(
                *("activatecredential", "-c", AK, "-C", EK, "-i", "cred"),
                *("-o", "secret", "-P", "session:session.ctx"),
            )
        except AssertionError:
            return None
        finally:
            self.tool("flushcontext", "session.ctx")
        return (self.folder / "secret").read_bytes()

    def _keep(self, context: str, handle: str) -> None:
        """Make a key persistent; the TPM has room for three transient ones only."""
        self.tool("evictcontrol", "-c", context, handle)
        self.tool("flushcontext", "-t")

    def _attest(
        self, code: int, handles: list[str], data: bytes, tail: bytes
    ) -> tuple[bytes, bytes]:
        empty_password = struct.pack(">IHBH", 0x40000009, 0, 0, 0) * len(handles)
        body = b"".join(bytes.fromhex(handle[2:]) for handle in handles)
        body += struct.pack(">I", len(empty_password)) + empty_password
        body += struct.pack(">H", len(data)) + data + tail
        command = struct.pack(">HII", 0x8002, 10 + len(body), code) + body
        (self.folder / "command").write_bytes(command)
        self.tool("send", "-o", "response", "command")
        response = (self.folder / "response").read_bytes()
        code, size = struct.unpack(">II", response[6:14])
        assert code == 0, hex(code)
        parameters = response[14 : 14 + size]
        end = 2 + int.from_bytes(parameters[:2], "big")
        return parameters[2:end], parameters[end:]


@contextlib.contextmanager
def software_tpm(program: str, folder: Path) -> Iterator[SoftwareTPM]:
    """A TPM with its state in `folder`, on two loopback ports that the OS had free."""
    port = _two_ports()
    process = subprocess.Popen(
        [
            *(program, "socket", "--tpm2", "--tpmstate", f"dir={folder}"),
            *("--server", f"type=tcp,bindaddr=127.0.0.1,port={port}"),
            *("--ctrl", f"type=tcp,bindaddr=127.0.0.1,port={port + 1}"),
            *("--flags", "not-need-init,startup-clear"),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait(port + 1, process)
        yield SoftwareTPM(folder, port)
    finally:
        process.terminate()
        process.wait(10)


def _two_ports() -> int:
    """tpm2-tools expect the control channel one port above the commands."""
    for _ in range(100):
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port: int = first.getsockname()[1]
            with contextlib.suppress(OSError, OverflowError):
                second.bind(("127.0.0.1", port + 1))
                return port
    raise RuntimeError("no two neighbouring ports are free")


def _wait(port: int, process: "subprocess.Popen[bytes]") -> None:
    ends = time.monotonic() + ANSWERS_IN_S
    while process.poll() is None and time.monotonic() < ends:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise RuntimeError("swtpm did not start")
