"""`certmint simulate`: a fleet over years."""

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING

import click

from certmint.app.cli.common import days, json_option, print_item, write_new_file
from certmint.model.errors import BadInput
from certmint.model.profile import SERVICE, SERVICE_PUBLIC

if TYPE_CHECKING:
    from certmint.app.simulation import Outage


@click.command()
@click.option("--devices", type=click.IntRange(1, 1_000_000), default=1000, show_default=True)
@click.option("--years", type=click.FloatRange(0.1, 50), default=10, show_default=True)
@click.option("--profile", "profile_name", type=click.Choice([SERVICE.name, SERVICE_PUBLIC.name]),
              default=SERVICE.name, show_default=True)  # fmt: skip
@click.option("--lifetime", default=None, help="Another lifetime, such as 47d.")
@click.option("--renew-at", type=click.FloatRange(0.3, 0.9), default=2 / 3, help="[0.667]")
@click.option("--boxed", default="0d", show_default=True, help="Longest time before first boot.")
@click.option("--outage", "outages", multiple=True, metavar="DATE/LENGTH", help="2028-01-01/3d")
@click.option("--start", default=None, help="First day [today].", metavar="DATE")
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--svg", "svg_path", type=click.Path(path_type=Path), default=None)
@json_option
def simulate(
    devices: int,
    years: float,
    profile_name: str,
    lifetime: str | None,
    renew_at: float,
    boxed: str,
    outages: tuple[str, ...],
    start: str | None,
    seed: int,
    svg_path: Path | None,
    as_json: bool,
) -> None:
    """Renew a fleet for years against a fast clock, by the real policy and rule calendar.

    Says which share of the time that devices were on they had a valid certificate, and how
    even the load was.
    """
    from certmint.app import chart, simulation
    from certmint.app.wiring import utc_now

    profile = SERVICE if profile_name == SERVICE.name else SERVICE_PUBLIC
    if lifetime is not None:
        profile = simulation.with_lifetime(profile, days(lifetime))
    plan = simulation.Plan(
        devices=devices,
        start=_date(start) if start else utc_now().replace(microsecond=0),
        years=years,
        profile=profile,
        renew_at=renew_at,
        boxed=days(boxed),
        outages=tuple(map(_outage, outages)),
        seed=seed,
    )
    result = simulation.simulate(plan)
    ratio = result.peak_per_day / result.mean_per_day if result.mean_per_day else 0.0
    subtitle = (
        f"{devices} devices, {years:g} years, profile {profile.name}: "
        f"{result.renewals} renewals, valid {result.valid_share:.6f} of the time on"
    )
    if svg_path is not None:
        picture = chart.svg("Renewals per week", subtitle, result.per_week, plan.start.date(), 7)
        write_new_file(svg_path, picture)
    item: dict[str, object] = {
        "devices": devices,
        "years": years,
        "profile": profile.name,
        "lifetimes": [f"{length} days from {since}" for since, length in result.lifetimes],
        "renewals": result.renewals,
        "valid_share": result.valid_share,
        "peak_per_hour": result.peak_per_hour,
        "mean_per_hour": round(result.mean_per_hour, 3),
        "peak_to_mean_per_hour": round(result.peak_per_hour / max(result.mean_per_hour, 1e-9), 2),
        "peak_to_mean_per_day": round(ratio, 2),
    }
    if svg_path is not None:
        item["drawn_in"] = str(svg_path)
    print_item(item, as_json=as_json)
    if not as_json:
        click.echo(f"renewals over time:  {chart.spark(result.per_week)}")


def _date(text: str) -> dt.datetime:
    try:
        return dt.datetime.combine(dt.date.fromisoformat(text), dt.time(), dt.UTC)
    except ValueError:
        raise BadInput("date-syntax", f"{text!r} is not a date such as 2028-01-31") from None


def _outage(text: str) -> "Outage":
    from certmint.app.simulation import Outage

    day, slash, length = text.partition("/")
    if not slash:
        raise BadInput("outage-syntax", f"{text!r} is not DATE/LENGTH such as 2028-01-01/3d")
    begins = _date(day)
    return Outage(begins, begins + days(length))
