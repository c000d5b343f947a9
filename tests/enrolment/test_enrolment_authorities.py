"""Making authorities: which kinds, under which names, and what failures leave behind."""

from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from certmint.enrolment import authorities
from certmint.enrolment.issue import Step
from certmint.enrolment.status import crl
from certmint.model.constraints import NameConstraints, named_subordinate, technically_constrained
from certmint.model.errors import (
    BadInput,
    CertmintError,
    Conflict,
    Misconfigured,
    NotFound,
    Refused,
)
from certmint.model.keys import KeyKind
from certmint.model.states import AuthorityState
from certmint.registry import reads

from .house import SUBJECT, House, key_store

INSIDE = technically_constrained(("example.com",), SUBJECT)
OUTSIDE = technically_constrained(("example.net",), SUBJECT)


class PowerCut(Exception):
    """The process ends here."""


def cut_at(step: Step) -> Any:
    def reached(now_at: Step) -> None:
        if now_at is step:
            raise PowerCut

    return reached


def key_files(house: House) -> set[str]:
    return {path.name for path in (house.folder / "keys").glob("*.pem")}


def add(house: House, name: str, profile: str, parent: str | None, **changes: Any) -> Any:
    """With its key in this test's folder."""
    uri = f"file:{house.folder}/keys/{{id}}.pem"
    return house.add_authority(name, profile, parent, **{"key_uri": uri} | changes)


@pytest.mark.parametrize(
    "constraints",
    [
        INSIDE,
        named_subordinate(("dev.example.com",)),
        named_subordinate(("example.com",), critical=True),
    ],
)
def test_a_sub_ca(each_house: House, openssl: Any, constraints: NameConstraints) -> None:
    """It is certified by its parent, active, has its key, its constraints and a CRL."""
    house = each_house
    made = add(house, "sub", "subordinate", "issuing", constraints=constraints, crl_shards=3)
    assert made.state is AuthorityState.ACTIVE
    assert (made.constraints, made.path_length) == (constraints, 0)
    assert key_files(house) == {f"{made.id}.pem"}
    leaf = x509.load_der_x509_certificate(made.der)
    parent = x509.load_der_x509_certificate(house.authority("issuing").der)
    leaf.verify_directly_issued_by(parent)
    for shard in range(3):
        published = x509.load_der_x509_crl(crl(house.db, made.id, shard).der)
        assert published.is_signature_valid(leaf.public_key())  # type: ignore[arg-type]
    issued = house.gate.issue_one(house.leaf("a.dev.example.com", issuer="sub"), house.clock())
    assert issued.authority_id == made.id


@pytest.mark.parametrize(
    ("profile", "parent", "code"),
    [
        ("root", "root", "authority-parent"),
        ("issuing", None, "authority-parent"),
        ("subordinate", "unknown", "authority-unknown"),
        ("unknown", "issuing", "profile-unknown"),
        ("subordinate", "tls", "authority-purpose"),
        ("issuing", "issuing", "authority-purpose"),
        ("identity-issuing", "issuing", "authority-purpose"),
    ],
)
def test_a_wrong_place_in_the_tree(
    house: House, profile: str, parent: str | None, code: str
) -> None:
    """Nothing is made of it: no key file and no row."""
    constraints = INSIDE if profile == "subordinate" else None
    with pytest.raises((BadInput, NotFound, Refused)) as refusal:
        add(house, "new", profile, parent, constraints=constraints)
    assert refusal.value.code == code
    nothing(house, "new")


def nothing(house: House, name: str) -> None:
    assert key_files(house) == set()
    assert house.read(reads.authority_by_name, name) is None
    assert house.read(reads.count_certificates).orphans == 0


@pytest.mark.parametrize("constraints", [OUTSIDE, None, NameConstraints()])
def test_a_sub_ca_that_is_refused(house: House, constraints: NameConstraints | None) -> None:
    """Not validated, or not constrained: refused before a key is made, and written down."""
    with pytest.raises(Refused) as refusal:
        add(house, "new", "subordinate", "issuing", constraints=constraints)
    assert refusal.value.code == "constraints-not-allowed"
    nothing(house, "new")
    assert len(house.audit("certificate.refused")) == 1


def test_a_name_is_taken_once(house: House) -> None:
    """A second authority of a name is refused, whatever it is."""
    with pytest.raises(Conflict) as refusal:
        add(house, "tls", "subordinate", "issuing", constraints=INSIDE)
    assert refusal.value.code == "authority-exists"
    assert key_files(house) == set()


@pytest.mark.parametrize("step", [Step.ENTERED, Step.RECORDED, Step.SIGNED, Step.STORED])
@pytest.mark.parametrize("kind", ["root", "subordinate"])
def test_begun_and_continued(house: House, kind: str, step: Step) -> None:
    """A crash before the certificate leaves it pending; the same command goes on from there."""
    words: tuple[Any, ...] = ("new", "root", None) if kind == "root" else ("new", kind, "issuing")
    constraints = None if kind == "root" else INSIDE
    house.reached = cut_at(step)
    with pytest.raises(PowerCut):
        add(house, *words, constraints=constraints)
    (key,) = key_files(house)
    if step is Step.STORED:
        assert house.authority("new").state is AuthorityState.ACTIVE
        return
    assert house.authority("new").state is AuthorityState.PENDING
    house.reached = lambda _: None
    made = add(house, *words, constraints=constraints)
    assert made.state is AuthorityState.ACTIVE
    assert key_files(house) == {key}


@pytest.mark.parametrize(
    "change",
    [
        {"constraints": named_subordinate(("example.com",))},
        {"key_kind": KeyKind.P384},
        {"status_url": "http://other.example.com"},
        {"crl_shards": 7},
        {"key_uri": "file:/somewhere/else.pem"},
        {"parent": "root"},
    ],
)
def test_begun_and_then_wanted_differently(house: House, change: dict[str, Any]) -> None:
    """What was begun is what is finished: another wish under that name is a conflict."""
    wish: dict[str, Any] = {"parent": "issuing", "constraints": INSIDE}
    house.reached = cut_at(Step.ENTERED)
    with pytest.raises(PowerCut):
        add(house, "new", "subordinate", **wish)
    house.reached = lambda _: None
    with pytest.raises(Conflict) as refusal:
        add(house, "new", "subordinate", **wish | change)
    assert refusal.value.code == "authority-exists"
    assert add(house, "new", "subordinate", **wish).state is AuthorityState.ACTIVE


def test_a_wrong_passphrase_makes_no_key(house: House) -> None:
    """A SubCA's key is not encrypted under a typing error: the parent's key is opened first."""
    sane, house.keys = house.keys, key_store(b"not the passphrase")
    with pytest.raises(Misconfigured) as refusal:
        add(house, "new", "subordinate", "issuing", constraints=INSIDE)
    assert refusal.value.code == "key-passphrase"
    nothing(house, "new")
    house.keys = sane
    assert add(house, "new", "subordinate", "issuing", constraints=INSIDE)


def test_a_key_that_cannot_be_opened_is_not_certified(house: House) -> None:
    """An authority that was begun is finished only if its own key is still at hand."""
    house.reached = cut_at(Step.ENTERED)
    with pytest.raises(PowerCut):
        add(house, "new", "subordinate", "issuing", constraints=INSIDE)
    house.reached = lambda _: None
    (path,) = (house.folder / "keys").glob("*.pem")
    away = Path(path.rename(path.with_suffix(".away")))
    house.keys = key_store()  # as a new process has it
    with pytest.raises(Misconfigured) as refusal:
        add(house, "new", "subordinate", "issuing", constraints=INSIDE)
    assert refusal.value.code == "key-missing"
    assert house.authority("new").state is AuthorityState.PENDING
    away.rename(path)
    assert add(house, "new", "subordinate", "issuing", constraints=INSIDE)


def test_a_pending_authority_signs_nothing(house: House) -> None:
    """Until it has its certificate it issues none and has no status."""
    house.reached = cut_at(Step.ENTERED)
    with pytest.raises(PowerCut):
        add(house, "new", "subordinate", "issuing", constraints=INSIDE)
    house.reached = lambda _: None
    pending = house.authority("new")
    with pytest.raises(Refused) as refusal:
        house.gate.issue_one(house.leaf("a.example.com", issuer="new"), house.clock())
    assert refusal.value.code == "authority-inactive"
    with pytest.raises(NotFound):
        crl(house.db, pending.id, 0)


def test_unknown_names(house: House) -> None:
    """An error says which command lists what there is."""
    with house.db.read() as tx:
        for look in (authorities.authority_named, authorities.profile_named):
            with pytest.raises(CertmintError) as refusal:
                look(tx, house.tenant.id, "nothing")
            assert "certmint" in refusal.value.detail
