"""Web servers on keys in hardware, as docs/agents.md describes them: nginx and openssl.

They need tpm2-openssl and libp11's engine. OPENSSL_MODULES and OPENSSL_ENGINES may say where
these are, if they are not installed where Debian puts them.
"""

import getpass
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509

from .test_agent_random_cuts import free_port, served

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parents[2] / "packaging" / "examples"


@pytest.fixture
def part(require) -> Callable[..., str]:
    """`part("OPENSSL_ENGINES", "engines-3", "pkcs11.so", package)`: the path of OpenSSL's part."""

    def find(variable: str, folder: str, name: str, package: str) -> str:
        places = [f"/usr/lib/{cpu}-linux-gnu/{folder}" for cpu in ("x86_64", "aarch64")]
        own = os.environ.get(variable)
        return require(*(f"{place}/{name}" for place in [own, *places] if place), package=package)

    return find


@pytest.mark.parametrize("kind", ["ec-p256", "rsa-2048"])
def test_openssl_serves_with_a_key_of_the_tpm(
    device, run_agent, tpm, part, monkeypatch, kind: str
) -> None:
    """live/key.pem is used as it is, with the example configuration."""
    part("OPENSSL_MODULES", "ossl-modules", "tpm2.so", "tpm2-openssl")
    assert run_agent("enrol", key_store=tpm.key_store, key_kind=kind).returncode == 0
    monkeypatch.setenv("TPM2OPENSSL_TCTI", tpm.tcti)
    monkeypatch.setenv("OPENSSL_CONF", str(EXAMPLES / "openssl-tpm2.cnf"))
    live = device.folder / "live"
    leaf = x509.load_pem_x509_certificate((live / "chain.pem").read_bytes())
    assert served(live) == leaf


@pytest.fixture
def nginx(device, token, require, part, monkeypatch, tmp_path: Path) -> Iterator[dict[str, object]]:
    """nginx on the live files; what the agent's configuration says of it."""
    program = require("nginx", package="nginx-light")
    engine = part("OPENSSL_ENGINES", "engines-3", "pkcs11.so", "libengine-pkcs11-openssl")
    home, port = tmp_path / "nginx", free_port()
    home.mkdir()
    live = device.folder / "live"
    (home / "nginx.conf").write_text(f"""
        daemon off; pid {home}/pid; error_log stderr; user {getpass.getuser()};
        env SOFTHSM2_CONF; env PKCS11_MODULE_PATH;
        events {{}}
        http {{ access_log off; server {{
            listen 127.0.0.1:{port} ssl;
            ssl_certificate {live}/chain.pem;
            include {live}/key.nginx.conf;
        }} }}
    """)
    monkeypatch.setenv("OPENSSL_ENGINES", str(Path(engine).parent))
    environment = {
        **os.environ,
        "OPENSSL_CONF": str(EXAMPLES / "openssl-pkcs11.cnf"),
        "PKCS11_MODULE_PATH": token.module,
    }
    started: list[subprocess.Popen[bytes]] = []

    def start() -> None:
        words = [program, "-p", str(home), "-c", str(home / "nginx.conf")]
        started.append(subprocess.Popen(words, env=environment, stderr=subprocess.DEVNULL))

    yield {
        "start": start,
        "agent": {
            "key_store": token.key_store,
            "check_address": f"127.0.0.1:{port}",
            "reload_command": ["sh", "-c", f'kill -HUP "$(cat {home}/pid)"'],
        },
    }
    for process in started:
        process.terminate()
        process.wait(20)


def test_nginx_reloads_a_new_key_in_the_token(device, run_agent, token, nginx) -> None:
    """The self-check sees the new leaf, the older keys go, and one old key stays."""
    agent = nginx["agent"]
    assert run_agent("enrol", key_store=token.key_store).returncode == 0
    nginx["start"]()
    serials = set()
    for _ in range(3):
        done = run_agent("enrol", **agent)
        assert (done.returncode, done.stderr) == (0, "")
        serials.add(token.signs_for(device.folder / "live").serial_number)
        assert len(token.keys()) == 2
    assert len(serials) == 3


def test_nginx_that_cannot_use_the_new_key_keeps_the_old_pair(
    device, run_agent, token, nginx
) -> None:
    """Nobody told it to reload: the old key is still there, and the next attempt succeeds."""
    agent = nginx["agent"]
    assert run_agent("enrol", key_store=token.key_store).returncode == 0
    nginx["start"]()
    assert run_agent("enrol", **agent).returncode == 0
    old = token.signs_for(device.folder / "live")
    done = run_agent("enrol", **{**agent, "reload_command": "", "check_timeout_s": 0.5})
    assert done.returncode == 6
    assert token.signs_for(device.folder / "live") == old
    assert run_agent("enrol", **agent).returncode == 0
