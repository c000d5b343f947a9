"""A product's policy: what people write, what it means, and what cannot be said."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certmint.model.acceptance import (
    DEFAULT,
    STRICT,
    Acceptance,
    Proof,
    Situation,
    parse_acceptance,
)
from certmint.model.errors import BadInput

ANYWHERE = st.sets(
    st.frozensets(
        st.sampled_from([each for each in Proof if each is not Proof.SERVICE_CERTIFICATE]),
        min_size=1,
    )
).map(tuple)


def test_what_people_write() -> None:
    """Any of the alternatives, and each of them whole; what is not said stays as it was."""
    made = parse_acceptance(
        ["renewing: identity-certificate|service-certificate + owner-login", " expired :nobody"]
    )
    assert made.renewing == (
        frozenset({Proof.IDENTITY_CERTIFICATE}),
        frozenset({Proof.SERVICE_CERTIFICATE, Proof.OWNER_LOGIN}),
    )
    assert made.expired == ()
    assert (made.first, made.re_imaged) == (DEFAULT.first, DEFAULT.re_imaged)


@pytest.mark.parametrize(
    "line",
    [
        "renewing",
        "sleeping: attestation",
        "renewing: magic",
        "renewing:",
        "renewing: attestation |",
        "renewing: attestation + ",
        "renewing: nobody | attestation",
        "first: service-certificate",
        "re-imaged: service-certificate + owner-login",
    ],
)
def test_what_cannot_be_said(line: str) -> None:
    """An unknown word, nothing where a proof should be, and a proof that can never be there."""
    with pytest.raises(BadInput) as refusal:
        parse_acceptance([line])
    assert refusal.value.code == "acceptance-syntax"


def test_a_situation_is_said_once() -> None:
    """Of two lines about one situation it would be unclear which one holds."""
    with pytest.raises(BadInput):
        parse_acceptance(["first: attestation", "first: owner-login"])


@given(st.tuples(ANYWHERE, ANYWHERE, ANYWHERE, ANYWHERE))
def test_written_and_read_again(alternatives: tuple[tuple[frozenset[Proof], ...], ...]) -> None:
    """What the registry stores is what it reads."""
    made = Acceptance(*alternatives)
    assert parse_acceptance(made.lines()) == made


@pytest.mark.parametrize("policy", [DEFAULT, STRICT])
def test_a_step_up(policy: Acceptance) -> None:
    """A certificate renews itself; expired or lost, it needs something else beside it."""
    alone = frozenset({Proof.SERVICE_CERTIFICATE})
    assert alone in policy.renewing
    for situation in Situation:
        if situation is not Situation.RENEWING:
            assert alone not in policy.of(situation)
    assert frozenset({Proof.ENROLMENT_SECRET}) not in policy.re_imaged + policy.expired
