"""Renew, and die by SIGKILL right after step 0, 1, 2 … of the store; then survive once.

usage: power_cut.py AGENT.TOML first|again REPORT. For each step a child process renews and is
killed there, and a second one renews in peace. One JSON line a step says how both ended and what
`live` held after each. The last line is that of the first child that was not killed. With `first`
every step starts from an empty folder; with `again` there is a certificate and a new one is forced.
Forking from a process that has everything imported makes a hundred deaths cheap.
"""

import datetime as dt
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from cryptography.x509 import Certificate, load_pem_x509_certificates

from certmint_agent import config, key_store
from certmint_agent.credential import make_csr, matches, names_in
from certmint_agent.errors import AgentError
from certmint_agent.keys import StoredKey
from certmint_agent.renewal import Agent, renew
from certmint_agent.store import Store

PATH, FIRST, REPORT = Path(sys.argv[1]), sys.argv[2] == "first", Path(sys.argv[3])
CONFIG = config.load(PATH)
FOLDER = CONFIG.service_folder


def agent(victim: int | None) -> Agent:
    seen = 0

    def step(what: str) -> None:
        nonlocal seen
        if seen == victim:
            REPORT.with_suffix(".step").write_text(what)
            os.kill(os.getpid(), signal.SIGKILL)
        seen += 1

    def now() -> dt.datetime:
        return dt.datetime.now(dt.UTC)

    return Agent(CONFIG, Store(FOLDER, step), now, lambda: 0.5, lambda _: None)


def in_child(work: Callable[[], int]) -> int:
    """The exit code of `work`. No PKCS#11 module may be initialised on this side of the fork."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = 99
    try:
        code = work()
    except AgentError as problem:
        code = problem.exit_code
    finally:
        os._exit(code)


def attempt(victim: int | None) -> int:
    renew(agent(victim), force=not FIRST)
    return 0


def check(link: Path, leaf: Certificate) -> int:
    """0 if the live key, wherever it is, signs for the live leaf."""
    with key_store.opened(CONFIG.key_store) as keys:
        key = keys.open(StoredKey.read(link))
        if key is None or not matches(key.public_key(), leaf):
            return 1
        return 0 if make_csr(key, names_in(leaf)).is_signature_valid else 1


def look() -> dict[str, object]:
    entries = sorted(entry.name for entry in (FOLDER / "versions").iterdir())
    link = FOLDER / "live"
    if not link.is_symlink():
        return {"serial": None, "pair": True, "entries": entries}
    leaf = load_pem_x509_certificates((link / "chain.pem").read_bytes())[0]
    pair = in_child(lambda: check(link, leaf)) == 0
    return {"serial": f"{leaf.serial_number:040x}", "pair": pair, "entries": entries}


def main() -> None:
    with REPORT.open("w") as lines:
        for victim in range(200):
            before = look() if FOLDER.exists() else None
            killed = in_child(lambda: attempt(victim))  # noqa: B023 - called at once
            dead = look()
            survived = in_child(lambda: attempt(None))
            line = {
                "step": REPORT.with_suffix(".step").read_text(),
                "before": before,
                "killed": killed,
                "dead": dead,
                "survived": survived,
                "after": look(),
            }
            lines.write(json.dumps(line) + "\n")
            if killed != -signal.SIGKILL:
                return
            if FIRST:
                shutil.rmtree(FOLDER)


main()
