"""Thousands of requests that schemathesis makes from our own OpenAPI document, links and all."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from backstage import House, build

from certmint.registry import reads

from .lab import LOOPBACK, _listens, _running, free_port

CASES = 5_000
SECONDS = 170
# What is well-formed is refused where names do not exist or go together. Serial numbers may hold
# slashes, so that GET /devices/R4/claim asks for the device "R4/claim", and is no wrong method.
EXCLUDED = "positive_data_acceptance,unsupported_method,allow_header_conformance"
# A body over 64 kB is refused before anything is read of it.
REFUSALS = ["400", "401", "403", "404", "405", "406", "409", "413", "415", "422", "428", "429"]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    made = build(tmp_path_factory.mktemp("schemathesis"))
    yield made
    made.here.close()


@pytest.fixture(scope="module")
def server(house: House) -> Iterator[str]:
    """The house's server, as a process: its base URL."""
    folder = house.here.config.folder
    https, http = free_port(), free_port()
    text = (folder / "certmint.toml").read_text()
    text = text.replace('https = "127.0.0.1:8443"', f'https = "{LOOPBACK}:{https}"')
    text = text.replace('http = "127.0.0.1:8080"', f'http = "{LOOPBACK}:{http}"')
    text = text.replace("requests_minute = 6000", "requests_minute = 1000000")
    (folder / "certmint.toml").write_text(text)
    command = [
        str(Path(sys.executable).with_name("certmint")), "serve",
        "--config", str(folder / "certmint.toml"),
    ]  # fmt: skip
    with _running(command, _listens(https), folder / "serve.log"):
        yield f"https://{LOOPBACK}:{https}"


def known_things(house: House) -> str:
    """Values of parameters that lead to something, as schemathesis reads them."""
    with house.here.db.read() as tx:
        serial = reads.certificates(tx, house.maker.id, limit=1)[0].serial
        batch = reads.batches(tx, house.maker.id)[0].id
        owner = reads.owners(tx, house.maker.id)[0].id
    values = {
        "path.serial_number": "R4",
        "path.serial": serial,
        "path.batch_id": batch,
        "path.owner_id": owner,
        "path.name": "router",
        "path.slug": "acme",
    }
    known = "".join(f'"{key}" = "{value}"\n' for key, value in values.items())
    refusals = f"expected-statuses = {json.dumps(REFUSALS)}\n"
    return f"[parameters]\n{known}\n[checks.negative_data_rejection]\n{refusals}"


def test_no_request_makes_the_server_fail(
    house: House, server: str, tmp_path: Path, require: Callable[..., str]
) -> None:
    """5,000 cases and more, stateful links among them: no 5xx, nothing that the schema denies."""
    folder = house.here.config.folder
    settings = tmp_path / "schemathesis.toml"
    settings.write_text(known_things(house))
    command = [
        str(Path(sys.executable).with_name("schemathesis")), "--config-file", str(settings),
        "run", f"{server}/api/v1/openapi.json", "--tls-verify", str(folder / "tls/root.pem"),
        "-H", f"Authorization: Bearer {house.tokens['acme/administrator']}",
        "--include-tag", "operator", "--exclude-checks", EXCLUDED, "--continue-on-failure",
        "--max-time", str(SECONDS), "--workers", "2", "--no-color", "--seed", "20261124",
        # One waits for the job's end, the other for a DNS server that is not there.
        "--exclude-operation-id", "follow_job", "--exclude-operation-id", "verify_validation",
    ]  # fmt: skip
    run = subprocess.run(
        command, capture_output=True, text=True, timeout=280, check=False, cwd=tmp_path
    )

    assert run.returncode == 0, run.stdout[-60_000:] + run.stderr[-2_000:]
    generated = re.search(r"([\d,]+) generated", run.stdout)
    assert generated is not None, run.stdout[-2_000:]
    assert int(generated[1].replace(",", "")) >= CASES, run.stdout[-2_000:]
    assert "Stateful" in run.stdout
    assert "Traceback" not in (folder / "serve.log").read_text()
