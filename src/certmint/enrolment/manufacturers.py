"""Manufacturers: the tenants."""

import datetime as dt
import re

from certmint.model.entities import Manufacturer
from certmint.model.errors import BadInput, NotFound
from certmint.model.profile import BUILT_IN
from certmint.model.serial import RandomBytes
from certmint.model.subject import DistinguishedName
from certmint.registry import reads, writes
from certmint.registry.engine import Database

_SLUG = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?\Z")


def new_id(prefix: str, now: dt.datetime, random_bytes: RandomBytes) -> str:
    """An opaque id in the order of time: `prefix`, 48 bits of milliseconds, 80 random bits."""
    milliseconds = int(now.timestamp() * 1000).to_bytes(6, "big")
    return f"{prefix}_{(milliseconds + random_bytes(10)).hex()}"


def add_manufacturer(
    db: Database,
    slug: str,
    subject: DistinguishedName,
    *,
    by: str,
    now: dt.datetime,
    random_bytes: RandomBytes,
) -> Manufacturer:
    """A new tenant with the built-in profiles. Raises Conflict `manufacturer-exists`."""
    if not _SLUG.match(slug):
        raise BadInput(
            "manufacturer-syntax",
            f"{slug!r} is not a short name: use at most 32 lower-case letters, digits and hyphens",
        )
    made = Manufacturer(new_id("mfr", now, random_bytes), slug, subject, now)

    def work(tx: writes.Transaction) -> None:
        writes.add_manufacturer(tx, made, by=by, at=now)
        for profile in BUILT_IN:
            writes.add_profile(tx, made.id, profile, by=by, at=now)

    db.write(work)
    return made


def manufacturer(db: Database, slug: str) -> Manufacturer:
    """The tenant of that short name. Raises NotFound `manufacturer-unknown`."""
    with db.read() as tx:
        found = reads.manufacturer_by_slug(tx, slug)
    if found is None:
        raise NotFound(
            "manufacturer-unknown",
            f"there is no manufacturer {slug!r}: see `certmint manufacturer list`",
        )
    return found
