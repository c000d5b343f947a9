"""Requests that wait for an operator: kept, decided once, used once, bounded."""

import datetime as dt
import os
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from certmint.enrolment import device_requests, devices, products
from certmint.enrolment.device_requests import PER_DEVICE, Waiting
from certmint.enrolment.issue import Step
from certmint.enrolment.renewal import Enrolled, deliver_key
from certmint.model.csr import CSR
from certmint.model.entities import Wish
from certmint.model.errors import CertmintError, Pending
from certmint.model.keys import KeyKind
from certmint.model.states import DeviceEvent, RequestEvent, RequestState
from certmint.registry import reads

from .house import DAY, OPERATOR, House, csr


def approving(house: House, *situations: str) -> House:
    """The house, where the product `router` wants an operator's approval."""
    found = products.product_named(house.db, house.tenant, "router")
    products.set_policy(
        house.db, found, (), grace=None, approval=situations, by=OPERATOR, now=house.clock()
    )
    return house


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(CertmintError) as error:
        call()
    return error.value.code


def waiting(house: House, state: RequestState | None = RequestState.PENDING) -> list[Waiting]:
    return device_requests.requests(house.db, house.tenant.id, house.clock.now, state=state)


def decide(house: House, event: RequestEvent) -> Waiting:
    """About the only request that is not done."""
    (one,) = (e for e in waiting(house, None) if e.request.state is not RequestState.DONE)
    return device_requests.decide(
        house.db, house.tenant.id, one.request.id, event, by=OPERATOR, now=house.clock()
    )


def asked(house: House, request: CSR) -> Pending:
    with pytest.raises(Pending) as pending:
        house.renew("R1", request)
    return pending.value


def deliver(house: House) -> Enrolled:
    target = house.view("R1")
    return deliver_key(
        house.db, house.gate, target, KeyKind.P256, house.asker("R1"), house.clock(), os.urandom
    )


def test_an_approved_request_gets_its_certificate(each_house: House) -> None:
    """The same key asked again, once the operator has said yes; the record says who did."""
    house, key = approving(each_house, "always"), ec.generate_private_key(ec.SECP256R1())
    before = len(house.held("R1"))
    assert asked(house, csr(key=key)).code == "request-pending"
    assert asked(house, csr(key=key)).retry_after == 60
    (one,) = waiting(house)
    assert (one.serial_number, one.request.evidence) == ("R1", ("holds-certificate",))
    assert "wants an operator's approval for a device that is" in one.request.reason
    assert decide(house, RequestEvent.APPROVED).request.decided_by == OPERATOR
    enrolled = house.renew("R1", csr(key=key))
    assert len(house.held("R1")) == before + 1
    intent = house.read(reads.issuance, enrolled.certificate.serial)
    assert one.request.id in intent.evidence
    (done,) = waiting(house, RequestState.DONE)
    assert done.request.serial == enrolled.certificate.serial


def test_a_lost_answer_needs_no_second_approval(house: House) -> None:
    """The approval is used, and the certificate is given again; a new key waits anew."""
    request = csr()
    asked(approving(house, "always"), request)
    decide(house, RequestEvent.APPROVED)
    first = house.renew("R1", request).certificate
    assert house.renew("R1", request).certificate.serial == first.serial
    asked(house, csr())


def test_the_same_key_waits_anew_after_an_hour(house: House) -> None:
    """An approval buys one certificate, and not the next one with the same key."""
    request = csr()
    asked(approving(house, "always"), request)
    decide(house, RequestEvent.APPROVED)
    house.renew("R1", request)
    house.clock.now += DAY
    asked(house, request)
    assert len(waiting(house, None)) == 1


def test_an_approval_is_for_one_key(house: House) -> None:
    """Another key of the same device is another request."""
    asked(approving(house, "always"), csr())
    decide(house, RequestEvent.APPROVED)
    asked(house, csr())
    assert [each.request.state for each in waiting(house, None)] == [
        RequestState.APPROVED,
        RequestState.PENDING,
    ]


def test_a_rejection_stands_for_a_week(house: House) -> None:
    """One sentence until then; afterwards the same key may ask anew."""
    request = csr()
    asked(approving(house, "always"), request)
    decide(house, RequestEvent.REJECTED)
    assert refused(lambda: house.renew("R1", request)) == "request-rejected"
    house.clock.now += 8 * DAY
    asked(house, request)


def test_an_operator_may_think_again(house: House) -> None:
    """An approval that was not used can be taken back, and a rejection, too; what is done, not."""
    request = csr()
    asked(approving(house, "always"), request)
    for event in (RequestEvent.APPROVED, RequestEvent.REJECTED, RequestEvent.APPROVED):
        decide(house, event)
    house.renew("R1", request)
    (done,) = waiting(house, RequestState.DONE)
    assert refused(
        lambda: device_requests.decide(
            house.db, house.tenant.id, done.request.id, RequestEvent.REJECTED,
            by=OPERATOR, now=house.clock(),
        )
    ) == "wrong-state"  # fmt: skip


def test_nothing_waits_for_ever(house: House) -> None:
    """Who polls for long is told to wait longer, and after a week the request is a new one."""
    request = csr()
    asked(approving(house, "always"), request)
    (first,) = waiting(house)
    house.clock.now += DAY
    assert asked(house, request).retry_after == 3600
    house.clock.now += 7 * DAY
    assert waiting(house) == []
    asked(house, request)
    (second,) = waiting(house)
    assert second.request.id != first.request.id
    assert refused(
        lambda: device_requests.decide(
            house.db, house.tenant.id, first.request.id, RequestEvent.APPROVED,
            by=OPERATOR, now=house.clock(),
        )
    ) == "request-unknown"  # fmt: skip


def test_an_approval_ends_too(house: House) -> None:
    """Approved and never fetched: after a week an operator has to look again."""
    request = csr()
    asked(approving(house, "always"), request)
    decide(house, RequestEvent.APPROVED)
    house.clock.now += 8 * DAY
    asked(house, request)


def test_a_device_fills_no_table(house: House) -> None:
    """Three requests, and then it has to repeat one of them; another device is not held up."""
    approving(house, "always")
    for _ in range(PER_DEVICE):
        asked(house, csr())
    assert refused(lambda: house.renew("R1", csr())) == "requests-full"
    assert refused(lambda: house.renew("R2", csr())) == "request-pending"


def test_who_proves_nothing_gets_no_row(house: House) -> None:
    """What policy refuses anyway waits for nobody."""
    approving(house, "always")
    devices.move(
        house.db, house.tenant.id, "R1", DeviceEvent.SUSPENDED, by=OPERATOR, now=house.clock()
    )
    assert refused(lambda: house.renew("R1", csr())) == "device-state"
    assert refused(lambda: house.renew("R2", csr("router.evil.example"))) == "csr-asks-more"
    assert refused(lambda: house.renew("R2", csr(), house.asker("R1"))) == "evidence-other-device"
    assert waiting(house, None) == []


def test_an_approval_excuses_nothing(house: House) -> None:
    """Whoever was suspended after the approval is refused, and the approval is not used."""
    request = csr()
    asked(approving(house, "always"), request)
    decide(house, RequestEvent.APPROVED)
    devices.move(
        house.db, house.tenant.id, "R1", DeviceEvent.SUSPENDED, by=OPERATOR, now=house.clock()
    )
    assert refused(lambda: house.renew("R1", request)) == "device-state"
    (one,) = waiting(house, RequestState.APPROVED)
    assert one.request.serial is None


def test_only_the_situations_that_the_product_names(house: House) -> None:
    """A device that renews in time waits for nobody where only a first one is looked at."""
    approving(house, "first")
    assert house.renew("R1", csr()).certificate.serial
    approving(house, "none")
    assert house.renew("R1", csr()).certificate.serial


def test_a_key_that_is_made_waits_as_well(house: House) -> None:
    """And the approval of a certificate buys no key, nor the reverse."""
    approving(house, "always")
    assert refused(lambda: deliver(house)) == "request-pending"
    asked(house, csr())
    (made, _) = waiting(house)
    assert made.request.wish is Wish.KEY
    device_requests.decide(
        house.db, house.tenant.id, made.request.id, RequestEvent.APPROVED,
        by=OPERATOR, now=house.clock(),
    )  # fmt: skip
    assert deliver(house).encrypted_key
    assert refused(lambda: deliver(house)) == "request-pending"


def test_an_approval_is_used_once_by_two_at_once(house: House) -> None:
    """While one is being signed, the other one uses the approval: nothing more is released."""
    request = csr()
    asked(approving(house, "always"), request)
    decide(house, RequestEvent.APPROVED)
    before = len(house.held("R1"))

    def overtake(step: Step) -> None:
        if step is Step.SIGNED:
            house.reached = lambda _: None
            house.renew("R1", request)

    house.reached = overtake
    assert refused(lambda: house.renew("R1", request)) == "request-changed"
    assert len(house.held("R1")) == before + 1


def test_a_crash_before_the_certificate_is_stored_costs_no_approval(house: House) -> None:
    """The device asks again, and the same approval lets it through."""

    class PowerCutError(Exception):
        """The process is gone."""

    def cut(step: Step) -> None:
        if step is Step.SIGNED:
            raise PowerCutError

    request = csr()
    asked(approving(house, "always"), request)
    decide(house, RequestEvent.APPROVED)
    house.reached = cut
    with pytest.raises(PowerCutError):
        house.renew("R1", request)
    house.reached = lambda _: None
    assert house.renew("R1", request).certificate.serial


def test_every_step_is_written_down(house: House) -> None:
    """Made, approved, used: by whom, in the audit log."""
    request = csr()
    asked(approving(house, "always"), request)
    decide(house, RequestEvent.APPROVED)
    house.renew("R1", request)
    events = {each.action: each.actor for each in house.read(reads.audit_events)}
    device = f"device:{house.view('R1').device.id}"
    assert events["device.request-made"] == device
    assert events["device.request-approved"] == OPERATOR
    assert events["device.request-used"] == device


def test_strangers_decide_nothing(house: House) -> None:
    """Another manufacturer's operator does not even learn that the request is there."""
    asked(approving(house, "always"), csr())
    (one,) = waiting(house)
    now: dt.datetime = house.clock.now
    assert device_requests.requests(house.db, "other", now) == []
    assert refused(
        lambda: device_requests.decide(
            house.db, "other", one.request.id, RequestEvent.APPROVED, by="eve", now=now
        )
    ) == "request-unknown"  # fmt: skip
