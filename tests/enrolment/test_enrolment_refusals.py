"""Refusals before the gate: written down, and never so many that they fill the log."""

import datetime as dt
import json

from certmint.enrolment.refusals import MOST, WINDOW, Attempt, RefusalLog
from certmint.model.errors import BadInput, CertmintError, Refused, Unauthenticated
from certmint.model.profile import Purpose
from certmint.registry import audit, reads

from .house import House


def note(house: House, log: RefusalLog, code: str, source: str, **more: object) -> None:
    attempt = Attempt("est", source, **more)  # type: ignore[arg-type]
    log.note(house.db, Unauthenticated(code, "no"), attempt, house.clock.now)


def written(house: House) -> list[audit.Entry]:
    events = house.read(reads.audit_events, limit=1000)
    return [each for each in events if each.action == "est.refused"]


def test_a_refusal_is_the_manufacturer_s(house: House) -> None:
    """By the certificate that was shown, or by the label; nobody's where neither is known."""
    log = RefusalLog()
    shown = house.latest("R1", Purpose.IDENTITY)
    note(house, log, "login-failed", "192.0.2.1", certificate=shown.der)
    note(house, log, "login-failed", "192.0.2.2", maker="example")
    note(house, log, "login-failed", "192.0.2.3", maker="nobody", certificate=b"none of ours")
    first, second = written(house)
    assert first.actor == f"device:{shown.device_id}"
    assert second.actor == "est:unknown"
    assert json.loads(second.detail) == {
        "code": "login-failed", "source": "192.0.2.2", "unsaid_before": 0,
    }  # fmt: skip


def test_what_the_gate_wrote_is_not_written_again(house: House) -> None:
    """And what is only malformed, or comes without credentials yet, is no attempt."""
    log = RefusalLog()
    quiet: tuple[CertmintError, ...] = (
        Refused("evidence-revoked", "no"),
        Refused("approval-required", "no"),
        BadInput("csr-syntax", "no"),
        Unauthenticated("login-required", "log in"),
    )
    for refusal in quiet:
        log.note(house.db, refusal, Attempt("est", "192.0.2.1", "example"), house.clock.now)
    assert written(house) == []


def test_an_attacker_cannot_fill_the_log(house: House) -> None:
    """A thousand guesses from one network are one event, and its successor counts them."""
    log = RefusalLog()
    for n in range(1000):
        note(house, log, "login-failed", f"2001:db8::{n:x}", maker="example")
    assert len(written(house)) == 1
    house.clock.now += WINDOW
    note(house, log, "login-failed", "2001:db8::1", maker="example")
    *_, last = written(house)
    assert json.loads(last.detail)["unsaid_before"] == 999


def test_a_thousand_networks_cannot_either(house: House) -> None:
    """In one window a few dozen events are all there is, whatever comes from wherever."""
    log = RefusalLog()
    for n in range(1000):
        note(house, log, "secret-wrong", f"10.{n // 250}.{n % 250}.1", maker="example")
    assert len(written(house)) == MOST
    house.clock.now += WINDOW + dt.timedelta(seconds=1)
    note(house, log, "secret-wrong", "10.0.0.1", maker="example")
    assert len(written(house)) == MOST + 1
