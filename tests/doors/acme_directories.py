"""Directories that a test opens for itself, and doors with other limits than the house's."""

import contextlib
import dataclasses
import os
from collections.abc import Iterator
from typing import Any

from acme_client import Client
from backstage import BY, ACMEHouse

from certmint.doors.acme.app import ACMEDoor
from certmint.enrolment.acme.directories import Offer, add_directory
from certmint.enrolment.acme.limits import Limits
from certmint.model.acme import Directory


def opened(
    acme: ACMEHouse, *, requires_binding: bool = False, authority: str = "issuing", **offer: Any
) -> Directory:
    """A directory that offers this."""
    here = acme.house.here
    return add_directory(
        here.db, acme.house.maker, f"d-{os.urandom(4).hex()}", authority, ("service",),
        requires_binding=requires_binding, by=BY, now=here.clock(), random_bytes=os.urandom,
        offer=Offer(**offer),
    )  # fmt: skip


def meta(acme: ACMEHouse, directory: Directory) -> dict[str, Any]:
    """The directory object's `meta`."""
    client = Client(acme.app, f"/acme/acme/{directory.name}")
    found: dict[str, Any] = client.get("directory").json["meta"]
    return found


@contextlib.contextmanager
def limited(acme: ACMEHouse, **limits: Any) -> Iterator[ACMEHouse]:
    """The same house behind a door with these limits."""
    door = ACMEDoor(dataclasses.replace(acme.door._on, limits=Limits(**limits)))
    yield dataclasses.replace(acme, app=door, door=door)
