"""Values that are stored as one text come back equal, and equal values make equal texts."""

import datetime as dt
import ipaddress
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certmint.model.constraints import (
    NameConstraints,
    named_subordinate,
    technically_constrained,
)
from certmint.model.evidence import EvidenceKind
from certmint.model.keys import KeyKind, KeyOrigin
from certmint.model.profile import BUILT_IN, Profile, Purpose, Trust
from certmint.model.subject import ATTRIBUTES, DistinguishedName
from certmint.registry import documents

VALUES = {
    "C": st.sampled_from(["US", "DE"]),
    "DC": st.text("abc.-", min_size=1, max_size=20).filter(str.strip),
    "serialNumber": st.text("ABC0123456789 -", min_size=1, max_size=20).filter(str.strip),
}
# Up to 16 characters: of four octets each, a common name has no room for more.
FREE = st.text(st.characters(min_codepoint=32, exclude_categories=["Cs"]), min_size=1, max_size=16)
SUBJECTS = (
    st.lists(st.sampled_from(list(ATTRIBUTES)), unique=True)
    .map(lambda kinds: sorted(kinds, key=list(ATTRIBUTES).index))
    .flatmap(
        lambda kinds: st.tuples(
            *(st.tuples(st.just(kind), VALUES.get(kind, FREE.filter(str.strip))) for kind in kinds)
        )
    )
    .map(DistinguishedName)
)
DOMAINS = st.lists(st.sampled_from(["example.com", "a.example.org", "lan"]), max_size=3).map(tuple)
NETWORKS = st.lists(
    st.sampled_from(
        [ipaddress.ip_network(text) for text in ("10.0.0.0/8", "0.0.0.0/0", "::/0", "fd00::/64")]
    ),
    max_size=3,
).map(tuple)


@given(SUBJECTS)
def test_subjects_come_back_equal(subject: DistinguishedName) -> None:
    """Commas, backslashes, blanks and every script of the world survive."""
    assert documents.subject_of(documents.subject_text(subject)) == subject


@given(
    st.builds(
        NameConstraints,
        permitted_dns=DOMAINS,
        excluded_dns=DOMAINS.map(lambda trees: ("", *trees)),
        permitted_ip=NETWORKS,
        excluded_ip=NETWORKS,
        permitted_directory=st.lists(SUBJECTS, max_size=2).map(tuple),
        critical=st.booleans(),
    )
)
def test_constraints_come_back_equal(constraints: NameConstraints) -> None:
    """An authority never issues under other constraints than those in its certificate."""
    assert documents.constraints_of(documents.constraints_text(constraints)) == constraints


def test_the_constraints_of_both_kinds_of_subordinate_come_back_equal() -> None:
    """The two SubCAs of the house, and an authority without any constraints."""
    organization = DistinguishedName.of(C="US", O="Example Router, Inc")
    for constraints in (
        technically_constrained(("example.com",), organization, critical=True),
        named_subordinate(("example.com", "example.org")),
        None,
    ):
        assert documents.constraints_of(documents.constraints_text(constraints)) == constraints


def test_every_built_in_profile_comes_back_equal() -> None:
    """A tenant's stored profiles are the ones that certmint ships."""
    for profile in BUILT_IN:
        assert documents.profile_of(documents.profile_text(profile)) == profile


@given(
    st.timedeltas(dt.timedelta(minutes=5), dt.timedelta(days=40_000)),
    st.sets(st.sampled_from(KeyKind), min_size=1),
    st.lists(st.sets(st.sampled_from(EvidenceKind), min_size=1), min_size=1, max_size=3),
    st.none() | st.integers(0, 5),
)
def test_profiles_come_back_equal_and_one_text_each(
    lifetime: dt.timedelta,
    kinds: set[KeyKind],
    accepts: list[set[EvidenceKind]],
    path_length: int | None,
) -> None:
    """Lifetimes to the microsecond; the order in which a set was made does not show."""
    made = Profile(
        "p", 3, Trust.PRIVATE, Purpose.SERVICE, lifetime, frozenset(kinds),
        frozenset({KeyOrigin.FACTORY, KeyOrigin.SUBSCRIBER}), tuple(map(frozenset, accepts)),
        path_length=path_length,
    )  # fmt: skip
    text = documents.profile_text(made)

    assert documents.profile_of(text) == made
    assert documents.profile_text(documents.profile_of(text)) == text


@given(st.lists(st.text()))
def test_lists_of_texts_come_back_equal(texts: list[str]) -> None:
    """Names keep their order and their characters."""
    assert documents.list_of(documents.list_text(texts)) == tuple(texts)


VALUES_OF_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from(list(EvidenceKind)),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(VALUES_OF_JSON)
def test_there_is_one_text_for_a_value(value: object) -> None:
    """Whichever encoder is the quicker: what the audit log's hashes are over never changes."""
    assert documents.canonical(value) == json.dumps(
        value, sort_keys=True, separators=(",", ":"), allow_nan=False
    )


@pytest.mark.parametrize("value", [float("nan"), {"a": [float("inf")]}])
def test_what_json_cannot_say_is_refused(value: object) -> None:
    """NaN has no text, and is not null."""
    with pytest.raises(ValueError, match="not JSON compliant"):
        documents.canonical(value)
