"""Changing a profile: a new version beside the old ones, which certificates go on to name."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, replace

from certmint.enrolment.authorities import profile_named
from certmint.model.entities import Manufacturer
from certmint.model.errors import BadInput, Conflict
from certmint.model.evidence import EvidenceKind
from certmint.model.profile import Profile
from certmint.registry import reads, writes
from certmint.registry.engine import Database

# Far from the year 9999, which no certificate can get over.
_ZERO, _LONGEST, _LONGEST_GRACE = (dt.timedelta(days=days) for days in (0, 36_500, 3_650))


@dataclass(frozen=True)
class ProfileChange:
    """What a new version does otherwise; None leaves it. `accepts` are lines such as `a with b`."""

    lifetime: dt.timedelta | None = None
    grace: dt.timedelta | None = None
    accepts: tuple[str, ...] | None = None
    plain_delivery: bool | None = None


def next_version(current: Profile, change: ProfileChange) -> Profile:
    """The version after `current`. Raises BadInput `profile-syntax`."""
    given = {name: value for name, value in vars(change).items() if value is not None}
    if "accepts" in given:
        given["accepts"] = _accepts(given["accepts"])
    if (change.lifetime or _ZERO) > _LONGEST or (change.grace or _ZERO) > _LONGEST_GRACE:
        raise BadInput(
            "profile-syntax",
            f"a lifetime has at most {_LONGEST.days} days, a grace at most {_LONGEST_GRACE.days}",
        )
    changed = replace(current, **given)
    if changed == current:
        raise BadInput("profile-syntax", f"this changes nothing of profile {current.name!r}")
    return replace(changed, version=current.version + 1)


def change_profile(
    db: Database, tenant: Manufacturer, name: str, change: ProfileChange, *, by: str,
    now: dt.datetime, version: int | None = None,
) -> Profile:  # fmt: skip
    """Add the next version of a profile; what is issued from now on follows it.

    `version` is the one that whoever wants the change has seen; if its change was made before a
    crash, that is what is returned. Raises NotFound `profile-unknown`, BadInput `profile-syntax`,
    Conflict `profile-exists` or `changed-meanwhile`.
    """
    with db.read() as tx:
        current = profile_named(tx, tenant.id, name)
        seen = current if version is None else reads.profile(tx, tenant.id, name, version)
    made = next_version(seen or current, change)
    if current == made:
        return made
    if current != seen:
        raise Conflict(
            "changed-meanwhile",
            f"profile {name!r} is at version {current.version} by now: look at it and ask again",
        )
    db.write(lambda tx: writes.add_profile(tx, tenant.id, made, by=by, at=now))
    return made


def versions(db: Database, tenant: Manufacturer) -> list[Profile]:
    """The newest version of each profile, by name."""
    with db.read() as tx:
        newest = {each.name: each for each in reads.profiles(tx, tenant.id)}
    return list(newest.values())


def _accepts(lines: Sequence[str]) -> tuple[frozenset[EvidenceKind], ...]:
    def kind(text: str) -> EvidenceKind:
        try:
            return EvidenceKind(text.strip())
        except ValueError:
            known = ", ".join(EvidenceKind)
            raise BadInput(
                "profile-syntax", f"{text.strip()!r} is no kind of evidence: use {known}"
            ) from None

    return tuple(frozenset(map(kind, line.split(" with "))) for line in lines)
