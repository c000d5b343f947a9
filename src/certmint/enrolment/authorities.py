"""Making authorities: a root, an issuing CA below it, a technically constrained SubCA.

A CA certificate comes out of the same gate as any other. If the power fails between the key and
the certificate, the authority stays PENDING under its name; making it again continues from there.
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

from certmint.enrolment.issue import Gate
from certmint.enrolment.keygen import make_key
from certmint.enrolment.manufacturers import new_id
from certmint.enrolment.signing import SigningKeys
from certmint.enrolment.status import publish_crls
from certmint.model.constraints import NameConstraints
from certmint.model.entities import Authority, Certificate, Manufacturer
from certmint.model.errors import BadInput, Conflict, NotFound
from certmint.model.evidence import OperatorGrant
from certmint.model.keys import KeyKind, KeyOrigin, PublicKey, public_key_of
from certmint.model.profile import Profile, Purpose
from certmint.model.request import CertificateRequest, HeldKey, Requester, RequesterKind
from certmint.model.serial import RandomBytes
from certmint.model.states import AuthorityState
from certmint.model.subject import DistinguishedName
from certmint.registry import reads, writes
from certmint.registry.engine import Database, Transaction


@dataclass(frozen=True)
class NewAuthority:
    """What an operator asks for. `key_uri` may hold `{id}`; `parent` is None for a root."""

    name: str
    subject: DistinguishedName
    profile: str
    key_uri: str
    key_kind: KeyKind
    status_url: str
    parent: str | None = None
    constraints: NameConstraints | None = None
    crl_shards: int = 1


def create_authority(
    db: Database,
    gate: Gate,
    keys: SigningKeys,
    tenant: Manufacturer,
    wanted: NewAuthority,
    *,
    operator_id: str,
    now: dt.datetime,
    random_bytes: RandomBytes,
) -> Authority:
    """Make the key, certify it through the gate, publish the first CRL.

    Raises Conflict `authority-exists`, NotFound `authority-unknown` or `profile-unknown`,
    and whatever the gate refuses.
    """
    with db.read() as tx:
        profile = profile_named(tx, tenant.id, wanted.profile)
        parent = authority_named(tx, tenant.id, wanted.parent) if wanted.parent else None
        existing = reads.authority_by_name(tx, tenant.id, wanted.name)
    if (profile.purpose is Purpose.ROOT) != (parent is None):
        raise BadInput("authority-parent", "a root has no parent; every other authority needs one")
    if existing is not None and existing.state is not AuthorityState.PENDING:
        raise Conflict("authority-exists", f"there is an authority {wanted.name!r} already")
    if existing is not None and not _is_as_wanted(existing, wanted, profile, parent):
        raise Conflict(
            "authority-exists",
            f"authority {wanted.name!r} was begun differently and waits for its certificate: "
            "repeat that command, or choose another name",
        )
    if parent is not None:
        # Weighed with a key that is thrown away, so that a refusal leaves no key and no row.
        trial = public_key_of(make_key(wanted.key_kind))
        gate.check(_request(tenant, wanted, profile, parent.id, trial, operator_id, now), now)
        keys.of(parent)  # a wrong passphrase is found before a key is made under it
    pending = existing or _add_pending(
        db, keys, tenant, wanted, profile, parent, operator_id, now, random_bytes
    )
    keys.of(pending)  # a key that cannot be opened is not certified
    issuer_id = parent.id if parent else pending.id
    request = _request(tenant, wanted, profile, issuer_id, pending.key, operator_id, now)

    def certify(tx: Transaction, issued: Sequence[Certificate]) -> None:
        (made,) = issued
        writes.certify_authority(
            tx, tenant.id, pending.id, made.serial, made.der, made.not_before, made.not_after,
            by=operator_id, at=now,
        )  # fmt: skip

    gate.issue_one(request, now, certify)
    with db.read() as tx:
        authority = authority_named(tx, tenant.id, wanted.name)
    publish_crls(db, keys, authority, now)
    return authority


def _is_as_wanted(
    existing: Authority, wanted: NewAuthority, profile: Profile, parent: Authority | None
) -> bool:
    return (
        existing.subject == wanted.subject
        and existing.purpose is profile.purpose
        and existing.parent_id == (parent.id if parent else None)
        and existing.constraints == wanted.constraints
        and existing.key.kind is wanted.key_kind
        and existing.key_uri == wanted.key_uri.replace("{id}", existing.id)
        and existing.status_url == wanted.status_url
        and existing.crl_shards == wanted.crl_shards
    )


def _request(
    tenant: Manufacturer,
    wanted: NewAuthority,
    profile: Profile,
    issuer_id: str,
    key: PublicKey,
    operator_id: str,
    now: dt.datetime,
) -> CertificateRequest:
    return CertificateRequest(
        tenant_id=tenant.id,
        authority_id=issuer_id,
        profile=profile,
        key=HeldKey(key, KeyOrigin.AUTHORITY),
        requester=Requester(RequesterKind.OPERATOR, operator_id),
        evidence=(OperatorGrant(operator_id, now),),
        subject=wanted.subject,
        constraints=wanted.constraints,
    )


def _add_pending(
    db: Database,
    keys: SigningKeys,
    tenant: Manufacturer,
    wanted: NewAuthority,
    profile: Profile,
    parent: Authority | None,
    operator_id: str,
    now: dt.datetime,
    random_bytes: RandomBytes,
) -> Authority:
    authority_id = new_id("ca", now, random_bytes)
    uri = wanted.key_uri.replace("{id}", authority_id)
    # The key before the row: a key without a row is an unused file, a row without a key is broken.
    public = keys.create(uri, wanted.key_kind)
    pending = Authority(
        id=authority_id,
        tenant_id=tenant.id,
        name=wanted.name,
        purpose=profile.purpose,
        trust=profile.trust,
        parent_id=parent.id if parent else None,
        subject=wanted.subject,
        key=public,
        key_uri=uri,
        constraints=wanted.constraints,
        path_length=profile.path_length,
        state=AuthorityState.PENDING,
        status_url=wanted.status_url,
        crl_shards=wanted.crl_shards,
        created_at=now,
    )
    db.write(lambda tx: writes.add_authority(tx, pending, by=operator_id, at=now))
    return pending


def authority_named(tx: Transaction, tenant_id: str, name: str) -> Authority:
    """Raises NotFound `authority-unknown`."""
    found = reads.authority_by_name(tx, tenant_id, name)
    if found is None:
        raise NotFound(
            "authority-unknown", f"there is no authority {name!r}: see `certmint authority list`"
        )
    return found


def profile_named(tx: Transaction, tenant_id: str, name: str) -> Profile:
    """The newest version of a profile. Raises NotFound `profile-unknown`."""
    found = reads.profile(tx, tenant_id, name)
    if found is None:
        raise NotFound(
            "profile-unknown", f"there is no profile {name!r}: see `certmint profile list`"
        )
    return found
