"""What a provider's tokens have to say, whoever looked up the provider before."""

import datetime as dt

import pytest

from certmint.model.errors import Unauthenticated
from certmint.model.openid import Claims, Identity, Provider, judge_bearer, judge_id_token

NOW = dt.datetime(2026, 11, 23, 12, tzinfo=dt.UTC)
PROVIDER = Provider("acme", "https://login.example", "certmint", audience="api")
CLAIMS: Claims = {
    "iss": "https://login.example", "aud": "api", "sub": "4711",
    "iat": NOW.timestamp(), "exp": NOW.timestamp() + 300,
}  # fmt: skip


def test_a_bearer_token_names_a_person() -> None:
    """By issuer and subject."""
    assert judge_bearer(CLAIMS, PROVIDER, NOW) == Identity("https://login.example", "4711")


@pytest.mark.parametrize("audience", ["", "other", "certmint", None, ["apis"], {"api": 1}])
def test_a_bearer_token_for_somebody_else(audience: object) -> None:
    """The audience is judged here as well as where the provider is looked up."""
    for said in (PROVIDER, Provider("acme", "https://login.example", "certmint")):
        with pytest.raises(Unauthenticated) as refusal:
            judge_bearer({**CLAIMS, "aud": audience}, said, NOW)
        assert refusal.value.code == "token-audience"


def test_an_id_token_and_a_bearer_token_are_not_each_other() -> None:
    """One is for the client, the other for the service."""
    ours = {**CLAIMS, "aud": "certmint", "nonce": "n"}
    assert judge_id_token(ours, PROVIDER, "n", NOW).subject == "4711"
    with pytest.raises(Unauthenticated):
        judge_bearer(ours, PROVIDER, NOW)
    with pytest.raises(Unauthenticated):
        judge_id_token({**CLAIMS, "nonce": "n"}, PROVIDER, "n", NOW)
