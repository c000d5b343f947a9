"""The command line of certmint-fleet."""

import argparse
import json
import random
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path

from certmint_fleet.agents import devices_of, packages_in, usual_shell
from certmint_fleet.faults import NotOnThisMachine, cutting
from certmint_fleet.runner import Fleet, Plan

_EPILOG = """example: certmint batch mint routers.csv --product router --plain-keys --out packages;
certmint-fleet --server https://localhost:8443 --ca-file tls/root.pem --packages packages --shell 5
--renewals 3 --over 1h. exit codes: 0 every agent did all it was to do and has a valid pair; 1 not
so; 2 usage; 130 interrupted: the summary says what was done, and the next run goes on from there"""
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a fleet and return the exit code."""
    parser = _parser()
    said = parser.parse_args(argv)
    packages = packages_in(said.packages)
    if said.agents is not None:
        if said.agents > len(packages):
            parser.error(f"{said.packages} has {len(packages)} packages, not {said.agents}")
        packages = packages[: said.agents]
    if not packages:
        parser.error(f"{said.packages} has no packages: folders with identity.pem and key.pem")
    if said.shell > len(packages):
        parser.error(f"--shell {said.shell} of {len(packages)} agents")
    plan = Plan(said.renewals, said.over, said.at_once, said.kill, said.drop)
    way = cutting(said.server, said.drop) if said.drop else nullcontext(said.server)
    try:
        with way as server:
            devices = devices_of(
                packages, said.home, server, said.ca_file, said.shell, said.shell_with
            )
            summary = Fleet(devices, plan, random.Random(said.seed), _progress(said.json)).run()  # noqa: S311
    except NotOnThisMachine as problem:
        parser.error(str(problem))
    except KeyboardInterrupt:
        print("certmint-fleet: stopped at once; the service folders are whole", file=sys.stderr)
        return 130
    print(json.dumps(summary.as_dict()) if said.json else "\n".join(summary.lines()))
    if summary.interrupted:
        print("certmint-fleet: interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    return 0 if summary.is_good else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="certmint-fleet",
        description="Run many real agents against a real server, and say how that went.",
        epilog=_EPILOG,
    )
    add = parser.add_argument
    add("--server", required=True, metavar="URL", help="as the devices know it")
    add("--ca-file", required=True, type=Path, help="whom they trust for the server, in PEM")
    add("--packages", required=True, type=Path, help="where a batch was minted into")
    add("--home", type=Path, default=Path("fleet"), help="the devices' own folders [fleet]")
    add("--agents", type=_number, help="how many of the packages [all]")
    add("--shell", type=_count, default=0, metavar="N", help="so many run certmint-agent.sh [0]")
    add("--shell-with", default=usual_shell(), metavar="WORDS", help="by this [%(default)s]")
    add("--renewals", type=_count, default=1, help="of each, after its first certificate [1]")
    add("--over", type=_duration, default=0.0, metavar="1h", help="spread over this time [at once]")
    add("--at-once", type=_number, default=8, help="attempts at the same time [8]")
    add("--kill", type=_share, default=0.0, metavar="SHARE", help="of attempts, by SIGKILL [0]")
    add("--drop", type=_share, default=0.0, metavar="SHARE", help="of connections, torn [0]")
    add("--seed", type=int, help="the same dice again")
    add("--json", action="store_true", help="one JSON object for programs")
    return parser


def _progress(quiet: bool) -> Callable[[int, int, int], None]:
    """A line that changes on a terminal, a line for each tenth elsewhere; none for programs."""
    is_terminal = sys.stderr.isatty()

    def show(over: int, of: int, failing: int) -> None:
        if quiet:
            return
        text = f"{over} of {of} attempts, {failing} agents failing"
        if is_terminal:
            print(f"\r{text}", end="\n" if over == of else "", file=sys.stderr, flush=True)
        elif over == of or over * 10 // of > (over - 1) * 10 // of:
            print(text, file=sys.stderr, flush=True)

    return show


def _number(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 on")
    return int(text)


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 on")
    return int(text)


def _share(text: str) -> float:
    if not re.fullmatch(r"0(\.[0-9]+)?|\.[0-9]+", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a share from 0 to below 1, such as 0.1")
    return float(text)


def _duration(text: str) -> float:
    if not re.fullmatch(r"[0-9]+[smhd]", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration such as 90s, 30m or 2h")
    return float(int(text[:-1]) * _UNITS[text[-1]])
