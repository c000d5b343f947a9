"""What a campaign says at the doors: ACME's renewal information, and a device's own record."""

import datetime as dt
import hashlib
import os
from collections.abc import Callable, Iterator

import pytest
from asgi import Answer, call
from backstage import BY, ACMEHouse, House
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from test_doors_acme_revocation import ask, window

from certmint.app.wiring import utc_now
from certmint.enrolment import campaigns
from certmint.enrolment.campaigning import work_campaigns
from certmint.model.campaign import Campaign, CampaignKind, Plan, Selection

URL = "https://status.example/incident-7"
DAY = dt.timedelta(days=1)

Run = Callable[[Selection, CampaignKind], Campaign]


@pytest.fixture
def run(house: House) -> Iterator[Run]:
    """Runs campaigns that another one agreed to, and ends them."""
    begun: list[Campaign] = []
    db, maker = house.here.db, house.maker

    def begin(selection: Selection, kind: CampaignKind) -> Campaign:
        plan = Plan(kind, utc_now(), utc_now() + 6 * DAY, explanation_url=URL)
        made = campaigns.preview(
            db, maker, "incident 7", selection, plan, by=BY, now=utc_now(),
            random_bytes=os.urandom,
        ).campaign  # fmt: skip
        campaigns.start(db, maker, made.id, by=BY, now=utc_now())
        if kind is CampaignKind.REVOKE:
            campaigns.approve(db, maker, made.id, by="console:other", now=utc_now())
        looks = iter([True, True])  # its members are written down, and nothing more
        work_campaigns(db, house.here.keys, utc_now, lambda: next(looks, False))
        begun.append(made)
        return made

    yield begin
    for each in begun:
        campaigns.cancel(db, maker, each.id, by=BY, now=utc_now())


def service(house: House, serial_number: str) -> bytes:
    return house.service(serial_number).public_bytes(serialization.Encoding.DER)


def test_renewal_information(acme: ACMEHouse, run: Run) -> None:
    """The chosen are told when and why, and to ask again within the hour; others as before."""
    house = acme.house
    before = ask(acme, service(house, "R4"))
    made = run(Selection(serial_numbers=("R3",)), CampaignKind.REPLACE)
    told = ask(acme, service(house, "R3"))
    start, end = window(told)
    assert made.plan.starts_at - dt.timedelta(seconds=1) <= start < end <= made.plan.deadline
    assert told.json["explanationURL"] == URL
    assert told.headers["retry-after"] == "3600"
    after = ask(acme, service(house, "R4"))
    assert after.json == before.json
    assert after.headers["retry-after"] == "21600"


def test_a_certificate_of_no_device(acme: ACMEHouse, run: Run) -> None:
    """ACME accounts without devices are called as well."""
    der = acme.certify(acme.client(), "incident.example.com")
    key = x509.load_der_x509_certificate(der).public_key()
    spki = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    chosen = Selection(key_fingerprints=(hashlib.sha256(spki).hexdigest(),))
    assert "explanationURL" not in ask(acme, der).json
    run(chosen, CampaignKind.REPLACE)
    assert ask(acme, der).json["explanationURL"] == URL


def test_what_is_to_be_revoked_renews_now(acme: ACMEHouse, run: Run) -> None:
    """Its window is past, before its turn has come."""
    house = acme.house
    run(Selection(serial_numbers=("R5",)), CampaignKind.REVOKE)
    start, end = window(ask(acme, service(house, "R5")))
    assert start < end < utc_now()


def test_a_device_s_own_record(house: House, run: Run) -> None:
    """A device that looks at its record, as the agent does, sees the new window."""

    def record() -> Answer:
        return call(house.rest, "GET", "/api/v1/device", peer=house.identity("R6"))

    before = record().json["certificate"]["renewal"]
    made = run(Selection(serial_numbers=("R6",)), CampaignKind.REPLACE)
    after = record().json["certificate"]["renewal"]
    assert after["start"] < before["start"]
    assert dt.datetime.fromisoformat(after["end"]) <= made.plan.deadline
