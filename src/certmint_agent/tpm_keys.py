"""Service keys of a TPM 2.0, by tpm2-tools: the TPM makes them and signs, the folder keeps them.

    tpm:                     the TPM that tpm2-tools finds itself (/dev/tpmrm0)
    tpm:device:/dev/tpm0     another one, in the words of tpm2-tools' --tcti

A key is a file that this one TPM can use, below the storage key that it derives from its owner
seed. So nothing is kept in the TPM, nothing has to be destroyed there, and a power cut is the file
system's affair alone. `tpm2_clear` makes every key useless for ever. The owner hierarchy and the
keys have no password: whoever may open the TPM's device can sign, and cannot take the key away.
"""

import hashlib
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from certmint_agent import tss2
from certmint_agent.credential import PrivateKey
from certmint_agent.errors import KeyStoreFailed, Misconfigured
from certmint_agent.keys import StoredKey, hardware_key

TIMEOUT_S = 60.0  # of one tool; RSA keys take a slow TPM half a minute
# The storage key that tpm2-openssl derives for a parent that is the owner hierarchy.
_PRIMARY = "restricted|decrypt|fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda"
_SIGNING = "sign|fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda"


@dataclass(frozen=True)
class TPMKeys:
    """The keys of one TPM; `tcti` is how to reach it, "" for tpm2-tools' own choice."""

    tcti: str = ""
    home = "tpm"

    def generate(self, kind: str) -> PrivateKey:
        """A new key pair. Raises KeyStoreFailed, and Misconfigured without tpm2-tools."""
        algorithm = "rsa2048" if kind == "rsa-2048" else "ecc256"
        with tempfile.TemporaryDirectory(prefix="certmint-tpm-") as name:
            folder = Path(name)
            self._primary(folder)
            self._run(
                *(folder, "create", "-C", "primary", "-G", algorithm, "-a", _SIGNING),
                *("-u", "public", "-r", "private"),
            )
            public, private = ((folder / part).read_bytes() for part in ("public", "private"))
        return self._key(public, private)

    def open(self, key: StoredKey) -> PrivateKey | None:
        """The key that a folder holds, or None if it is not one of this TPM.

        Raises KeyStoreFailed if the TPM does not answer.
        """
        if key.home != self.home:
            return None
        try:
            public, private = tss2.decode(key.text)
            with tempfile.TemporaryDirectory(prefix="certmint-tpm-") as name:
                self._primary(Path(name))
                self._load(Path(name), public, private)
            return self._key(public, private)
        except (ValueError, _Declined):
            return None

    def sweep(self, named: Iterable[StoredKey]) -> None:
        """Nothing: a key is gone with its file."""

    def _key(self, public: bytes, private: bytes) -> PrivateKey:
        def sign(message: bytes) -> bytes:
            with tempfile.TemporaryDirectory(prefix="certmint-tpm-") as name:
                return self._sign(Path(name), public, private, message)

        where = StoredKey(self.home, tss2.encode(public, private))
        return hardware_key(tss2.public_key(public), where, sign)

    def _sign(self, folder: Path, public: bytes, private: bytes, message: bytes) -> bytes:
        is_rsa = isinstance(tss2.public_key(public), RSAPublicKey)
        (folder / "digest").write_bytes(hashlib.sha256(message).digest())
        self._primary(folder)
        self._load(folder, public, private)
        self._run(
            *(folder, "sign", "-c", "key", "-g", "sha256", "-s", "rsassa" if is_rsa else "ecdsa"),
            *("-d", "-f", "plain", "-o", "signature", "digest"),
        )
        return (folder / "signature").read_bytes()

    def _primary(self, folder: Path) -> None:
        words = ("-C", "o", "-G", "ecc256:aes128cfb", "-a", _PRIMARY, "-c", "primary")
        self._run(folder, "createprimary", *words)

    def _load(self, folder: Path, public: bytes, private: bytes) -> None:
        (folder / "public").write_bytes(public)
        (folder / "private").write_bytes(private)
        words = ("-C", "primary", "-u", "public", "-r", "private", "-c", "key")
        self._run(folder, "load", *words)

    def _run(self, folder: Path, tool: str, *words: str) -> None:
        """One of tpm2-tools in `folder`. Its words are names of files and constants alone."""
        reach = ("-T", self.tcti) if self.tcti else ()
        try:
            done = subprocess.run(  # noqa: S603 - a fixed program; the TCTI is configuration
                [f"tpm2_{tool}", "-Q", *reach, *words],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                timeout=TIMEOUT_S,
                check=False,
            )
        except FileNotFoundError:
            raise Misconfigured(
                f"key_store names a TPM, and tpm2_{tool} is not installed: it is in tpm2-tools"
            ) from None
        except OSError as problem:
            raise Misconfigured(f"tpm2_{tool} does not start: {problem.strerror}") from None
        except subprocess.TimeoutExpired:
            raise KeyStoreFailed(
                f"tpm2_{tool} did not end within {TIMEOUT_S:g} s: check the TPM"
            ) from None
        if done.returncode:
            # The tools speak of each layer in turn; the last but one line has the TPM's own words.
            said = " / ".join(done.stderr.decode(errors="replace").splitlines()[-2:])[:200]
            kind = _Declined if tool == "load" else KeyStoreFailed
            raise kind(f"the TPM declines tpm2_{tool}: {said}")


class _Declined(KeyStoreFailed):
    """The TPM answers, and does not take the key: it is another's, or was cleared."""
