"""Directories: which authority and profiles a manufacturer offers over ACME."""

import dataclasses
import datetime as dt
import re
from dataclasses import dataclass

from certmint.enrolment.authorities import authority_named, profile_named
from certmint.enrolment.manufacturers import new_id
from certmint.model.acme import DEFAULT_CHALLENGES, ChallengeType, Directory, RenewalTerms
from certmint.model.entities import Authority, Manufacturer
from certmint.model.errors import BadInput, NotFound
from certmint.model.evidence import EvidenceKind
from certmint.model.profile import Profile, Purpose, Trust
from certmint.model.serial import RandomBytes
from certmint.registry import reads, writes
from certmint.registry.engine import Database

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?\Z")
_CONTROLS = frozenset({EvidenceKind.CONTROLS_NAMES})


@dataclass(frozen=True)
class Offer:
    """What a directory offers and asks for beyond RFC 8555's least."""

    challenges: tuple[ChallengeType, ...] = DEFAULT_CHALLENGES
    terms: str = ""
    website: str = ""
    caa_identities: tuple[str, ...] = ()
    allows_subdomains: bool = False
    auto_renewal: RenewalTerms | None = None


PLAIN = Offer()


def add_directory(
    db: Database,
    tenant: Manufacturer,
    name: str,
    authority: str,
    profiles: tuple[str, ...],
    *,
    requires_binding: bool,
    by: str,
    now: dt.datetime,
    random_bytes: RandomBytes,
    offer: Offer = PLAIN,
) -> Directory:
    """Open a directory. Raises BadInput `directory-syntax`, Conflict `directory-exists`."""
    if not _NAME.match(name) or not profiles:
        raise BadInput(
            "directory-syntax",
            f"{name!r}: a directory has a name of lower-case letters, digits and hyphens, and at "
            "least one profile",
        )
    with db.read() as tx:
        issuer = authority_named(tx, tenant.id, authority)
        for each in profiles:
            _check_profile(profile_named(tx, tenant.id, each), issuer, offer)
    made = Directory(
        id=new_id("dir", now, random_bytes),
        tenant_id=tenant.id,
        name=name,
        authority_id=issuer.id,
        profiles=profiles,
        requires_binding=requires_binding,
        created_at=now,
        challenges=offer.challenges,
        terms=offer.terms,
        website=offer.website,
        caa_identities=offer.caa_identities,
        allows_subdomains=offer.allows_subdomains,
        auto_renewal=offer.auto_renewal,
    )
    db.write(lambda tx: writes.add_acme_directory(tx, made, by=by, at=now))
    return made


def _check_profile(profile: Profile, issuer: Authority, offer: Offer) -> None:
    shown = _CONTROLS
    if ChallengeType.DEVICE_ATTEST_01 in offer.challenges:
        shown |= {EvidenceKind.ATTESTATION}
    if profile.purpose is not Purpose.SERVICE or not any(
        needed <= shown for needed in profile.accepts
    ):
        raise BadInput(
            "directory-syntax",
            f"profile {profile.name!r} is not for names whose control is proved",
        )
    # Validators use the reach into private networks that the configuration gives, so nothing
    # public may come near them.
    if Trust.PUBLIC in (profile.trust, issuer.trust):
        raise BadInput(
            "directory-syntax",
            f"profile {profile.name!r} is {profile.trust}, authority {issuer.name!r} is "
            f"{issuer.trust}: ACME serves private profiles of private authorities",
        )


def directory_named(db: Database, tenant_slug: str, name: str) -> Directory:
    """Raises NotFound `directory-unknown`."""
    with db.read() as tx:
        found = reads.acme_directory(tx, tenant_slug, name)
    if found is None:
        raise NotFound("directory-unknown", f"there is no ACME directory {tenant_slug}/{name}")
    return found


def change_terms(
    db: Database, directory: Directory, terms: str, *, by: str, now: dt.datetime
) -> Directory:
    """Other terms of service: every account has to agree before it orders again (7.3.3).

    Raises BadInput `directory-syntax`.
    """
    changed = dataclasses.replace(directory, terms=terms)
    db.write(lambda tx: writes.set_acme_terms(tx, directory, terms, by=by, at=now))
    return changed
