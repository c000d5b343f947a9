"""The simulation: the real policy over years, the same every time."""

import dataclasses
import datetime as dt
import xml.etree.ElementTree as ET

from certmint.app.chart import spark, svg
from certmint.app.simulation import Outage, Plan, simulate
from certmint.model.profile import SERVICE, SERVICE_PUBLIC

START = dt.datetime(2026, 11, 23, tzinfo=dt.UTC)
PLAN = Plan(devices=60, start=START, years=3, profile=SERVICE, renew_at=2 / 3)


def test_without_outages_every_device_is_always_valid() -> None:
    """Each device renews before its certificate ends, for ever."""
    result = simulate(PLAN)

    assert result.valid_share == 1.0
    assert result.renewals > 60 * 3 * 4


def test_same_seed_same_result() -> None:
    """A run can be repeated."""
    assert simulate(PLAN) == simulate(PLAN)
    assert simulate(PLAN) != simulate(dataclasses.replace(PLAN, seed=2))


def test_long_outage_costs_validity_and_a_short_one_does_not() -> None:
    """The last sixth of a lifetime is left for outages: days do no harm, months do."""
    days = Outage(START + dt.timedelta(days=365), START + dt.timedelta(days=375))
    months = Outage(START + dt.timedelta(days=365), START + dt.timedelta(days=455))

    assert simulate(dataclasses.replace(PLAN, outages=(days,))).valid_share == 1.0
    assert 0.8 < simulate(dataclasses.replace(PLAN, outages=(months,))).valid_share < 1.0


def test_public_lifetimes_follow_the_calendar() -> None:
    """The rule calendar shortens certificates at its dates, and nobody is caught out."""
    result = simulate(dataclasses.replace(PLAN, profile=SERVICE_PUBLIC))

    lengths = [length for _, length in result.lifetimes]
    assert lengths == [199, 99, 46]
    assert result.lifetimes[1][0] >= dt.date(2027, 3, 15)
    assert result.lifetimes[2][0] >= dt.date(2029, 3, 15)
    assert result.valid_share == 1.0


def test_load_is_even_from_the_first_cycle() -> None:
    """A batch that was made in one minute does not come back in one week."""
    result = simulate(dataclasses.replace(PLAN, devices=400, years=2))

    settled = result.per_week[13:]
    assert max(settled) < 2 * sum(settled) / len(settled)


def test_pictures() -> None:
    """The line has a block a column, and the drawing is well-formed."""
    assert spark([0, 1, 2, 4], 4) == " ▂▄█"
    assert len(spark(list(range(500)), 60)) == 60
    ET.fromstring(svg("Renewals", "a fleet", [1, 2, 3] * 60, START.date(), 7))  # noqa: S314
