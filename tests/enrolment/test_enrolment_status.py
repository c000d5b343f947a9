"""Revocation, and what relying parties are told: CRLs and OCSP, as openssl reads them."""

import dataclasses
import datetime as dt
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from certmint.enrolment import chains, revocation, status
from certmint.enrolment.issue import Step
from certmint.enrolment.reconcile import GRACE, reconcile
from certmint.enrolment.signing import SigningKeys
from certmint.issuance.keys import open_key
from certmint.model.entities import Certificate, RevocationReason
from certmint.model.errors import CertmintError, Conflict, NotFound, Unavailable, WrongState
from certmint.model.profile import Purpose
from certmint.model.serial import Serial
from certmint.model.states import DeviceState
from certmint.registry import reads, writes
from certmint.registry.engine import Database

from .house import DAY, OPERATOR, SECRET, House, csr, new_key, status_of


def revoke(
    house: House, found: Certificate, reason: RevocationReason = RevocationReason.KEY_COMPROMISE
) -> Certificate:
    return revocation.revoke(
        house.db, house.keys, house.tenant.id, found.serial, reason, by=OPERATOR, now=house.clock()
    )


class Relying:
    """Somebody with openssl, the root, and the status service."""

    def __init__(self, house: House, openssl: Any) -> None:
        self.house, self.openssl, self.folder = house, openssl, house.folder

    def _pem(self, name: str, *ders: bytes) -> Path:
        path = self.folder / name
        path.write_text("".join(map(chains.pem, ders)))
        return path

    def verify(self, found: Certificate) -> str:
        """Empty if `openssl verify -crl_check` accepts it at the house's time."""
        crl = self.folder / "leaf.crl"
        shard = status.crl(self.house.db, found.authority_id, found.crl_shard)
        crl.write_bytes(x509.load_der_x509_crl(shard.der).public_bytes(Encoding.PEM))
        with self.house.db.read() as tx:
            above = chains.intermediates(tx, self.house.tenant.id, found.authority_id)
            root = chains.root(tx, self.house.tenant.id, found.authority_id)
        done = self.openssl(
            "verify", "-crl_check", "-attime", int(self.house.clock.now.timestamp()),
            "-CAfile", self._pem("root.pem", root.der), "-CRLfile", crl,
            "-untrusted", self._pem("above.pem", *(each.der for each in above)),
            self._pem("leaf.pem", found.der),
        )  # fmt: skip
        return "" if done.returncode == 0 else done.stderr

    def ask(self, found: Certificate) -> str:
        """What `openssl ocsp` makes of our answer to a request that it wrote."""
        issuer = self._pem("issuer.pem", status.issuer(self.house.db, found.authority_id))
        root = self._pem("root.pem", self.house.authority("root").der)
        request, response = self.folder / "request.der", self.folder / "response.der"
        about = ("-issuer", issuer, "-cert", self._pem("leaf.pem", found.der))
        assert self.openssl("ocsp", *about, "-reqout", request).returncode == 0
        answer = status.ocsp(
            self.house.db, self.house.keys, found.authority_id, request.read_bytes(),
            self.house.clock.now,
        )  # fmt: skip
        response.write_bytes(answer)
        done: subprocess.CompletedProcess[str] = self.openssl(
            "ocsp", *about, "-no_nonce", "-respin", response, "-CAfile", root,
            "-verify_other", issuer, "-VAfile", issuer, "-attime",
            int(self.house.clock.now.timestamp()), "-validity_period", "1000000000",
        )  # fmt: skip
        assert "Response verify OK" in done.stderr, done.stderr
        return done.stdout


@pytest.fixture
def relying(house: House, openssl: Callable[..., Any]) -> Relying:
    return Relying(house, openssl)


def test_a_revocation_shows_everywhere(house: House, relying: Relying) -> None:
    """Good before; revoked in CRL and OCSP right after, by openssl's own reading."""
    found = house.latest("R1", Purpose.SERVICE)
    assert relying.verify(found) == ""
    assert ": good" in relying.ask(found)
    done = revoke(house, found)
    assert done.revocation is not None
    assert "certificate revoked" in relying.verify(found)
    said = relying.ask(found)
    assert ": revoked" in said
    assert "keyCompromise" in said
    other = house.latest("R2", Purpose.SERVICE)
    assert relying.verify(other) == ""
    assert ": good" in relying.ask(other)


def test_a_serial_that_nobody_issued(house: House, relying: Relying) -> None:
    """Is unknown, and never good."""
    found = house.latest("R1", Purpose.SERVICE)
    issuer = house.authority("tls")
    ours = house.read(reads.certificate, found.serial)
    assert status_of(house, ours) == ("good", False)
    stranger = dataclasses.replace(ours, serial=Serial("1" * 40))
    assert stranger.authority_id == issuer.id
    assert status_of(house, stranger) == ("unknown", False)


def test_revoking_twice(each_house: House) -> None:
    """The second time is a conflict, unless it says that the key is compromised."""
    house = each_house
    found = house.latest("R1", Purpose.SERVICE)
    first = revoke(house, found, RevocationReason.SUPERSEDED)
    with pytest.raises(Conflict) as refusal:
        revoke(house, found, RevocationReason.CESSATION_OF_OPERATION)
    assert refusal.value.code == "already-revoked"
    worse = revoke(house, found, RevocationReason.KEY_COMPROMISE)
    assert worse.revocation is not None
    assert first.revocation is not None
    assert worse.revocation.revoked_at == first.revocation.revoked_at
    with pytest.raises(Conflict):
        revoke(house, found, RevocationReason.KEY_COMPROMISE)


def test_what_does_not_exist(house: House) -> None:
    """An unknown serial or device is not found, and no status exists of an unknown authority."""
    for call in (
        lambda: revocation.revoke(
            house.db, house.keys, house.tenant.id, Serial("0" * 40),
            RevocationReason.SUPERSEDED, by=OPERATOR, now=house.clock(),
        ),
        lambda: retire(house, "R9"),
        lambda: status.crl(house.db, "ca_unknown", 0),
        lambda: status.crl(house.db, house.authority("tls").id, 99),
        lambda: status.issuer(house.db, "ca_unknown"),
        lambda: status.ocsp(house.db, house.keys, "ca_unknown", b"", house.clock()),
    ):  # fmt: skip
        with pytest.raises(NotFound):
            call()


def retire(house: House, name: str) -> list[Certificate]:
    return revocation.retire_device(
        house.db, house.keys, house.tenant.id, name, by=OPERATOR, now=house.clock()
    )


def test_a_retired_device(each_house: House) -> None:
    """Its state and every live certificate, of each authority, at once; it happens once."""
    house = each_house
    house.renew("R1", csr())
    held = house.held("R1")
    assert {each.serial for each in retire(house, "R1")} == {each.serial for each in held}
    assert house.held("R1") == []
    assert house.view("R1").device.state is DeviceState.RETIRED
    for each in held:
        assert status_of(house, each) == ("revoked", True)
    with pytest.raises(WrongState):
        retire(house, "R1")
    assert len(house.held("R2")) == 2


def test_an_expired_certificate_leaves_the_crl(house: House) -> None:
    """It stays on a CRL beyond its end (RFC 5280 3.3), and then makes room."""
    found = revoke(house, house.latest("R1", Purpose.SERVICE))
    house.clock.now = found.not_after + DAY
    status.publish_crls(house.db, house.keys, house.authority("tls"), house.clock.now)
    assert status_of(house, found) == ("revoked", True)
    house.clock.now = found.not_after + status.CRL_LIFE + DAY
    status.publish_crls(house.db, house.keys, house.authority("tls"), house.clock.now)
    assert status_of(house, found) == ("revoked", False)


def refreshed(house: House) -> int:
    return status.refresh_crls(house.db, house.keys, house.clock.now)


def test_crls_are_renewed_long_before_they_end(house: House) -> None:
    """Every half a day a new one with a higher number; none in between."""
    tls = house.authority("tls").id
    refreshed(house)
    before = status.crl(house.db, tls, 0)
    assert refreshed(house) == 0
    house.clock.now += status.CRL_EVERY
    assert refreshed(house) == 5, "every authority"
    after = status.crl(house.db, tls, 0)
    assert after.number > before.number
    assert after.next_update - after.this_update == status.CRL_LIFE
    assert after.this_update < before.next_update


def test_one_authority_s_key_is_lost(house: House) -> None:
    """The CRLs of all the others are renewed all the same, and the failure is told."""
    lost = house.authority("identity-ca")

    def opened(uri: str) -> Any:
        if uri == lost.key_uri:
            raise Unavailable("key-store", "the token is not in its slot")
        return open_key(uri, lambda _: SECRET, Path("/"))

    house.keys = SigningKeys(opened, lambda *_: new_key())
    house.clock.now += DAY
    with pytest.raises(Unavailable) as failure:
        refreshed(house)
    assert failure.value.code == "key-store"
    for name in ("root", "issuing", "identity-root", "tls"):
        crl = status.crl(house.db, house.authority(name).id, 0)
        assert crl.this_update == house.clock.now, name


def abandoned(house: House) -> Any:
    """An intent whose process died while it was signing."""

    def die(step: Step) -> None:
        if step is Step.SIGNED:
            raise KeyboardInterrupt

    house.reached = die
    with pytest.raises(KeyboardInterrupt):
        house.renew("R1", csr())
    house.reached = lambda _: None
    later = house.clock.now + DAY
    with house.db.read() as tx:
        (orphan,) = reads.orphan_intents(tx, later, 10)
    return orphan


def test_an_abandoned_serial_is_revoked(each_house: House) -> None:
    """Whatever was signed for a moment has a status; but not before a signature had its time."""
    house, orphan = each_house, abandoned(each_house)
    house.clock.now += GRACE / 2
    assert reconcile(house.db, house.keys, house.clock.now) == []
    house.clock.now += GRACE
    assert reconcile(house.db, house.keys, house.clock.now) == [orphan]
    assert status_of(house, orphan) == ("revoked", True)
    assert reconcile(house.db, house.keys, house.clock.now) == []
    assert house.is_chained()


class StoresMeanwhile:
    """A database where another process stores the certificate just before the first write."""

    def __init__(self, real: Database, work: Callable[[Any], Any]) -> None:
        self._real, self._work = real, [work]
        self.read = real.read

    def write(self, work: Callable[[Any], Any]) -> Any:
        if self._work:
            self._real.write(self._work.pop())
        return self._real.write(work)


def test_a_certificate_that_comes_while_intents_are_tidied(house: House) -> None:
    """It is kept, and the other intents are tidied up all the same."""
    first, second = abandoned(house), None
    house.clock.now += dt.timedelta(seconds=1)

    def die(step: Step) -> None:
        if step is Step.RECORDED:
            raise KeyboardInterrupt

    house.reached = die
    with pytest.raises(KeyboardInterrupt):
        house.renew("R2", csr())
    house.reached = lambda _: None
    house.clock.now += DAY
    db: Any = StoresMeanwhile(
        house.db,
        lambda tx: writes.record_issued(tx, [(first, b"certificate")], house.clock.now),
    )
    (second,) = reconcile(db, house.keys, house.clock.now)
    assert second.serial != first.serial
    assert house.read(reads.certificate, first.serial).revocation is None
    assert status_of(house, second) == ("revoked", True)


def test_an_unreadable_ocsp_request(house: House) -> None:
    """Is answered too: malformedRequest, unsigned (RFC 6960 2.3)."""
    tls = house.authority("tls").id
    answer = status.ocsp(house.db, house.keys, tls, b"not OCSP", house.clock())
    assert answer.hex() == "30030a0101"


def test_errors_are_sentences(house: House) -> None:
    """Somebody reads them."""
    with pytest.raises(CertmintError) as refusal:
        retire(house, "R9")
    assert str(refusal.value) == "there is no device 'R9'"
