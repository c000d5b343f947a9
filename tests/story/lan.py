"""Routers on the owner's LAN, which is loopback: flashed as the line does, then switched on.

The web server is the demo's; a firmware would run uhttpd or nginx. It reads what is `live` in the
router's folder, and certmint-agent keeps that fresh.
"""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from .maker import PASSPHRASE, Done, program
from .processes import free_port, listens, running

FIRST = "20260101T000000Z-1"


@dataclass(frozen=True)
class Router:
    """One router: its serial number, its folder, the port of its web server."""

    serial: str
    folder: Path
    port: int

    @property
    def chain(self) -> Path:
        return self.folder / "tls" / "live" / "chain.pem"

    @property
    def certificate(self) -> x509.Certificate:
        """The service certificate that is live now."""
        return x509.load_pem_x509_certificate(self.chain.read_bytes())

    def agent(self, *words: str) -> Done:
        """Run `certmint-agent WORDS` on the router, to its end."""
        return subprocess.run(
            [program("certmint-agent"), *words, "--config", str(self.folder / "agent.toml")],
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip

    def configure_owner(self, username: str, password_file: Path, name: str) -> None:
        """Tell the agent to come with the owner's login instead of the router's identity."""
        config = self.folder / "agent.toml"
        kept = [line for line in config.read_text().splitlines() if "identity_" not in line]
        config.write_text(
            "\n".join(kept)
            + f'\nowner_username = "{username}"\n'
            + f'owner_password_file = "{password_file}"\n'
            + f'device_serial_number = "{self.serial}"\n'
            + f'names = ["{name}"]\n'
        )


def flash(openssl: str, package: Path, folder: Path) -> Router:
    """A router with the content of its factory package, still switched off."""
    first = folder / "tls" / "versions" / FIRST
    first.mkdir(parents=True)
    for key in (folder / "identity.key", first / "key.pem"):
        key.touch(0o600)
        subprocess.run(
            [openssl, "pkey", "-in", str(package / "key.pem"), "-passin", "stdin",
             "-out", str(key)],
            input=PASSPHRASE, text=True, capture_output=True, check=True, timeout=30,
        )  # fmt: skip
    (folder / "identity.pem").write_bytes((package / "identity.pem").read_bytes())
    (first / "chain.pem").write_bytes((package / "service.pem").read_bytes())
    (folder / "tls" / "live").symlink_to(f"versions/{FIRST}")
    return Router(package.name, folder, free_port())


@contextlib.contextmanager
def switched_on(router: Router, server: str, server_root: Path) -> Iterator[Router]:
    """The router serves its page, and its agent knows the maker's `server`."""
    command = [
        sys.executable, "-m", "certmint.app.demo.router",
        str(router.folder / "tls"), str(router.port),
    ]  # fmt: skip
    with running(command, listens(router.port), router.folder / "router.log") as process:
        (router.folder / "agent.toml").write_text(
            f'server = "{server}"\n'
            f'ca_file = "{server_root}"\n'
            'service_folder = "tls"\n'
            'identity_certificate = "identity.pem"\n'
            'identity_key = "identity.key"\n'
            f'reload_command = ["kill", "-HUP", "{process.pid}"]\n'
            f'check_address = "127.0.0.1:{router.port}"\n'
            "check_timeout_s = 5\n"
        )
        yield router
