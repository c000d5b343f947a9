"""Campaigns: exactly the chosen certificates are called, replaced, revoked and told of."""

import datetime as dt
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from certmint.enrolment import campaigns, manufacturers, products
from certmint.enrolment.acme.revocation import renewal_info
from certmint.enrolment.campaigning import work_campaigns
from certmint.enrolment.renewal import renewal_window
from certmint.enrolment.revocation import revoke
from certmint.model.campaign import (
    AfterReplacing,
    AtDeadline,
    Campaign,
    CampaignKind,
    CampaignState,
    Plan,
    Selection,
)
from certmint.model.entities import Certificate, RevocationReason
from certmint.model.errors import CertmintError, Forbidden
from certmint.model.keys import KeyKind
from certmint.model.profile import Purpose
from certmint.model.subject import DistinguishedName
from certmint.policy.renewal import called_window, phase_of
from certmint.registry import reads

from .house import DAY, NOW, OPERATOR, House, csr, status_of

SECOND = "opr-bob"
URL = "https://status.example/incident-7"


def plan(house: House, kind: CampaignKind = CampaignKind.REPLACE, **changes: Any) -> Plan:
    wanted: dict[str, Any] = {
        "kind": kind,
        "starts_at": house.clock.now,
        "deadline": house.clock.now + 6 * DAY,
    }
    return Plan(**wanted | changes)


def devices(*serial_numbers: str, **more: Any) -> Selection:
    return Selection(serial_numbers=serial_numbers, **more)


def draft(house: House, selection: Selection, wanted: Plan, above: int = 100) -> campaigns.Preview:
    return campaigns.preview(
        house.db, house.tenant, "incident 7", selection, wanted,
        by=OPERATOR, now=house.clock(), random_bytes=os.urandom, above=above,
    )  # fmt: skip


def begun(house: House, selection: Selection, wanted: Plan) -> Campaign:
    """Previewed, started, agreed to if that is needed, and gathered."""
    made = draft(house, selection, wanted).campaign
    found = campaigns.start(house.db, house.tenant, made.id, by=OPERATOR, now=house.clock())
    if found.state is CampaignState.AWAITING_APPROVAL:
        campaigns.approve(house.db, house.tenant, made.id, by=SECOND, now=house.clock())
    return worked(house, made)


def worked(house: House, found: Campaign, piece: int = 500) -> Campaign:
    """After a round of the job."""
    work_campaigns(house.db, house.keys, house.clock, lambda: True, piece)
    return campaigns.campaign(house.db, house.tenant, found.id)


def outcomes(house: House, found: Campaign) -> dict[str, str]:
    lines = campaigns.report(house.db, house.tenant, found.id)
    return {str(line["device"]): str(line["outcome"]) for line in lines}


def service(house: House, serial_number: str) -> Certificate:
    return house.latest(serial_number, Purpose.SERVICE)


def refused(work: Any, *args: Any, **named: Any) -> str:
    with pytest.raises(CertmintError) as refusal:
        work(*args, **named)
    assert "\n" not in refusal.value.detail
    return refusal.value.code


def ari(house: House, serial_number: str) -> Any:
    held = service(house, serial_number)
    issuer = house.read(reads.authority, held.authority_id)
    return renewal_info(house.db, issuer.key.key_id, held.serial, house.clock())


def test_a_preview_writes_its_own_row(house: House) -> None:
    """It counts and shows examples; no window moves and no certificate changes."""
    before = [ari(house, each).window for each in ("R1", "R2", "R3")]
    seen = draft(house, Selection(profile="service"), plan(house))
    assert (seen.chosen.devices, seen.chosen.certificates) == (3, 3)
    assert seen.chosen.by_device_state == {"provisioned": 3}
    assert {each.device_id for each in seen.samples} == {
        house.view(each).device.id for each in ("R1", "R2", "R3")
    }
    assert not seen.needs_approval
    assert worked(house, seen.campaign).state is CampaignState.DRAFT
    assert house.read(reads.campaign_members, seen.campaign.id) == []
    assert [ari(house, each).window for each in ("R1", "R2", "R3")] == before


def choices(house: House) -> dict[str, tuple[Selection, int]]:
    r1 = house.view("R1")
    campaigns.report_firmware(house.db, house.tenant, "R2", "7.1.0", by="device", now=house.clock())
    authority = house.authority("tls").id
    fingerprint = service(house, "R1").key_fingerprint
    return {
        "product": (Selection(product_id=r1.product.id), 3),
        "batch": (Selection(batch_id=r1.device.batch_id), 3),
        "batch, all purposes": (Selection(batch_id=r1.device.batch_id, purpose=None), 6),
        "identities": (Selection(batch_id=r1.device.batch_id, purpose=Purpose.IDENTITY), 3),
        "firmware": (Selection(firmware="7.1.0"), 1),
        "other firmware": (Selection(firmware="7.1.1"), 0),
        "authority": (Selection(authority_id=authority), 3),
        "other authority": (Selection(authority_id=house.authority("issuing").id), 0),
        "profile": (Selection(profile="service"), 3),
        "key": (Selection(key_fingerprints=(fingerprint,)), 1),
        "key kind": (Selection(key_kind=KeyKind.P256), 3),
        "other key kind": (Selection(key_kind=KeyKind.RSA2048), 0),
        "list": (devices("R1", "R3", "unknown"), 2),
        "list and firmware": (devices("R1", "R2", firmware="7.1.0"), 1),
    }


def test_what_can_be_chosen(each_house: House) -> None:
    """By what certificates have in common, alone or together; preview and members agree."""
    for name, (selection, expected) in choices(each_house).items():
        seen = draft(each_house, selection, plan(each_house))
        assert seen.chosen.certificates == expected, name
        assert len(seen.samples) == min(expected, campaigns.SAMPLES), name
        found = begun(each_house, selection, plan(each_house))
        assert found.size == expected, name
        campaigns_end(each_house, found)


def campaigns_end(house: House, found: Campaign) -> None:
    if found.state is not CampaignState.DONE:
        campaigns.cancel(house.db, house.tenant, found.id, by=OPERATOR, now=house.clock())


@pytest.mark.parametrize(
    ("selection", "code"),
    [
        ({}, "campaign-selection"),
        ({"serial_numbers": ("",)}, "campaign-selection"),
        ({"profile": "service", "purpose": Purpose.ROOT}, "campaign-selection"),
        ({"key_fingerprints": ("ab",)}, "campaign-selection"),
        ({"serial_numbers": tuple(map(str, range(10_001)))}, "campaign-selection"),
    ],
)
def test_what_cannot_be_chosen(selection: dict[str, Any], code: str) -> None:
    """Everything at once is no choice."""
    assert refused(Selection, **selection) == code


@pytest.mark.parametrize(
    "changes",
    [
        {"deadline": NOW},
        {"grace": -DAY},
        {"reason": RevocationReason.CA_COMPROMISE},
        {"explanation_url": "javascript:alert(1)"},
        {"explanation_url": "https://x.example/\n"},
    ],
)
def test_what_cannot_be_planned(house: House, changes: dict[str, Any]) -> None:
    """A deadline before the start, a reason that leaves may not have, a link that is none."""
    assert refused(plan, house, **changes) == "campaign-plan"


def test_windows_move_for_exactly_the_chosen(house: House) -> None:
    """ARI, REST and EST say the new window and why; the others' stay as they were."""
    before = ari(house, "R3")
    found = begun(house, devices("R1", "R2"), plan(house, explanation_url=URL))
    for each in ("R1", "R2"):
        told = ari(house, each)
        assert found.plan.starts_at <= told.window.start < told.window.end <= found.plan.deadline
        assert (told.is_urgent, told.explanation_url) == (True, URL)
        view = house.view(each)
        assert view.service is not None
        assert renewal_window(view.service, view, house.clock()) == told.window
    after = ari(house, "R3")
    assert (after.window, after.is_urgent) == (before.window, False)
    campaigns.pause(house.db, house.tenant, found.id, by=OPERATOR, now=house.clock())
    assert not ari(house, "R1").is_urgent
    campaigns.resume(house.db, house.tenant, found.id, by=OPERATOR, now=house.clock())
    assert ari(house, "R1").is_urgent


def test_windows_are_spread(house: House) -> None:
    """Of 10,000 devices no hour of six days gets more than twice its share."""
    found = begun(house, devices("R1"), plan(house))
    with house.db.read() as tx:
        held = service(house, "R1")
        call = reads.campaign_call(tx, house.tenant.id, held.authority_id, held.serial)
    assert call is not None
    starts = [called_window(f"dev-{n}", call, NOW).start for n in range(10_000)]
    hours = [int((each - found.plan.starts_at).total_seconds() // 3600) for each in starts]
    last = 6 * 24 * 5 // 6
    assert min(hours) >= 0
    assert max(hours) <= last
    mean = len(hours) / last
    assert max(hours.count(hour) for hour in range(last)) < 2 * mean
    assert abs(phase_of("dev-1") - phase_of("dev-2")) > 0


def test_a_device_that_is_called_renews_with_its_identity(house: House) -> None:
    """Before its planned time its identity alone would not do: the campaign makes it the time."""
    product = products.product_named(house.db, house.tenant, "router")
    lost = ("re-imaged: nobody",)  # what counts for a device that comes at no planned time
    products.set_policy(house.db, product, lost, grace=None, by=OPERATOR, now=house.clock())
    house.clock.now += DAY
    for each in ("R1", "R2"):
        house.renew(each, csr())  # from now on their identities' key is not their service key
    found = begun(house, devices("R1"), plan(house))
    house.clock.now = found.plan.deadline - DAY / 24
    new = house.renew("R1", csr()).certificate
    assert worked(house, found).replaced == 2  # the factory's certificate was still live, too
    assert service(house, "R1") == new
    assert refused(house.renew, "R2", csr()) == "evidence-not-enough"  # nobody called it


def test_replaced_by_the_deadline(each_house: House) -> None:
    """Who has a successor is done, the old certificate ends after its grace; the rest is missed."""
    house = each_house
    old = {each: service(house, each) for each in ("R1", "R2")}
    wanted = plan(house, after_replacing=AfterReplacing.REVOKE, grace=DAY)
    found = begun(house, devices("R1", "R2"), wanted)
    assert (found.state, found.size, found.pending) == (CampaignState.RUNNING, 2, 2)
    house.clock.now += 5 * DAY
    new = house.renew("R1", csr()).certificate
    found = worked(house, found)
    assert (found.replaced, found.pending) == (1, 1)
    assert status_of(house, old["R1"])[0] == "good"
    house.clock.now += DAY
    found = worked(house, found)  # the grace of R1 and the deadline are over
    assert status_of(house, old["R1"]) == ("revoked", True)
    assert status_of(house, new)[0] == "good"
    assert status_of(house, old["R2"])[0] == "good"
    assert found.state is CampaignState.DONE
    assert outcomes(house, found) == {"R1": "retired", "R2": "missed"}
    (line,) = [
        each for each in campaigns.report(house.db, house.tenant, found.id)
        if each["device"] == "R1"
    ]  # fmt: skip
    assert (line["serial"], line["successor"]) == (old["R1"].serial, new.serial)
    assert house.is_chained()


def test_what_is_left_is_revoked_at_the_deadline(house: House) -> None:
    """If the campaign says so; not a moment before."""
    found = begun(house, devices("R1"), plan(house, at_deadline=AtDeadline.REVOKE))
    house.clock.now = found.plan.deadline - DAY / 24
    assert worked(house, found).pending == 1
    house.clock.now = found.plan.deadline
    found = worked(house, found)
    assert (found.state, found.revoked) == (CampaignState.DONE, 1)
    assert status_of(house, service(house, "R1")) == ("revoked", True)


def test_revoked_piece_by_piece(each_house: House) -> None:
    """Chosen ones and no others, with the reason, on the CRL, in one chain of events."""
    house = each_house
    wanted = plan(house, CampaignKind.REVOKE, reason=RevocationReason.CESSATION_OF_OPERATION)
    made = draft(house, devices("R1", "R2"), wanted).campaign
    campaigns.start(house.db, house.tenant, made.id, by=OPERATOR, now=house.clock())
    campaigns.approve(house.db, house.tenant, made.id, by=SECOND, now=house.clock())
    found = worked(house, made, piece=1)
    assert (found.state, found.revoked, found.size) == (CampaignState.DONE, 2, 2)
    for each in ("R1", "R2"):
        gone = service(house, each)
        assert gone.revocation is not None
        assert gone.revocation.reason is RevocationReason.CESSATION_OF_OPERATION
        assert status_of(house, gone) == ("revoked", True)
    assert status_of(house, service(house, "R3"))[0] == "good"
    assert len(house.audit("certificates.revoked")) == 2
    assert house.is_chained()


def test_a_revocation_that_was_announced(house: House) -> None:
    """Until it starts nothing is revoked, and devices are told to renew at once."""
    found = begun(house, devices("R1"), plan(house, CampaignKind.REVOKE, starts_at=NOW + DAY))
    assert (found.state, found.revoked) == (CampaignState.RUNNING, 0)
    told = ari(house, "R1")
    assert told.window.end < house.clock.now
    house.clock.now += DAY
    assert worked(house, found).revoked == 1


def test_a_compromised_key_takes_everything_with_it(house: House) -> None:
    """The key is blocked, and the identity with the same key is revoked as well (BR 4.9.1.1)."""
    wanted = plan(house, CampaignKind.REVOKE, reason=RevocationReason.KEY_COMPROMISE)
    found = begun(house, devices("R1", purpose=None), wanted)
    assert found.state is CampaignState.DONE
    assert (found.revoked, found.gone) == (2, 0)
    for purpose in (Purpose.SERVICE, Purpose.IDENTITY):
        gone = house.latest("R1", purpose)
        assert gone.revocation is not None
        assert gone.revocation.reason is RevocationReason.KEY_COMPROMISE
    with house.db.read() as tx:
        fingerprint = service(house, "R1").key_fingerprint
        assert reads.key_records(tx, [fingerprint])[fingerprint].blocked


def test_what_was_revoked_by_somebody_else(house: House) -> None:
    """It is told apart, and keeps its own reason."""
    held = service(house, "R1")
    made = draft(house, devices("R1", "R2"), plan(house, CampaignKind.REVOKE)).campaign
    campaigns.start(house.db, house.tenant, made.id, by=OPERATOR, now=house.clock())
    campaigns.approve(house.db, house.tenant, made.id, by=SECOND, now=house.clock())
    looks = iter([True, True])
    work_campaigns(house.db, house.keys, house.clock, lambda: next(looks, False))  # gathered
    revoke(
        house.db, house.keys, house.tenant.id, held.serial, RevocationReason.PRIVILEGE_WITHDRAWN,
        by=OPERATOR, now=house.clock(),
    )  # fmt: skip
    found = worked(house, made)
    assert outcomes(house, found) == {"R1": "gone", "R2": "revoked"}
    again = service(house, "R1")
    assert again.revocation is not None
    assert again.revocation.reason is RevocationReason.PRIVILEGE_WITHDRAWN


def test_four_eyes(house: House) -> None:
    """Whatever revokes or is large waits for somebody else than who drafted it."""
    large = draft(house, Selection(profile="service"), plan(house), above=2)
    assert large.needs_approval
    assert not draft(house, Selection(profile="service"), plan(house), above=3).needs_approval
    made = draft(house, devices("R1"), plan(house, CampaignKind.REVOKE))
    assert made.needs_approval
    found = campaigns.start(
        house.db, house.tenant, made.campaign.id, by=OPERATOR, now=house.clock()
    )
    assert found.state is CampaignState.AWAITING_APPROVAL
    assert worked(house, found).state is CampaignState.AWAITING_APPROVAL
    with pytest.raises(Forbidden) as refusal:
        campaigns.approve(house.db, house.tenant, found.id, by=OPERATOR, now=house.clock())
    assert refusal.value.code == "four-eyes"
    agreed = campaigns.approve(house.db, house.tenant, found.id, by=SECOND, now=house.clock())
    assert (agreed.state, agreed.approved_by) == (CampaignState.GATHERING, SECOND)
    assert refused(
        campaigns.approve, house.db, house.tenant, found.id, by=SECOND, now=house.clock()
    ) == "wrong-state"  # fmt: skip


def test_paused_and_cancelled(house: House) -> None:
    """A paused campaign does nothing, a cancelled one nothing more; what is done stays."""
    made = draft(house, devices("R1", "R2", "R3"), plan(house, CampaignKind.REVOKE)).campaign
    campaigns.start(house.db, house.tenant, made.id, by=OPERATOR, now=house.clock())
    campaigns.approve(house.db, house.tenant, made.id, by=SECOND, now=house.clock())
    looks = iter([True] * 3)
    work_campaigns(house.db, house.keys, house.clock, lambda: next(looks, False), piece=1)
    campaigns.pause(house.db, house.tenant, made.id, by=OPERATOR, now=house.clock())
    found = worked(house, made)
    assert (found.state, found.revoked, found.pending) == (CampaignState.PAUSED, 1, 2)
    campaigns.resume(house.db, house.tenant, made.id, by=OPERATOR, now=house.clock())
    looks = iter([True] * 2)
    work_campaigns(house.db, house.keys, house.clock, lambda: next(looks, False), piece=1)
    campaigns.cancel(house.db, house.tenant, made.id, by=OPERATOR, now=house.clock())
    found = worked(house, made)
    assert (found.state, found.size) == (CampaignState.CANCELLED, 3)
    assert found.pending >= 1
    code = refused(
        campaigns.resume, house.db, house.tenant, made.id, by=OPERATOR, now=house.clock()
    )
    assert code == "wrong-state"


def test_what_is_issued_later_is_no_member(house: House) -> None:
    """The successor of a member is not chased, though it has the same profile and authority."""
    found = begun(house, Selection(profile="service"), plan(house))
    house.clock.now += 5 * DAY
    house.renew("R1", csr())
    found = worked(house, found)
    assert (found.size, found.replaced) == (3, 1)
    assert not ari(house, "R1").is_urgent


def test_killed_in_the_middle(url: str, home: Path, each_house: House, tmp_path: Path) -> None:
    """SIGKILL after the second piece of four: another node goes on, and nothing is done twice."""
    house = each_house
    wanted = plan(house, CampaignKind.REVOKE)
    made = draft(house, devices("R1", "R2", "R3", purpose=None), wanted).campaign
    campaigns.start(house.db, house.tenant, made.id, by=OPERATOR, now=house.clock())
    campaigns.approve(house.db, house.tenant, made.id, by=SECOND, now=house.clock())
    child = Path(__file__).with_name("campaign_crash.py")
    done = subprocess.run(
        [sys.executable, str(child), url, house.clock().isoformat(), "3"],
        capture_output=True, text=True, timeout=50, check=False,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr
    left = campaigns.campaign(house.db, house.tenant, made.id)
    assert (left.state, left.size, left.revoked) == (CampaignState.RUNNING, 6, 2)
    found = worked(house, made)
    assert (found.state, found.revoked) == (CampaignState.DONE, 6)
    for each in ("R1", "R2", "R3"):
        assert status_of(house, service(house, each)) == ("revoked", True)
    told = sum(
        int(each.detail.partition('"count":')[2].partition(",")[0])
        for each in house.audit("certificates.revoked")
    )
    assert told == 6
    assert house.is_chained()


def test_another_manufacturer(house: House) -> None:
    """Knows no campaign of this one, and its campaigns choose nothing here."""
    other = manufacturers.add_manufacturer(
        house.db, "other", DistinguishedName.of(C="US", O="Other"),
        by=OPERATOR, now=house.clock(), random_bytes=os.urandom,
    )  # fmt: skip
    mine = draft(house, Selection(profile="service"), plan(house)).campaign
    code = refused(campaigns.start, house.db, other, mine.id, by="eve", now=house.clock())
    assert code == "campaign-unknown"
    theirs = campaigns.preview(
        house.db, other, "all", Selection(profile="service"), plan(house),
        by="eve", now=house.clock(), random_bytes=os.urandom,
    )  # fmt: skip
    assert theirs.chosen.certificates == 0


def test_firmware_is_noted_once(house: House) -> None:
    """The same version again writes nothing; a strange one is refused."""

    def report(version: str) -> bool:
        return campaigns.report_firmware(
            house.db, house.tenant, "R1", version, by="device:R1", now=house.clock()
        )

    assert report("1.0")
    assert not report("1.0")
    assert house.view("R1").device.firmware == "1.0"
    assert refused(report, "a\nb") == "firmware-syntax"
    assert refused(report, "") == "firmware-syntax"


def test_the_deadline_of_now(house: House) -> None:
    """A draft whose deadline is over is none."""
    late = dt.timedelta(days=7)
    wanted = plan(house)
    house.clock.now += late
    assert refused(draft, house, devices("R1"), wanted) == "campaign-plan"


def test_nobody_agrees_after_the_deadline(house: House) -> None:
    """What waited until then would revoke at once what nobody had the time to replace."""
    made = draft(house, devices("R1"), plan(house, at_deadline=AtDeadline.REVOKE)).campaign
    late = draft(house, devices("R1"), plan(house)).campaign
    campaigns.start(house.db, house.tenant, made.id, by=OPERATOR, now=house.clock())
    then = late.plan.deadline
    agree = {"by": SECOND, "now": then}
    assert refused(campaigns.approve, house.db, house.tenant, made.id, **agree) == "campaign-plan"
    assert refused(campaigns.start, house.db, house.tenant, late.id, **agree) == "campaign-plan"
    assert service(house, "R1").revocation is None
