"""What an OpenID provider's tokens have to say, and until when they are believed.

Laws: a token is judged by this provider's settings alone: its issuer, the audience that is ours,
the times in it, and for an ID token the nonce that we sent (OpenID Connect Core 3.1.3.7). Every
claim that is judged must be there. A token names a person by issuer and subject, never by a name
or an address that the provider may give to somebody else.

Nothing here checks a signature or fetches a key: `enrolment.tokens` and `validation.oidc` do.
"""

import datetime as dt
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field

from certmint.model.errors import Unauthenticated

LEEWAY = dt.timedelta(seconds=60)  # how far two clocks may be apart
OLDEST = dt.timedelta(hours=24)  # a token that was issued before that is not believed
ALGORITHMS = ("RS256", "ES256", "EdDSA")  # never none, never a shared secret
MAX_SUBJECT = 255  # OpenID Connect Core 2
_FAR = 2**53  # no number, infinity and what does not fit into a float are no times

Claims = Mapping[str, object]


@dataclass(frozen=True)
class Provider:
    """An OpenID provider as a manufacturer's configuration describes it.

    `audience` is what bearer tokens of the maker's app name; "" takes none of them.
    `creates_owners` makes an account of whoever the provider knows, at first sight.
    """

    manufacturer: str
    issuer: str
    client_id: str
    client_secret: str = field(default="", repr=False)
    audience: str = ""
    scopes: tuple[str, ...] = ("openid",)
    algorithms: tuple[str, ...] = ("RS256", "ES256")
    creates_owners: bool = False
    ca_file: str = ""


@dataclass(frozen=True)
class Identity:
    """A person, as the provider knows them."""

    issuer: str
    subject: str


def judge_bearer(claims: Claims, provider: Provider, now: dt.datetime) -> Identity:
    """Whom a bearer token of the maker's app names (RFC 9068 4).

    Raises Unauthenticated `token-issuer`, `token-audience`, `token-expired`, `token-early` or
    `token-claims`.
    """
    _check_issuer(claims, provider)
    if not provider.audience or provider.audience not in audiences(claims):
        raise Unauthenticated("token-audience", "the token was not issued for this service")
    _check_times(claims, now)
    return _identity(claims)


def judge_id_token(
    claims: Claims, provider: Provider, nonce: str | None, now: dt.datetime
) -> Identity:
    """Whom an ID token names (OpenID Connect Core 3.1.3.7); `nonce` is None where none was sent.

    Raises what `judge_bearer` raises, and `token-nonce`.
    """
    _check_issuer(claims, provider)
    for_whom = audiences(claims)
    authorized = claims.get("azp", provider.client_id if len(for_whom) == 1 else None)
    if provider.client_id not in for_whom or authorized != provider.client_id:
        raise Unauthenticated("token-audience", "the ID token was not issued for this service")
    _check_times(claims, now)
    said = claims.get("nonce")
    if nonce is not None and not (
        isinstance(said, str)
        and hmac.compare_digest(said.encode("utf-8", "surrogatepass"), nonce.encode())
    ):
        raise Unauthenticated("token-nonce", "the ID token belongs to another login")
    return _identity(claims)


def audiences(claims: Claims) -> tuple[str, ...]:
    """`aud`: one text or a list of them (RFC 7519 4.1.3); empty for anything else."""
    said = claims.get("aud")
    if isinstance(said, str):
        return (said,)
    if isinstance(said, list):
        return tuple(each for each in said if isinstance(each, str))
    return ()


def _check_issuer(claims: Claims, provider: Provider) -> None:
    if claims.get("iss") != provider.issuer:
        raise Unauthenticated("token-issuer", "the token is not of a provider that counts here")


def _check_times(claims: Claims, now: dt.datetime) -> None:
    moment, leeway = now.timestamp(), LEEWAY.total_seconds()
    issued = _seconds(claims, "iat")
    if moment >= _seconds(claims, "exp") + leeway:
        raise Unauthenticated("token-expired", "the token has expired: log in again")
    if moment >= issued + OLDEST.total_seconds():
        raise Unauthenticated("token-expired", "the token was issued too long ago: log in again")
    begins = _seconds(claims, "nbf") if "nbf" in claims else issued
    if max(issued, begins) > moment + leeway:
        raise Unauthenticated("token-early", "the token is dated in the future: compare the clocks")


def _seconds(claims: Claims, name: str) -> float:
    """A NumericDate (RFC 7519 2)."""
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _FAR:
        raise Unauthenticated("token-claims", f"the token says no {name}")
    return value


def _identity(claims: Claims) -> Identity:
    issuer, subject = claims.get("iss"), claims.get("sub")
    if not isinstance(issuer, str) or not isinstance(subject, str) or not is_subject(subject):
        raise Unauthenticated("token-claims", "the token does not say whose it is")
    return Identity(issuer, subject)


def is_subject(text: str) -> bool:
    """Whether a provider may call somebody that: 1 to 255 printable ASCII characters."""
    return 0 < len(text) <= MAX_SUBJECT and text.isascii() and text.isprintable()
