"""WWW-Authenticate: which schemes a refused client may use instead."""

import pytest

from certmint.doors.est.answers import refusal
from certmint.doors.http import problem
from certmint.model.errors import Forbidden, Unauthenticated

BASIC = 'Basic realm="certmint", charset="UTF-8"'
BEARER = 'Bearer realm="certmint"'


@pytest.mark.parametrize(
    ("code", "schemes"),
    [
        ("login-required", [BASIC, BEARER]),
        ("login-failed", [BASIC, BEARER]),
        ("token-expired", [BASIC, BEARER + ', error="invalid_token"']),
        ("session-over", [BASIC, BEARER + ', error="invalid_token"']),
        ("token-required", [BEARER]),
        ("token-invalid", [BEARER + ', error="invalid_token"']),
    ],
)
def test_a_challenge_for_each_scheme(code: str, schemes: list[str]) -> None:
    """A field each (RFC 9110 11.6.1); an error only where a token came (RFC 6750 3.1)."""
    for answer in (problem(Unauthenticated(code, "x")), refusal(Unauthenticated(code, "x"), "")):
        assert answer.status_code == 401
        assert answer.headers.getlist("www-authenticate") == schemes


def test_who_is_known_is_not_challenged() -> None:
    """403 asks for no other credentials."""
    assert "www-authenticate" not in problem(Forbidden("role-forbids", "x")).headers
