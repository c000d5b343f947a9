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
from pathlib import Path

from cryptography.x509 import load_pem_x509_certificates

from certmint_agent import config
from certmint_agent.credential import load_key, matches
from certmint_agent.errors import AgentError
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


def in_child(victim: int | None) -> int:
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = 99
    try:
        renew(agent(victim), force=not FIRST)
        code = 0
    except AgentError as problem:
        code = problem.exit_code
    finally:
        os._exit(code)


def look() -> dict[str, object]:
    entries = sorted(entry.name for entry in (FOLDER / "versions").iterdir())
    link = FOLDER / "live"
    if not link.is_symlink():
        return {"serial": None, "pair": True, "entries": entries}
    leaf = load_pem_x509_certificates((link / "chain.pem").read_bytes())[0]
    pair = matches(load_key((link / "key.pem").read_bytes()), leaf)
    return {"serial": f"{leaf.serial_number:040x}", "pair": pair, "entries": entries}


def main() -> None:
    with REPORT.open("w") as lines:
        for victim in range(200):
            before = look() if FOLDER.exists() else None
            killed = in_child(victim)
            dead = look()
            survived = in_child(None)
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
