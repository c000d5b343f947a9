"""The command line of certmint-agent: words to use cases, errors to exit codes.

The exit codes are those of `certmint_agent.errors`. Remarks and results go to stdout, an error is
one sentence on stderr. What came over the network is made printable before it is shown.
"""

import argparse
import datetime as dt
import json
import random
import sys
from collections.abc import Sequence
from pathlib import Path

from certmint_agent import BUILD_DATE, VERSION, config, loop, renewal
from certmint_agent.credential import names_in
from certmint_agent.errors import AgentError
from certmint_agent.renewal import Agent
from certmint_agent.store import Store

_EPILOG = """exit codes: 0 done, or nothing to do; 1 status: no valid certificate is installed;
2 configuration; 3 server unreachable or busy; 4 refused by the server; 5 the server's answer is not
acceptable; 6 the router did not serve the new certificate; 7 another agent is at work; 8 storage;
9 the token or TPM that holds the keys"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    arguments = _parser().parse_args(argv)
    try:
        return _command(arguments)
    except AgentError as problem:
        print(f"certmint-agent: {_one_line(str(problem))}", file=sys.stderr)
        return problem.exit_code
    except KeyboardInterrupt:
        print("certmint-agent: interrupted; the same command goes on from here", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="certmint-agent",
        description="Keep the HTTPS certificate of this device fresh.",
        epilog=_EPILOG,
    )
    parser.add_argument("--version", action="version", version=f"certmint-agent {VERSION}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text, epilog=_EPILOG)
        command.add_argument("--config", required=True, type=Path, metavar="agent.toml")
        return command

    enrol = add("enrol", "get a first certificate, or replace the present one, now")
    enrol.add_argument(
        "--key-from-server",
        action="store_true",
        help="have the maker's key management make the key and send it encrypted",
    )
    renew = add("renew", "renew if it is due, else say when it will be")
    renew.add_argument("--force", action="store_true", help="renew now")
    add("run", "renew for ever; SIGTERM stops, SIGHUP reads the configuration again")
    status = add("status", "say what is installed, without asking the server")
    status.add_argument("--json", action="store_true", help="as one JSON object")
    return parser


def _command(arguments: argparse.Namespace) -> int:
    if arguments.command == "status":
        return _status(_agent(arguments.config), as_json=arguments.json)
    if arguments.command == "run":
        with loop.signals() as wait:
            loop.run(lambda: _agent(arguments.config), wait)
        return 0
    enrol = arguments.command == "enrol"
    outcome = renewal.renew(
        _agent(arguments.config),
        force=enrol or arguments.force,
        key_from_server=enrol and arguments.key_from_server,
    )
    done = "installed, and" if outcome.renewed else "not due:"
    _say(
        f"{done} valid until {outcome.not_after.isoformat()}, "
        f"next renewal at {outcome.renew_at.isoformat()}"
    )
    return 0


def _agent(path: Path) -> Agent:
    loaded = config.load(path)
    dice = random.SystemRandom().random
    return Agent(loaded, Store(loaded.service_folder), _now, dice, _say)


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC).replace(microsecond=0)


def _say(text: str) -> None:
    print(_one_line(text), flush=True)


def _one_line(text: str) -> str:
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def _status(agent: Agent, *, as_json: bool) -> int:
    now = agent.now()
    with agent.store.guarded():
        live = agent.store.live()
        facts: dict[str, object] = {
            "installed": live is not None,
            "clock_is_right": now >= BUILD_DATE,
            "request_pending": agent.store.pending() is not None,
            "set_aside": agent.store.failed() is not None,
        }
    valid = False
    if live is not None:
        start, end = live.leaf.not_valid_before_utc, live.leaf.not_valid_after_utc
        valid = start <= now <= end
        facts |= {
            "valid": valid,
            "serial": f"{live.leaf.serial_number:x}",
            "names": names_in(live.leaf),
            "not_before": start.isoformat(),
            "not_after": end.isoformat(),
            "renew_at": live.state.renew_at.isoformat(),
            "proved": live.state.proved,
            "key": live.key.where,
        }
    if as_json:
        print(json.dumps(facts))
    else:
        for key, value in facts.items():
            shown = ", ".join(value) if isinstance(value, tuple) else value
            _say(f"{key.replace('_', ' '):16} {shown}")
    return 0 if valid else 1
