"""EST's CA certificates, CSR attributes, enrolment and renewal, as golden exchanges."""

import base64
import datetime as dt
from pathlib import Path

import pytest
from backstage import BY, PASSWORD, House
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from est_house import (
    CHANGE_SUBJECT_NAME,
    LABEL,
    ESTHouse,
    certificates,
    csr,
    names_of,
    octets,
    open_est,
)
from test_doors_rest import basic

from certmint.app import lab
from certmint.app.servercert import document_signer
from certmint.app.wiring import est_door, utc_now
from certmint.enrolment import authorities, manufacturers, products
from certmint.model import der
from certmint.model.keys import KeyKind
from certmint.model.subject import DistinguishedName


@pytest.fixture(scope="module")
def est(house: House) -> ESTHouse:
    """The EST door of the house."""
    return open_est(house)


@pytest.fixture
def new_key() -> ec.EllipticCurvePrivateKey:
    """A device's new key."""
    return ec.generate_private_key(ec.SECP256R1())


def authority_der(house: House, name: str) -> bytes:
    """The certificate of an authority of the maker."""
    with house.here.db.read() as tx:
        return authorities.authority_named(tx, house.maker.id, name).der


# cacerts


def test_ca_certificates_are_those_above_the_products_devices(est: ESTHouse) -> None:
    """The issuing CA and its root, and nothing of the identity hierarchy; nobody has to log in."""
    found = certificates(est.get("cacerts"))

    carried = {each.public_bytes(serialization.Encoding.DER) for each in found}
    assert carried == {authority_der(est.house, name) for name in ("issuing", "root")}


def test_ca_certificates_without_a_label_need_a_certificate(est: ESTHouse) -> None:
    """A device's own certificate says which product is meant; a stranger has to say it.

    As long as one CA certifies the devices of all products, it does not matter.
    """
    here, maker = est.house.here, est.house.maker
    before = est.get("cacerts", label="")
    products.add_product(
        here.db, maker, "lamp", identity=("identity", "id"), service=("service", "root"),
        patterns=("{id}.lamp.lan",), shared_names=(), renew_at=2 / 3,
        by=BY, now=utc_now(), random_bytes=here.random_bytes,
    )  # fmt: skip
    known = est.get("cacerts", label="", peer=est.house.identity("R1"))
    stranger = est.get("cacerts", label="")

    assert certificates(before) == certificates(est.get("cacerts"))
    assert certificates(known) == certificates(est.get("cacerts"))
    assert (stranger.status, stranger.headers["certmint-code"]) == (404, "label-missing")


def test_a_root_of_the_same_name_is_handed_out_with_the_old_one(est: ESTHouse) -> None:
    """Both generations of a root are there, so that devices trust the new one before it is used."""
    here, maker = est.house.here, est.house.maker
    wanted = authorities.NewAuthority(
        name="root-2", subject=DistinguishedName.of(C="US", O="Acme", CN="root"), profile="root",
        key_uri="file:keys/{id}.pem", key_kind=KeyKind.P256, status_url="http://status.example",
    )  # fmt: skip
    next_root = authorities.create_authority(
        here.db, here.gate, here.keys, maker, wanted,
        operator_id=BY, now=utc_now(), random_bytes=here.random_bytes,
    )  # fmt: skip

    carried = certificates(est.get("cacerts"))

    assert len(carried) == 3
    assert next_root.der in {each.public_bytes(serialization.Encoding.DER) for each in carried}


# csrattrs


def test_csr_attributes_name_the_key_and_the_devices_names(est: ESTHouse) -> None:
    """A known device is told its own names; both styles are there (RFC 9908 3.2, 3.4)."""
    answer = est.get("csrattrs", label="", peer=est.house.identity("R1"))

    assert answer.status == 200
    assert answer.headers["content-type"] == "application/csrattrs"
    items = der.children(base64.b64decode(answer.body, validate=True))
    by_type = {der.children(item)[0]: item for item in items if item[0] == der.SEQUENCE}
    ec_key, p256 = der.oid("1.2.840.10045.2.1"), der.oid("1.2.840.10045.3.1.7")
    assert by_type[ec_key] == der.sequence(ec_key, der.set_of(p256))
    assert der.oid("1.2.840.10045.4.3.2") in items
    request = by_type[der.oid("1.2.840.113549.1.9.14")]
    assert request.count(b"r1.router.lan") == 1
    template = by_type[der.oid("1.2.840.113549.1.9.16.2.61")]
    (info,) = der.children(der.children(template)[1])
    version, key, attributes = der.children(info)
    assert version == der.integer(0)
    assert key == der.tlv(0xA0, der.sequence(ec_key, p256))
    assert attributes == der.tlv(0xA1, request)


def test_csr_attributes_without_a_device_leave_the_san_to_the_client(est: ESTHouse) -> None:
    """By the label alone: no names, and a template with a SAN that the client fills in."""
    answer = est.get("csrattrs")

    body = base64.b64decode(answer.body)
    san = der.sequence(der.sequence(der.oid("2.5.29.17")))
    wish = der.sequence(der.oid("1.2.840.113549.1.9.16.2.62"), der.set_of(san))
    assert wish in body
    assert b"router.lan" not in body


def test_csr_attributes_of_nothing_in_particular_are_none(est: ESTHouse) -> None:
    """204 where nothing says which product is meant."""
    assert est.get("csrattrs", label="").status == 204


def test_csr_attributes_follow_the_profile(est: ESTHouse) -> None:
    """A profile for RSA alone asks for RSA, with its size in both styles."""
    accepted = frozenset({KeyKind.P256, KeyKind.P384, KeyKind.RSA2048, KeyKind.RSA3072})
    est.change_profile(key_kinds=frozenset({KeyKind.RSA2048}))
    try:
        body = base64.b64decode(est.get("csrattrs").body)
    finally:
        est.change_profile(key_kinds=accepted)

    rsa_key = der.oid("1.2.840.113549.1.1.1")
    assert der.sequence(rsa_key, der.set_of(der.integer(2048))) in body
    placeholder = der.integer((1 << 2048) - 1)
    assert placeholder in body


# simpleenroll


def test_a_device_gets_a_certificate_for_its_key(
    est: ESTHouse, new_key: ec.EllipticCurvePrivateKey
) -> None:
    """The answer is the issued certificate alone, with the device's names and the CSR's key."""
    answer = est.post("simpleenroll", csr(new_key), peer=est.house.identity("R1"))

    (leaf,) = certificates(answer)
    assert leaf.public_key() == new_key.public_key()
    assert names_of(leaf) == ["r1.router.lan"]


def test_the_answer_says_when_to_renew(est: ESTHouse) -> None:
    """The window lies within the certificate's life, and Retry-After leads to its start."""
    answer = est.post("simpleenroll", csr(), peer=est.house.identity("R1"))

    (leaf,) = certificates(answer)
    start, end = (
        dt.datetime.fromisoformat(each)
        for each in answer.headers["certmint-renewal-window"].split("/")
    )
    assert leaf.not_valid_before_utc <= start < end < leaf.not_valid_after_utc
    until = dt.timedelta(seconds=int(answer.headers["retry-after"]))
    assert abs(utc_now() + until - start) < dt.timedelta(minutes=1)


def test_names_in_a_csr_are_the_devices_or_none(est: ESTHouse) -> None:
    """Asking for one's own name is fine; for another one is refused, whatever the field."""
    peer = est.house.identity("R1")

    own = est.post("simpleenroll", csr(names=("r1.router.lan",)), peer=peer)
    serial = est.post("simpleenroll", csr(subject="CN=unit-0815"), peer=peer)
    others = [
        est.post("simpleenroll", csr(names=("r2.router.lan",)), peer=peer),
        est.post("simpleenroll", csr(subject="CN=r2.router.lan"), peer=peer),
    ]

    assert (own.status, serial.status) == (200, 200)
    assert not certificates(serial)[0].subject.rdns  # what is no host name is left out
    assert [each.headers["certmint-code"] for each in others] == ["csr-asks-more"] * 2


def test_an_owner_names_the_device_in_the_csr_or_in_the_label(est: ESTHouse) -> None:
    """The login is the evidence; the serial number says for which device."""
    login = basic("acme/jo", PASSWORD)

    by_csr = est.post("simpleenroll", csr(subject="2.5.4.5=R2"), headers=login)
    by_label = est.post("simpleenroll", csr(), f"{LABEL}~R2", headers=login)
    neither = est.post("simpleenroll", csr(), LABEL, headers=login)
    not_owned = est.post("simpleenroll", csr(subject="2.5.4.5=R3"), headers=login)

    assert [names_of(certificates(each)[0]) for each in (by_csr, by_label)] == [
        ["r2.router.lan"]
    ] * 2
    assert (neither.status, neither.headers["certmint-code"]) == (400, "device-unnamed")
    assert (not_owned.status, not_owned.headers["certmint-code"]) == (403, "evidence-not-owner")


def test_certificate_and_login_count_together(est: ESTHouse) -> None:
    """A wrong password spoils a good certificate: what is presented has to hold."""
    peer = est.house.identity("R2")

    both = est.post("simpleenroll", csr(), headers=basic("acme/jo", PASSWORD), peer=peer)
    wrong = est.post("simpleenroll", csr(), headers=basic("acme/jo", "wrong password"), peer=peer)
    stranger = est.post(
        "simpleenroll", csr(), headers=basic("acme/jo", PASSWORD), peer=est.house.identity("R3")
    )

    assert both.status == 200
    assert (wrong.status, wrong.headers["certmint-code"]) == (401, "login-failed")
    assert stranger.headers["certmint-code"] == "evidence-not-owner"


def test_all_that_names_a_device_names_the_same(est: ESTHouse) -> None:
    """A label or a subject of another device or product contradicts the certificate."""
    peer = est.house.identity("R1")

    answers = [
        est.post("simpleenroll", csr(), f"{LABEL}~R2", peer=peer),
        est.post("simpleenroll", csr(subject="2.5.4.5=R2"), peer=peer),
        est.post("simpleenroll", csr(), "acme~router-public", peer=peer),
    ]

    assert [each.headers["certmint-code"] for each in answers] == ["device-contradiction"] * 3


def test_line_breaks_in_a_request_do_not_matter(est: ESTHouse) -> None:
    """One line, lines of 64 and lines that end in CRLF are the same base64 (RFC 8951 3.1)."""
    data = csr(ec.generate_private_key(ec.SECP256R1()))
    lines = base64.encodebytes(data)

    answers = [
        est.post("simpleenroll", body, peer=est.house.identity("R4"))
        for body in (base64.b64encode(data), lines, b"\r\n " + lines.replace(b"\n", b"\r\n"))
    ]

    assert len({certificates(each)[0].serial_number for each in answers}) == 1


# simplereenroll


def test_a_renewal_repeats_the_old_names(
    est: ESTHouse, new_key: ec.EllipticCurvePrivateKey
) -> None:
    """A new key with the same subject and SAN gets the next certificate."""
    peer = est.house.identity("R5")
    old = est.house.service("R5")

    answer = est.post("simplereenroll", csr(new_key, names=("r5.router.lan",)), peer=peer)

    (leaf,) = certificates(answer)
    assert (leaf.subject, names_of(leaf)) == (old.subject, names_of(old))
    assert leaf.serial_number != old.serial_number
    assert leaf.public_key() == new_key.public_key()


def test_a_renewal_may_keep_its_key(est: ESTHouse) -> None:
    """The same key is a renewal, not a rekeying (RFC 7030 4.2.2)."""
    peer = est.house.identity("R3")
    old_key = serialization.load_pem_private_key(
        (est.house.packages / "R3" / "key.pem").read_bytes(), None
    )

    answer = est.post("simplereenroll", csr(old_key, names=("r3.router.lan",)), peer=peer)

    (leaf,) = certificates(answer)
    assert leaf.public_key() == est.house.service("R3").public_key()


def test_a_service_certificate_renews_itself_once(est: ESTHouse) -> None:
    """Shown by the device (or forwarded for it) it is evidence; with a successor, a clone's."""
    peer = est.house.service("R6").public_bytes(serialization.Encoding.DER)
    request = csr(names=("r6.router.lan",))

    first = est.post("simplereenroll", request, peer=peer)
    again = est.post("simplereenroll", csr(names=("r6.router.lan",)), peer=peer)

    assert names_of(certificates(first)[0]) == ["r6.router.lan"]
    assert (again.status, again.headers["certmint-code"]) == (403, "device-cloned")


def test_a_renewal_changes_no_names(est: ESTHouse) -> None:
    """Another SAN, none, another subject and ChangeSubjectName are refused with one code."""
    peer, name = est.house.identity("R1"), "r1.router.lan"
    change = octets(CHANGE_SUBJECT_NAME, b"")

    answers = [
        est.post("simplereenroll", request, peer=peer)
        for request in (
            csr(),
            csr(names=(name, "r2.router.lan")),
            csr(names=(name,), subject=f"CN={name}"),
            csr(names=(name,), attributes=change),
        )
    ]

    assert {(each.status, each.headers["certmint-code"]) for each in answers} == {
        (403, "renewal-changes-names")
    }


# A house with one product


def test_one_product_needs_no_label(tmp_path: Path) -> None:
    """Where only one product is made, a client needs nothing but the server's address."""
    built = lab.build(tmp_path, lab.Ports(), "127.0.0.1", requires_binding=False)
    here = built.installation
    try:
        tenant = manufacturers.manufacturer(here.db, "lab")
        wanted = authorities.NewAuthority(
            name="id", subject=DistinguishedName.of(CN="id"), profile="identity-root",
            key_uri="file:keys/{id}.pem", key_kind=KeyKind.P256,
            status_url="http://status.example",
        )  # fmt: skip
        authorities.create_authority(
            here.db, here.gate, here.keys, tenant, wanted,
            operator_id=BY, now=utc_now(), random_bytes=here.random_bytes,
        )  # fmt: skip
        door = ESTHouse(None, est_door(here, lambda: document_signer(here)).app)
        assert door.get("cacerts", label="").status == 404

        products.add_product(
            here.db, tenant, "lamp", identity=("identity", "id"), service=("service", "lab-ca"),
            patterns=("{id}.lamp.lan",), shared_names=(), renew_at=2 / 3,
            by=BY, now=utc_now(), random_bytes=here.random_bytes,
        )  # fmt: skip

        assert len(certificates(door.get("cacerts", label=""))) == 2
        assert door.get("csrattrs", label="").status == 200
    finally:
        here.close()
