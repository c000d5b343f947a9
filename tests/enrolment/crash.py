"""Does what it is told, in a child of its own each time, and dies by SIGKILL where it is told to.

Orders are lines of JSON on standard input; each is answered with a line: how the child ended, and
what it had let out of its hands by then. Forking from a process that has everything imported, and
every key open, makes a hundred deaths cheap.
"""

import datetime as dt
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from house import Clock, House, key_store

from certmint.enrolment.issue import Step
from certmint.enrolment.packages import PackageFormat
from certmint.issuance.pkixlint import lint_with_pkilint
from certmint.model.csr import parse_csr
from certmint.model.errors import CertmintError
from certmint.registry.engine import open_database

KEYS = key_store()


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def at_step(order: dict[str, Any]) -> Callable[[Step], None]:
    """Dies at the step of the order, in the gate's call of that number."""
    calls = 0

    def reached(step: Step) -> None:
        nonlocal calls
        calls += step is Step.ENTERED
        if (step, calls) == (order.get("step"), order.get("call", 1)):
            die()

    return reached


def at_draw(order: dict[str, Any]) -> Callable[[int], bytes]:
    """Random bytes; dies when they are wanted for that many times (every sealed key wants some)."""
    drawn = 0

    def random_bytes(size: int) -> bytes:
        nonlocal drawn
        drawn += 1
        if drawn == order.get("draw"):
            die()
        return os.urandom(size)

    return random_bytes


def open_house(order: dict[str, Any]) -> House:
    return House(
        open_database(order["url"]), KEYS, Path(order["home"]), Path(order["folder"]),
        Clock(dt.datetime.fromisoformat(order["now"])), at_draw(order), at_step(order),
    )  # fmt: skip


def obey(order: dict[str, Any]) -> None:
    house = open_house(order)
    answer = house.folder / "answer"
    if order["do"] == "renew":
        enrolled = house.renew(order["serial"], parse_csr(bytes.fromhex(order["csr"])))
        answer.write_bytes(enrolled.certificate.der)
    else:
        batch = house.submit(*order["serials"])
        form, passphrase = PackageFormat(order["form"]), order["passphrase"].encode()
        refused = house.mint(batch, "line", form, passphrase)
        answer.write_text(json.dumps([each.code for each in refused]))


def in_child(order: dict[str, Any]) -> int:
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = 99
    try:
        obey(order)
        code = 0
    except CertmintError as error:
        print(repr(error), file=sys.stderr, flush=True)
        code = 1
    finally:
        os._exit(code)


def warm_up(order: dict[str, Any]) -> None:
    house = open_house(order)
    for name in ("tls", "identity-ca"):
        lint_with_pkilint(KEYS.of(house.authority(name)).authority.der)
    house.db.close()  # no connection may be shared with a child


def main() -> None:
    warm: set[str] = set()
    for line in sys.stdin:
        order = json.loads(line)
        if order["home"] not in warm:
            warm_up(order)
            warm.add(order["home"])
        answer = Path(order["folder"], "answer")
        answer.unlink(missing_ok=True)
        ended = in_child(order)
        given = answer.read_bytes().hex() if answer.exists() else None
        print(json.dumps({"ended": ended, "answer": given}), flush=True)


main()
