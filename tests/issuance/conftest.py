"""A world for the issuance tests: authorities with keys in memory, and approvals by hand."""

import dataclasses
import datetime as dt
import itertools
import os
import random
import shutil
import subprocess
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from certmint.issuance.authority import SigningAuthority
from certmint.model import profile as profiles
from certmint.model.constraints import NameConstraints, technically_constrained
from certmint.model.entities import Authority
from certmint.model.evidence import OperatorGrant
from certmint.model.hardware import HardwareName
from certmint.model.keys import KeyKind, KeyOrigin, PrivateKey, PublicKey, public_key_of
from certmint.model.names import Name, parse_name
from certmint.model.profile import Profile, Purpose
from certmint.model.request import CertificateRequest, HeldKey, Requester, RequesterKind
from certmint.model.states import AuthorityState
from certmint.model.subject import NO_SUBJECT, DistinguishedName
from certmint.policy.approval import Approval

NOW = dt.datetime(2026, 11, 23, 12, 0, 0, tzinfo=dt.UTC)
FOR_EVER = dt.datetime(9999, 12, 31, 23, 59, 59, tzinfo=dt.UTC)
ORGANIZATION = DistinguishedName.of(C="US", O="Example Router Inc")


class World:
    """Makes authorities and approvals. Nothing here is random but the keys."""

    now = NOW
    for_ever = FOR_EVER
    organization = ORGANIZATION

    def __init__(self) -> None:
        self._ids = itertools.count(1)
        self._keys: dict[KeyKind, PrivateKey] = {}

    def random_bytes(self, seed: int = 1) -> Callable[[int], bytes]:
        return random.Random(seed).randbytes

    def private_key(self, kind: KeyKind) -> PrivateKey:
        """A fresh EC key; the same RSA key every time, as making one takes long."""
        if kind.is_ec:
            curve = ec.SECP384R1() if kind is KeyKind.P384 else ec.SECP256R1()
            return ec.generate_private_key(curve)
        if kind not in self._keys:
            size = int(kind.value.removeprefix("rsa-"))
            self._keys[kind] = rsa.generate_private_key(public_exponent=65537, key_size=size)
        return self._keys[kind]

    def key(self, kind: KeyKind = KeyKind.P256) -> PublicKey:
        return public_key_of(self.private_key(kind))

    def authority(
        self,
        key: PublicKey,
        profile: Profile = profiles.ISSUING,
        parent: Authority | None = None,
        subject: DistinguishedName | None = None,
        constraints: NameConstraints | None = None,
        shards: int = 4,
    ) -> Authority:
        """An authority that has no certificate yet."""
        number = next(self._ids)
        return Authority(
            id=f"ca{number}",
            tenant_id="maker",
            name=f"{profile.name} {number}",
            purpose=profile.purpose,
            trust=profile.trust,
            parent_id=parent.id if parent else None,
            subject=subject
            or DistinguishedName.of(
                C="US", O="Example Router Inc", CN=f"Example {profile.name} {number}"
            ),
            key=key,
            key_uri="file:unused",
            constraints=constraints,
            path_length=profile.path_length,
            state=AuthorityState.PENDING,
            status_url="http://status.example.com",
            crl_shards=1 if profile.purpose is Purpose.ROOT else shards,
            created_at=NOW,
        )

    def approve(
        self,
        authority: Authority,
        profile: Profile,
        key: PublicKey | None = None,
        *,
        subject: DistinguishedName = NO_SUBJECT,
        names: tuple[str | Name, ...] = (),
        hardware: tuple[HardwareName, ...] = (),
        constraints: NameConstraints | None = None,
        not_before: dt.datetime | None = None,
        not_after: dt.datetime | None = None,
    ) -> Approval:
        """What policy would grant: the profile's lifetime, cut at the issuer's end."""
        begin = not_before or max(
            NOW - profile.backdate, authority.not_before or NOW.min.replace(tzinfo=dt.UTC)
        )
        if not_after is None:
            not_after = FOR_EVER
            if profile.lifetime is not None:
                not_after = begin + profile.lifetime - dt.timedelta(seconds=1)
            not_after = min(not_after, authority.not_after or FOR_EVER)
        origin = KeyOrigin.AUTHORITY if profile.purpose.is_authority else KeyOrigin.FACTORY
        request = CertificateRequest(
            tenant_id="maker",
            authority_id=authority.id,
            profile=profile,
            key=HeldKey(key or self.key(), origin),
            requester=Requester(RequesterKind.OPERATOR, "alice"),
            evidence=(OperatorGrant("alice", NOW),),
            subject=subject,
            names=tuple(parse_name(n) if isinstance(n, str) else n for n in names),
            hardware=hardware,
            constraints=constraints,
        )
        return Approval(request, authority, begin, not_after, "test", ("test",))

    def issue(self, signing: SigningAuthority, *approvals: Approval) -> list[bytes]:
        return signing.sign(signing.prepare(approvals, NOW, os.urandom))

    def root(
        self, kind: KeyKind = KeyKind.P256, profile: Profile = profiles.ROOT
    ) -> SigningAuthority:
        """A self-signed root that can issue."""
        private = self.private_key(kind)
        pending = self.authority(public_key_of(private), profile)
        approval = self.approve(pending, profile, pending.key, subject=pending.subject)
        (certificate,) = self.issue(SigningAuthority(pending, private), approval)
        return SigningAuthority(certified(pending, approval, certificate), private)

    def below(
        self,
        parent: SigningAuthority,
        profile: Profile = profiles.ISSUING,
        kind: KeyKind = KeyKind.P256,
        constraints: NameConstraints | None = None,
        shards: int = 4,
    ) -> SigningAuthority:
        """A CA below `parent` that can issue."""
        private = self.private_key(kind)
        pending = self.authority(
            public_key_of(private), profile, parent.authority, None, constraints, shards
        )
        approval = self.approve(
            parent.authority, profile, pending.key, subject=pending.subject, constraints=constraints
        )
        (certificate,) = self.issue(parent, approval)
        return SigningAuthority(certified(pending, approval, certificate), private)

    def typical(self, authority: Authority, profile: Profile, key: PublicKey) -> Approval:
        """A typical approval for any built-in profile."""
        own = profile.purpose is Purpose.ROOT
        subject, names, constraints = NO_SUBJECT, (), None
        if profile.purpose.is_authority:
            subject = authority.subject if own else DistinguishedName.of(C="US", O="Maker", CN="CA")
        elif profile.purpose is Purpose.IDENTITY:
            subject = DistinguishedName.of(O="Maker", CN="Router", serialNumber="SN-000001")
        elif profile.purpose is Purpose.SIGNER:
            subject = DistinguishedName.of(O="Maker", CN="Batch 7")
        else:
            names = ("r1.dev.example.com", "*.r1.dev.example.com")
        if profile.purpose is Purpose.SUBORDINATE:
            constraints = technically_constrained(("example.com",), ORGANIZATION)
        return self.approve(
            authority,
            profile,
            authority.key if own else key,
            subject=subject,
            names=names,
            constraints=constraints,
        )


def certified(pending: Authority, approval: Approval, certificate: bytes) -> Authority:
    return dataclasses.replace(
        pending,
        state=AuthorityState.ACTIVE,
        der=certificate,
        not_before=approval.not_before,
        not_after=approval.not_after,
    )


@pytest.fixture(scope="session")
def world() -> World:
    """Makes authorities and approvals."""
    return World()


@pytest.fixture(scope="session")
def openssl() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the openssl command; its exit status is for the test to judge."""
    program = shutil.which("openssl")
    if program is None:
        pytest.fail("the openssl command is missing: install the Debian package openssl")

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [program, *map(str, arguments)], capture_output=True, text=True, timeout=30, check=False
        )

    return run
