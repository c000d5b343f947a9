"""The shell agent as a device runs it: by a shell of its own, on a service folder of its own."""

import dataclasses
import os
import shutil
import subprocess
from pathlib import Path

import pytest

import certmint_agent

SCRIPT = Path(certmint_agent.__file__).with_name("certmint-agent.sh")
SHELLS = {"ash": ("busybox", "ash"), "dash": ("dash",)}
# All that a device needs beside its shell, openssl and perhaps curl.
TOOLS = [
    *("awk", "cat", "cmp", "cp", "cut", "date", "dirname", "grep", "head", "ln", "ls", "mkdir"),
    *("mktemp", "mv", "openssl", "readlink", "rm", "sed", "sleep", "sort", "sync", "tail", "tr"),
    "wc",
]


@dataclasses.dataclass
class Shell:
    """A device with a shell agent: its shell, its programs, its configuration."""

    words: tuple[str, ...]
    folder: Path
    bin: Path
    settings: dict[str, object]
    script: Path = SCRIPT

    @property
    def service(self) -> Path:
        return self.folder / "tls"

    def config(self, **changes: object) -> Path:
        table = {**self.settings, **changes}
        path = self.folder / "agent.conf"
        path.write_text("# the device\n" + "".join(f'{k}="{v}"\n' for k, v in table.items()))
        return path

    def start(self, command: str, **changes: object) -> subprocess.Popen[str]:
        """A process group of its own, so that a power cut takes all of it."""
        (self.folder / "tmp").mkdir(exist_ok=True)
        return subprocess.Popen(
            [*self.words, str(self.script), command, "--config", str(self.config(**changes))],
            env={"PATH": str(self.bin), "TMPDIR": str(self.folder / "tmp")},
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, command: str, **changes: object) -> tuple[int, str, str]:
        """Exit code, what it said, and what it complained about."""
        process = self.start(command, **changes)
        out, err = process.communicate(timeout=60)
        assert not list((self.folder / "tmp").iterdir()), "it left temporary files"
        return process.returncode, out, err

    def versions(self) -> list[str]:
        return sorted(path.name for path in (self.service / "versions").iterdir())

    def program(self, name: str, text: str) -> None:
        """Put a program of the test in place of the system's."""
        path = self.bin / name
        path.unlink(missing_ok=True)
        path.write_text(text)
        path.chmod(0o755)


def make_shell(name: str, folder: Path, *, curl: bool, **settings: object) -> Shell:
    """A device that has the tools of above and no others; `name` is one of SHELLS."""
    missing = [tool for tool in ("openssl", SHELLS[name][0]) if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"{missing[0]} is not here: apt-get install {missing[0]}")
    folder.mkdir()
    programs = folder / "bin"
    programs.mkdir()
    busybox = shutil.which("busybox")
    for tool in TOOLS + ["curl"] * curl:
        # Under ash the applets are BusyBox's too, as on a router.
        own = busybox if name == "ash" and tool not in ("openssl", "curl") else None
        (programs / tool).symlink_to(own or shutil.which(tool) or "/nonexistent")
    words = tuple(shutil.which(word) or word for word in SHELLS[name][:1]) + SHELLS[name][1:]
    return Shell(words, folder, programs, {"service_folder": "tls", **settings})


def pair_is_whole(service: Path) -> bool:
    """Whether `live` holds a key and its certificate, as openssl sees them; True if it is empty."""
    live = service / "live"
    if not os.path.lexists(live):
        return True
    key = ["openssl", "pkey", "-in", str(live / "key.pem"), "-pubout"]
    leaf = ["openssl", "x509", "-in", str(live / "chain.pem"), "-noout", "-pubkey"]
    halves = [
        subprocess.run(words, capture_output=True, check=True).stdout for words in (key, leaf)
    ]
    return halves[0] == halves[1]
