"""Whole chains, judged by verifiers that we did not write: openssl and pyca."""

import datetime as dt
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import verification

from certmint.issuance.authority import SigningAuthority
from certmint.issuance.crl import build_crl
from certmint.model.constraints import named_subordinate, technically_constrained
from certmint.model.entities import RevocationReason
from certmint.model.keys import KeyKind
from certmint.model.profile import (
    IDENTITY,
    IDENTITY_ISSUING,
    IDENTITY_ROOT,
    SERVICE,
    SIGNER,
    SUBORDINATE,
)
from certmint.model.serial import serial_of
from certmint.model.subject import DistinguishedName

WEEK = dt.timedelta(days=7)
OpenSSL = Callable[..., Any]


@pytest.fixture(scope="module")
def root(world: Any) -> SigningAuthority:
    return world.root(KeyKind.P384)


@pytest.fixture(scope="module")
def issuing(world: Any, root: SigningAuthority) -> SigningAuthority:
    return world.below(root)


@pytest.fixture(scope="module", params=["7.1.2.5", "7.1.2.6", "7.1.2.6 critical"])
def constrained(world: Any, issuing: SigningAuthority, request: Any) -> SigningAuthority:
    """A SubCA for router.example.com, in each kind."""
    domains = ("router.example.com",)
    constraints = {
        "7.1.2.5": technically_constrained(domains, world.organization),
        "7.1.2.6": named_subordinate(domains),
        "7.1.2.6 critical": named_subordinate(domains, critical=True),
    }[request.param]
    return world.below(issuing, SUBORDINATE, constraints=constraints)


class Files:
    """A chain as the openssl command wants it."""

    def __init__(self, folder: Path, openssl: OpenSSL, at: dt.datetime) -> None:
        self.folder, self.openssl, self.at = folder, openssl, int(at.timestamp())

    def pem(self, name: str, *ders: bytes) -> Path:
        path = self.folder / name
        certificates = map(x509.load_der_x509_certificate, ders)
        path.write_bytes(b"".join(c.public_bytes(Encoding.PEM) for c in certificates))
        return path

    def verify(self, leaf: bytes, *cas: SigningAuthority, options: tuple[Any, ...] = ()) -> str:
        """Empty if openssl accepts the leaf below these CAs, root first; else what it says."""
        chain = [ca.authority.der for ca in cas]
        arguments = ["-CAfile", self.pem("root.pem", chain[0])]
        if chain[1:]:
            arguments += ["-untrusted", self.pem("between.pem", *chain[1:])]
        done = self.openssl(
            "verify", "-x509_strict", "-attime", self.at, *arguments, *options,
            self.pem("leaf.pem", leaf),
        )  # fmt: skip
        return "" if done.returncode == 0 else done.stderr

    def crl(self, *crls: bytes) -> Path:
        path = self.folder / "crls.pem"
        loaded = map(x509.load_der_x509_crl, crls)
        path.write_bytes(b"".join(crl.public_bytes(Encoding.PEM) for crl in loaded))
        return path


@pytest.fixture
def files(tmp_path: Path, openssl: OpenSSL, world: Any) -> Files:
    return Files(tmp_path, openssl, world.now)


def _pyca_accepts(world: Any, name: str, leaf: bytes, *cas: SigningAuthority) -> bool:
    root, *between = [x509.load_der_x509_certificate(ca.authority.der) for ca in cas]
    verifier = (
        verification.PolicyBuilder()
        .store(verification.Store([root]))
        .time(world.now)
        .build_server_verifier(x509.DNSName(name))
    )
    try:
        verifier.verify(x509.load_der_x509_certificate(leaf), between)
    except verification.VerificationError:
        return False
    return True


def _service(world: Any, signing: SigningAuthority, *names: str) -> bytes:
    approval = world.approve(signing.authority, SERVICE, world.key(), names=names)
    (certificate,) = world.issue(signing, approval)
    return certificate


@pytest.mark.parametrize(
    "name", ["router.example.com", "a.router.example.com", "*.router.example.com"]
)
def test_leaf_inside_the_constraints_is_accepted(
    world: Any, files: Files, root: Any, issuing: Any, constrained: Any, name: str
) -> None:
    """Root, issuing CA, SubCA, leaf: openssl (strict) and pyca both say yes."""
    leaf = _service(world, constrained, name)

    assert files.verify(leaf, root, issuing, constrained, options=("-purpose", "sslserver")) == ""
    assert _pyca_accepts(world, name.replace("*", "x"), leaf, root, issuing, constrained)


@pytest.mark.parametrize(
    "name", ["bank.example.net", "example.com", "xrouter.example.com", "*.example.com", "10.0.0.1"]
)
def test_leaf_outside_the_constraints_is_rejected(
    world: Any, files: Files, root: Any, issuing: Any, constrained: Any, name: str
) -> None:
    """If policy ever let one through, nobody would believe it."""
    leaf = _service(world, constrained, "a.router.example.com", name)

    said = files.verify(leaf, root, issuing, constrained)

    assert "permitted subtree violation" in said or "excluded subtree violation" in said
    assert not _pyca_accepts(world, "a.router.example.com", leaf, root, issuing, constrained)


@pytest.mark.parametrize("kind", [KeyKind.P256, KeyKind.P384, KeyKind.RSA2048])
def test_identity_is_accepted_as_a_client_for_ever(world: Any, files: Files, kind: KeyKind) -> None:
    """The device's identity has no expiry, under a root that has none."""
    root = world.root(profile=IDENTITY_ROOT)
    issuing = world.below(root, IDENTITY_ISSUING)
    subject = DistinguishedName.of(O="Example Router Inc", serialNumber="SN-1")
    approval = world.approve(issuing.authority, IDENTITY, world.key(kind), subject=subject)
    (leaf,) = world.issue(issuing, approval)
    files.at = int(dt.datetime(2150, 1, 1, tzinfo=dt.UTC).timestamp())

    assert files.verify(leaf, root, issuing, options=("-purpose", "sslclient")) == ""
    assert files.verify(leaf, root, issuing, options=("-purpose", "sslserver")) != ""


def test_signer_of_batches_is_accepted(world: Any, files: Files) -> None:
    """The certificate that signs result manifests chains to the identity root."""
    root = world.root(profile=IDENTITY_ROOT)
    issuing = world.below(root, IDENTITY_ISSUING)
    (leaf,) = world.issue(issuing, world.typical(issuing.authority, SIGNER, world.key()))

    assert files.verify(leaf, root, issuing) == ""


def test_service_expires_to_the_second(world: Any, files: Files, root: Any, issuing: Any) -> None:
    """Good until notAfter, refused after it (openssl counts the last second itself as after)."""
    leaf = _service(world, issuing, "a.example.com")
    end = x509.load_der_x509_certificate(leaf).not_valid_after_utc

    files.at = int(end.timestamp()) - 1
    assert files.verify(leaf, root, issuing) == ""
    files.at += 2
    assert "expired" in files.verify(leaf, root, issuing)


def test_revoked_leaf_fails_the_crl_check(
    world: Any, files: Files, root: Any, issuing: Any
) -> None:
    """`openssl verify -crl_check` accepts with an empty shard, and rejects once it is listed."""
    approval = world.approve(issuing.authority, SERVICE, world.key(), names=("a.example.com",))
    (prepared,) = issuing.prepare([approval], world.now, os.urandom)
    (leaf,) = issuing.sign([prepared])
    entry = (prepared.serial, world.now, RevocationReason.KEY_COMPROMISE)

    def check(entries: list[Any], shard: int) -> str:
        crl = build_crl(issuing, entries, shard, 1, world.now, world.now + WEEK)
        options = ("-crl_check", "-CRLfile", files.crl(crl))
        return files.verify(leaf, root, issuing, options=options)

    assert check([], prepared.shard) == ""
    assert "certificate revoked" in check([entry], prepared.shard)
    assert "different CRL scope" in check([], (prepared.shard + 1) % 4)


def test_whole_chain_passes_the_crl_check(
    world: Any, files: Files, root: Any, issuing: Any, constrained: Any
) -> None:
    """`-crl_check_all`, root included; and a revoked SubCA takes its leaves with it."""
    approval = world.approve(
        constrained.authority, SERVICE, world.key(), names=("router.example.com",)
    )
    (prepared,) = constrained.prepare([approval], world.now, os.urandom)
    (leaf,) = constrained.sign([prepared])
    sub_serial = x509.load_der_x509_certificate(constrained.authority.der).serial_number
    entry = (serial_of(sub_serial), world.now, RevocationReason.CA_COMPROMISE)

    def check(revoked: list[Any]) -> str:
        crls = [build_crl(root, [], 0, 1, world.now, world.now + WEEK)]
        crls += [
            build_crl(issuing, revoked, shard, 1, world.now, world.now + WEEK) for shard in range(4)
        ]
        crls.append(build_crl(constrained, [], prepared.shard, 1, world.now, world.now + WEEK))
        options = ("-crl_check_all", "-extended_crl", "-CRLfile", files.crl(*crls))
        return files.verify(leaf, root, issuing, constrained, options=options)

    assert check([]) == ""
    assert "certificate revoked" in check([entry])
