"""The maker at work: an installation of certmint, used by its command line and by nothing else.

`ago` puts the clock of one command back (libfaketime), so that a factory run of last summer is
that run, by the same commands. Everything else lives in the present.
"""

import csv
import datetime as dt
import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

NOW = dt.timedelta(0)
PASSPHRASE = "a passphrase for the line"

Done = subprocess.CompletedProcess[str]


@dataclass
class Maker:
    """One installation in `home`; packages and everything else around it in `folder`."""

    folder: Path
    faketime: str
    batches: int = field(default=0, init=False)

    @property
    def home(self) -> Path:
        return self.folder / "certmint"

    @property
    def config(self) -> Path:
        return self.home / "certmint.toml"

    @property
    def server_root(self) -> Path:
        """What clients of the server itself trust."""
        return self.home / "tls" / "root.pem"

    def certmint(self, *words: str, ago: dt.timedelta = NOW, check: bool = True) -> Done:
        """Run `certmint WORDS` to its end, as a person types it."""
        command = [program("certmint"), *words]
        if ago:
            command = [self.faketime, "--exclude-monotonic", "-f", _offset(ago), *command]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=120, check=False,
            env=os.environ | {"CERTMINT_CONFIG": str(self.config)},
        )  # fmt: skip
        if check:
            assert done.returncode == 0, f"certmint {' '.join(words)}: {done.stderr}"
        return done

    def ask(self, *words: str, ago: dt.timedelta = NOW) -> dict[str, str]:
        """The same, read as JSON."""
        answer: dict[str, str] = json.loads(self.certmint(*words, "--json", ago=ago).stdout)
        return answer

    def mint(self, product: str, *serials: str, ago: dt.timedelta = NOW) -> Path:
        """Mint a batch of routers; the folder with a package for each."""
        self.batches += 1
        manifest = self.folder / f"batch-{self.batches}.csv"
        with manifest.open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(("serial", "mac"))
            for place, serial in enumerate(serials):
                table.writerow((serial, f"02:00:00:00:{self.batches:02x}:{place:02x}"))
        out = self.folder / f"packages-{self.batches}"
        self.certmint(
            "batch", "mint", str(manifest), "--product", product, "--out", str(out),
            "--passphrase-file", str(self.passphrase_file), ago=ago,
        )  # fmt: skip
        return out

    @property
    def passphrase_file(self) -> Path:
        """The passphrase of the packages that the line receives."""
        path = self.folder / "line.passphrase"
        if not path.exists():
            path.touch(0o600)
            path.write_text(PASSPHRASE)
        return path


def program(name: str) -> str:
    """A program of ours, from the environment that runs the tests."""
    return str(Path(sys.executable).with_name(name))


def _offset(ago: dt.timedelta) -> str:
    return f"-{int(ago.total_seconds())}s"
