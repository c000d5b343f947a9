"""The attestation object itself: what is around every format's statement."""

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certmint.attestation.attested import Format, Proof
from certmint.attestation.statement import verify
from certmint.model.errors import CertmintError

from .makers import NOW, PROOF, Maker, attestation, refusal

ANCHORS = [Maker().anchor(kind) for kind in Format]


def code(octets: bytes) -> str:
    """The refusal's code."""
    try:
        verify(octets, PROOF, ANCHORS, NOW, revoked=frozenset())
    except CertmintError as refused:
        return refusal(refused)
    return "accepted"


@pytest.mark.parametrize("name", ["none", "packed", "fido-u2f", "", "TPM", "tpm-ek", "x" * 1000])
def test_formats_that_are_not_served(name: str) -> None:
    """Least of all the format that attests nothing; the credential protocol has its own way in."""
    assert code(attestation(name, {})) == "attestation-format"


@pytest.mark.parametrize(
    "item",
    [
        None, 1, "tpm", [], {}, {"fmt": "tpm"}, {"attStmt": {}}, {"fmt": 1, "attStmt": {}},
        {"fmt": "tpm", "attStmt": []}, {"fmt": b"tpm", "attStmt": {}},
    ],
)  # fmt: skip
def test_what_is_no_attestation_object(item: object) -> None:
    """Another shape is a syntax error, whatever it is."""
    assert code(cbor2.dumps(item)) == "attestation-syntax"


@pytest.mark.parametrize("kind", [k for k in Format if k is not Format.TPM_EK])
def test_an_empty_statement(kind: Format) -> None:
    """No format finds anything in it."""
    assert code(attestation(kind, {})) == "attestation-syntax"


@pytest.mark.parametrize(("key_authorization", "token"), [(b"", b"x"), (b"x", b""), (b"", b"")])
def test_a_challenge_is_never_empty(key_authorization: bytes, token: bytes) -> None:
    """A statement about nothing would be good for ever."""
    with pytest.raises(CertmintError) as refused:
        Proof(key_authorization, token)
    assert refusal(refused.value) == "attestation-proof"


def test_a_hostile_format_name_is_cut_short() -> None:
    """It is quoted in the sentence, escaped, and not whole."""
    with pytest.raises(CertmintError) as refused:
        verify(attestation("\x1b[2J" + "x" * 999, {}), PROOF, [], NOW, revoked=frozenset())
    assert "\x1b" not in refused.value.detail
    assert len(refused.value.detail) < 200


MEMBERS = st.sampled_from(["fmt", "attStmt", "ver", "alg", "x5c", "sig", "certInfo", "pubArea"])
LEAVES = st.none() | st.integers() | st.binary(max_size=20) | st.text(max_size=9)


@settings(deadline=None)
@given(
    st.sampled_from([*Format, "none"]),
    st.dictionaries(MEMBERS, st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=4))),
)
def test_random_statements(kind: str, statement: dict[str, object]) -> None:
    """Of every format: refused with a code."""
    assert code(attestation(kind, statement)) != "accepted"


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_noise(octets: bytes) -> None:
    """Noise attests nothing."""
    assert code(octets) != "accepted"
