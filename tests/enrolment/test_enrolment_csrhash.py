"""Request tokens: a CSR's hash in the DNS or on a web server, once each."""

import hashlib
import json
import os

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hostile import says, serving

from certmint.enrolment import domains
from certmint.enrolment.csrhash import begin_csr_hash
from certmint.enrolment.domains import World
from certmint.enrolment.proofs import challenge_record
from certmint.model.csr import CSR, parse_csr
from certmint.model.entities import DomainValidation, ValidationMethod
from certmint.model.errors import CertmintError
from certmint.validation.dns import Answer
from certmint.validation.reach import PrivateNetwork, Reach

from .house import DAY, OPERATOR, House, Published

CNAME, HTTP = ValidationMethod.CNAME_CSR_HASH, ValidationMethod.HTTP_CSR_HASH
CA = "pki.example"


def csr(digest: hashes.HashAlgorithm | None = None) -> CSR:
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    signed = request.sign(ec.generate_private_key(ec.SECP256R1()), digest or hashes.SHA256())
    return parse_csr(signed.public_bytes(serialization.Encoding.DER))


def begin(house: House, request: CSR, kind: ValidationMethod, unique: str = "") -> DomainValidation:
    return begin_csr_hash(
        house.db, house.tenant, request, "example.net", kind, ca_domain=CA, unique_value=unique,
        by=OPERATOR, now=house.clock(), random_bytes=os.urandom,
    )  # fmt: skip


def verify(house: House, attempt: DomainValidation, world: World) -> DomainValidation:
    return domains.verify_domain(
        house.db, house.tenant, attempt.id, world, by=OPERATOR, now=house.clock()
    )


def refused(work, *args: object) -> str:
    with pytest.raises(CertmintError) as refusal:
        work(*args)
    return refusal.value.code


class Web(Published):
    """Everything lives on loopback."""

    def addresses(self, _name: str) -> Answer:
        return Answer(("127.0.0.1",), "test", authenticated=False)


def lab(port: int) -> World:
    loopback = PrivateNetwork.parse(f"127.0.0.0/8:{port}")
    return World(Web(), Reach(port, 443, (loopback,), 3.0))


@pytest.mark.parametrize("unique", ["", "Order7"])
def test_names_and_values(house: House, unique: str) -> None:
    """They are what clients of that API compute for themselves."""
    request = csr()
    md5 = hashlib.md5(request.der, usedforsecurity=False).hexdigest()
    sha = hashlib.sha256(request.der).hexdigest()
    record = challenge_record(begin(house, request, CNAME, unique))
    tail = f".{unique.lower()}" if unique else ""
    assert str(record).split()[0] == f"_{md5}.example.net."
    assert record.value == f"{sha[:32]}.{sha[32:]}{tail}.{CA}."
    made = begin(house, request, HTTP, unique)
    assert made.record_name == (f"http://example.net/.well-known/pki-validation/{md5.upper()}.txt")
    assert made.random_value.split("\n") == [sha, CA, *([unique.lower()] if unique else [])]


def test_in_the_dns(house: House) -> None:
    """The target has to be exact; the evidence counts for the whole domain, and once."""
    request = csr()
    attempt = begin(house, request, CNAME)
    wrong = attempt.random_value.replace(CA, "other.example")
    missing = World(Published(**{attempt.record_name: (wrong,)}))
    assert refused(verify, house, attempt, missing) == "validation-not-found"
    again = begin(house, request, CNAME)  # two attempts with one token …
    there = World(Published(**{attempt.record_name: (attempt.random_value,)}))
    done = verify(house, attempt, there)
    assert json.loads(done.evidence)["method"] == "BR 3.2.2.4.7"
    house.gate.issue_one(house.leaf("a.example.net", issuer="issuing"), house.clock())
    assert refused(verify, house, again, there) == "token-used"  # … are one proof
    assert refused(begin, house, request, CNAME) == "token-used"
    begin(house, request, CNAME, "second")


def test_on_a_web_server(house: House) -> None:
    """The file proves its own name, and neither names below it nor wildcards."""
    attempt = begin(house, csr(), HTTP)
    with serving(says(attempt.random_value.replace("\n", "\r\n") + "\r\n")) as (port, requests):
        done = verify(house, attempt, lab(port))
    file = attempt.record_name.rpartition("/")[2]
    assert requests[0].startswith(f"GET /.well-known/pki-validation/{file} ".encode())
    assert json.loads(done.evidence)["method"] == "BR 3.2.2.4.18"
    house.gate.issue_one(house.leaf("example.net", issuer="issuing"), house.clock())
    for name in ("a.example.net", "*.example.net"):
        code = refused(house.gate.issue_one, house.leaf(name, issuer="issuing"), house.clock())
        assert code == "name-not-validated"


@pytest.mark.parametrize("content", ["", "0" * 64, "<html>hello</html>"])
def test_a_file_with_something_else(house: House, content: str) -> None:
    """What does not hold the token proves nothing."""
    attempt = begin(house, csr(), HTTP)
    with serving(says(content)) as (port, _):
        assert refused(verify, house, attempt, lab(port)) == "validation-not-found"


def test_a_web_server_inside(house: House) -> None:
    """Without a lab's leave, loopback is not asked."""
    attempt = begin(house, csr(), HTTP)
    with serving(says(attempt.random_value)) as (port, requests):
        assert refused(verify, house, attempt, World(Web(), Reach(port))) == (
            "validation-unreachable"
        )
    assert requests == []


def test_a_token_dies_after_thirty_days(house: House) -> None:
    """BR 1.6.1."""
    attempt = begin(house, csr(), CNAME)
    house.clock.now += 30 * DAY
    assert refused(verify, house, attempt, World(Published())) == "validation-expired"


def test_what_makes_no_token(house: House) -> None:
    """A CSR with a stronger hash, a strange unique value, another method."""
    assert refused(begin, house, csr(hashes.SHA384()), CNAME) == "csr-hash-strength"
    assert refused(begin, house, csr(), CNAME, "a.b") == "unique-value"
    assert refused(begin, house, csr(), ValidationMethod.EMAIL) == "validation-method"
