"""`certmint profile`."""

from pathlib import Path

import click

from certmint.app.cli.common import (
    config_option,
    console_operator,
    days,
    installation,
    json_option,
    print_item,
    print_rows,
    tenant_of,
    tenant_option,
)
from certmint.model.errors import NotFound
from certmint.model.profile import Profile


@click.group()
def profile() -> None:
    """What kinds of certificates look like, and which evidence buys them."""


@profile.command("list")
@config_option
@tenant_option
@json_option
def list_profiles(config_path: Path, slug: str | None, as_json: bool) -> None:
    """List the newest version of each profile."""
    from certmint.enrolment.profiles import versions

    with installation(config_path) as here:
        rows = [_row(each) for each in versions(here.db, tenant_of(here, slug))]
    print_rows(rows, as_json=as_json, empty="no profiles")


@profile.command()
@click.argument("name")
@click.option("--version", type=int, default=None, help="An earlier version.  [the newest]")
@config_option
@tenant_option
@json_option
def show(
    config_path: Path, slug: str | None, name: str, version: int | None, as_json: bool
) -> None:
    """Show the profile NAME."""
    from certmint.registry import reads

    with installation(config_path) as here:
        tenant = tenant_of(here, slug)
        with here.db.read() as tx:
            found = reads.profile(tx, tenant.id, name, version)
    if found is None:
        raise NotFound("profile-unknown", f"there is no such version of profile {name!r}")
    more = {
        "grace_days": found.grace.days,
        "key_kinds": sorted(found.key_kinds),
        "extended_key_usage": list(found.extended_key_usage),
    }
    print_item(_row(found) | more, as_json=as_json)


@profile.command()
@click.argument("name")
@click.option(
    "--accept",
    "accepts",
    multiple=True,
    metavar="KINDS",
    help="Also this evidence, such as 'a with b'.",
)
@click.option("--lifetime", default=None, help="Of certificates from now on, such as 90d.")
@click.option("--grace", default=None, help="How long an expired certificate counts.")
@click.option(
    "--plain-delivery/--no-plain-delivery", default=None,
    help="Let keys that are made for devices leave under TLS alone.",
)  # fmt: skip
@config_option
@tenant_option
@json_option
def change(
    config_path: Path,
    slug: str | None,
    name: str,
    accepts: tuple[str, ...],
    lifetime: str | None,
    grace: str | None,
    plain_delivery: bool | None,
    as_json: bool,
) -> None:
    """Add a version of the profile NAME that differs in this; the products use it at once.

    `certmint profile change service --accept enrolment-secret` is what a manufacturer needs who was
    added before there were enrolment secrets.
    """
    from certmint.enrolment.authorities import profile_named
    from certmint.enrolment.profiles import ProfileChange, change_profile

    with installation(config_path) as here:
        tenant = tenant_of(here, slug)
        with here.db.read() as tx:
            present = _accepted(profile_named(tx, tenant.id, name))
        wanted = tuple(dict.fromkeys([*present, *accepts])) if accepts else None
        change = ProfileChange(
            lifetime=days(lifetime) if lifetime else None,
            grace=days(grace) if grace else None,
            accepts=wanted,
            plain_delivery=plain_delivery,
        )
        changed = change_profile(
            here.db, tenant, name, change, by=console_operator(), now=here.clock()
        )
    print_item(_row(changed), as_json=as_json)


def _row(found: Profile) -> dict[str, object]:
    return {
        "name": found.name,
        "version": found.version,
        "trust": found.trust.value,
        "purpose": found.purpose.value,
        "days": found.lifetime.days if found.lifetime else "no end",
        "keys_made_by": sorted(found.key_origins),
        "accepts": _accepted(found),
        "plain_delivery": found.plain_delivery,
    }


def _accepted(found: Profile) -> list[str]:
    """A profile's alternatives, as `--accept` takes them."""
    return [" with ".join(sorted(needed)) for needed in found.accepts]
