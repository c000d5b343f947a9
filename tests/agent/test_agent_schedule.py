"""The agent's schedule: spread, bounded, and never too late."""

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certmint_agent import schedule
from certmint_agent.schedule import Window, next_attempt, next_look, retry_delay

START = dt.datetime(2027, 1, 1, tzinfo=dt.UTC)
END = START + dt.timedelta(days=90)
DICE = st.floats(0, 1, exclude_max=True)
DAYS = st.floats(-400, 400).map(lambda days: dt.timedelta(days=days))


def at(day: float) -> dt.datetime:
    return START + dt.timedelta(days=day)


@pytest.mark.parametrize(("dice", "day"), [(0.0, 20), (0.5, 25), (0.75, 27.5)])
def test_the_time_is_uniform_in_the_window(dice: float, day: float) -> None:
    """Inside the server's window each moment is as likely as any other (RFC 9773 4.2)."""
    window = Window(at(20), at(30))
    assert next_attempt(START, START, END, window, lambda: dice) == at(day)


def test_a_window_in_the_past_means_now() -> None:
    """The server calls a certificate in by moving its window into the past."""
    assert next_attempt(at(40), START, END, Window(at(1), at(2)), lambda: 0.9) == at(40)


@pytest.mark.parametrize(("dice", "day"), [(0.0, 60), (0.999999, 69)])
def test_without_a_window_two_thirds_and_some(dice: float, day: float) -> None:
    """The device's own plan leaves nearly a quarter of the lifetime for outages."""
    chosen = next_attempt(START, START, END, None, lambda: dice)
    assert abs(chosen - at(day)) < dt.timedelta(minutes=1)


def test_a_window_after_expiry_is_not_followed() -> None:
    """No window makes the agent wait until the certificate has expired."""
    chosen = next_attempt(START, START, END, Window(END, at(200)), lambda: 0.5)
    assert chosen == END - schedule.LAST_MOMENT


@given(now=DAYS, first=DAYS, second=DAYS, dice=DICE, life=st.integers(60, 10**8))
def test_never_before_now_and_never_too_late(now, first, second, dice, life) -> None:
    """Whatever is suggested, a renewal lies in [now, …] and before notAfter unless now is late."""
    end = START + dt.timedelta(seconds=life)
    window = Window(START + first, START + second) if first < second else None
    chosen = next_attempt(START + now, START, end, window, lambda: dice)
    assert chosen >= START + now
    assert chosen < end or chosen == START + now


def test_a_window_that_ends_before_it_starts_cannot_exist() -> None:
    """An illegal value cannot be constructed."""
    with pytest.raises(ValueError, match="ends after it starts"):
        Window(END, START)


@given(attempt=st.integers(0, 10**6), dice=DICE)
def test_back_off_stays_between_a_minute_and_six_hours(attempt: int, dice: float) -> None:
    """However long an outage lasts, the agent neither hammers nor gives up."""
    delay = retry_delay(attempt, None, lambda: dice)
    assert dt.timedelta(minutes=1) <= delay <= dt.timedelta(hours=6)


def test_back_off_grows_and_is_spread_from_the_first_failure() -> None:
    """A million devices that failed in the same second do not come back in the same second."""
    latest = [retry_delay(n, None, lambda: 0.9999) for n in range(12)]
    assert latest == sorted(latest)
    assert latest[0] - retry_delay(0, None, lambda: 0.0) > dt.timedelta(seconds=50)
    assert latest[-1] > dt.timedelta(hours=5)


@given(after=st.floats(1, 86_400), dice=DICE, attempt=st.integers(0, 20))
def test_retry_after_is_a_floor(after: float, dice: float, attempt: int) -> None:
    """The server's Retry-After is never undercut."""
    assert retry_delay(attempt, after, lambda: dice).total_seconds() >= after - 1e-6


def test_no_server_sends_a_device_to_sleep_for_ever() -> None:
    """A Retry-After of a century is a day."""
    assert retry_delay(0, 3e9, lambda: 0.5) <= dt.timedelta(days=1.1)
    assert retry_delay(0, float("inf"), lambda: 0.5) <= dt.timedelta(days=1.1)


@given(due=DAYS, dice=DICE)
def test_the_window_is_looked_at_several_times_a_day(due: dt.timedelta, dice: float) -> None:
    """A mass replacement reaches every device that is on within six hours."""
    delay = next_look(START, START + due, lambda: dice)
    assert dt.timedelta(seconds=1) <= delay <= dt.timedelta(hours=6)
    assert delay <= max(due, dt.timedelta(seconds=1))
