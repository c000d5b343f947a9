"""Logging in at the manufacturer's provider with a browser, and the session that comes of it.

The authorization code flow (OpenID Connect Core 3.1) with PKCE (RFC 7636, S256). Laws: a login
under way is one row, known by the hash of its state, and spent before the code is; nonce,
verifier and the browser's cookie are derived from the state under a key of the installation, so
that any node can finish a login and the registry holds no secret of it. Only the browser that
began can finish (login CSRF). A session is a random token, known by its hash, that ends by
itself within the hour or when it is closed.
"""

import base64
import datetime as dt
import hashlib
import hmac
import urllib.parse
from dataclasses import dataclass, field

from certmint.enrolment import oidc
from certmint.enrolment.oidc import OIDC
from certmint.enrolment.operators import token_hash
from certmint.model.entities import Manufacturer, Owner
from certmint.model.errors import Refused, Unauthenticated, Unavailable
from certmint.model.serial import RandomBytes
from certmint.registry import reads, writes
from certmint.registry.engine import Database
from certmint.validation.oidc import Answer, Metadata, RemoteProvider, is_provider_url

LOGIN_LIFE = dt.timedelta(minutes=10)
SESSION_LIFE = dt.timedelta(hours=1)
SESSION_PREFIX = "cms_"  # it marks tokens for secret scanners; it is not one
_STATE_OCTETS = 32


@dataclass(frozen=True)
class Begun:
    """Where the browser goes, and the cookie by which it is known again."""

    url: str = field(repr=False)
    cookie: str = field(repr=False)
    expires_at: dt.datetime


@dataclass(frozen=True)
class Returned:
    """What the browser brought back from the provider: "" for what it did not."""

    state: str
    code: str = field(repr=False)
    error: str
    issuer: str
    cookie: str = field(repr=False)


def begin(
    db: Database, service: OIDC, maker: str, key: bytes, now: dt.datetime, random_bytes: RandomBytes
) -> Begun:
    """Send a browser to the manufacturer's provider.

    Raises NotFound `provider-unknown`; Unavailable `provider-unreachable`, `provider-answer`.
    """
    remote = service.of(maker)
    endpoint = _endpoint(remote, remote.metadata(now).authorization_endpoint)
    tenant = oidc.tenant_of(db, remote)
    state = f"{maker}.{_text(random_bytes(_STATE_OCTETS))}"
    until = now + LOGIN_LIFE
    db.write(
        lambda tx: writes.begin_owner_login(tx, tenant.id, token_hash(state), at=now, until=until)
    )
    challenge = hashlib.sha256(_derived(key, "verifier", state).encode()).digest()
    asked = {
        "response_type": "code",
        "client_id": remote.provider.client_id,
        "redirect_uri": service.redirect_uri,
        "scope": " ".join(remote.provider.scopes),
        "state": state,
        "nonce": _derived(key, "nonce", state),
        "code_challenge": _text(challenge),
        "code_challenge_method": "S256",
    }
    separator = "&" if "?" in endpoint else "?"
    url = f"{endpoint}{separator}{urllib.parse.urlencode(asked)}"
    return Begun(url, _derived(key, "cookie", state), until)


def finish(
    db: Database, service: OIDC, back: Returned, key: bytes, now: dt.datetime,
    random_bytes: RandomBytes,
) -> tuple[str, dt.datetime]:  # fmt: skip
    """A session for the owner who came back: its token, and when it ends.

    Raises as `returned`, and what `oidc.owner_by_id_token` raises.
    """
    remote, _, token, nonce = returned(db, service, back, key, now)
    owner = oidc.owner_by_id_token(db, remote, token, nonce, now, random_bytes)
    return _open(db, owner, now, random_bytes)


def returned(
    db: Database, service: OIDC, back: Returned, key: bytes, now: dt.datetime
) -> tuple[RemoteProvider, Manufacturer, str, str]:
    """What a browser's login brought: provider, manufacturer, ID token, and the nonce in it.

    If the power fails before the answer is out, the state is spent: who logged in begins again.
    Raises Unauthenticated `login-state`, Refused `login-denied`, Unavailable `provider-refused`.
    """
    stale = Unauthenticated("login-state", "this login was not begun here or is over: begin again")
    if not hmac.compare_digest(back.cookie.encode(), _derived(key, "cookie", back.state).encode()):
        raise stale
    remote = service.of(back.state.rpartition(".")[0])
    tenant = oidc.tenant_of(db, remote)
    if not db.write(
        lambda tx: writes.spend_owner_login(tx, tenant.id, token_hash(back.state), now)
    ):
        raise stale
    metadata = remote.metadata(now)
    _check_answer(remote, metadata, back)
    form = {
        "grant_type": "authorization_code",
        "code": back.code,
        "redirect_uri": service.redirect_uri,
        "code_verifier": _derived(key, "verifier", back.state),
    }
    status, said = remote.post(_endpoint(remote, metadata.token_endpoint), form, now)
    if status != 200:
        raise provider_refused(said)
    return remote, tenant, id_token(said), _derived(key, "nonce", back.state)


def owner_of_session(db: Database, token: str, now: dt.datetime) -> Owner:
    """Raises Unauthenticated `session-over`."""
    with db.read() as tx:
        found = reads.owner_of_session(tx, token_hash(token), now)
    if found is None:
        raise Unauthenticated("session-over", "the session is over: log in again")
    return found


def close(db: Database, token: str, now: dt.datetime) -> None:
    """End a session. Raises Unauthenticated `session-over`."""
    owner = owner_of_session(db, token, now)
    db.write(
        lambda tx: writes.close_session(tx, owner.tenant_id, owner.id, token_hash(token), at=now)
    )


def id_token(said: Answer) -> str:
    """The ID token in an answer of the token endpoint. Raises Unavailable `provider-refused`."""
    found = said.get("id_token")
    if not isinstance(found, str):
        raise Unavailable("provider-refused", "the OpenID provider gave no ID token")
    return found


def provider_refused(said: Answer) -> Unavailable:
    """What to tell when the provider refuses us; its error code is for the manufacturer."""
    error = said.get("error")
    word = error if isinstance(error, str) and error.isidentifier() and len(error) < 64 else "?"
    return Unavailable("provider-refused", f"the OpenID provider refused the login: {word}")


def _check_answer(remote: RemoteProvider, metadata: Metadata, back: Returned) -> None:
    # An answer of another provider must not bring its code to this one (RFC 9207 2.4).
    if (back.issuer or metadata.names_itself) and back.issuer != remote.provider.issuer:
        raise Unauthenticated("token-issuer", "the login came back from another provider")
    if back.error == "access_denied":
        raise Refused("login-denied", "the login was refused at the provider")
    if back.error or not back.code:
        raise provider_refused({"error": back.error})


def _open(
    db: Database, owner: Owner, now: dt.datetime, random_bytes: RandomBytes
) -> tuple[str, dt.datetime]:
    token, until = SESSION_PREFIX + _text(random_bytes(32)), now + SESSION_LIFE
    db.write(
        lambda tx: writes.open_session(
            tx, owner.tenant_id, owner.id, token_hash(token), at=now, until=until
        )
    )
    return token, until


def _endpoint(remote: RemoteProvider, url: str) -> str:
    if not is_provider_url(url):
        raise Unavailable(
            "provider-answer",
            f"the OpenID provider {remote.provider.issuer} names no https:// endpoint for logins",
        )
    return url


def _derived(key: bytes, purpose: str, state: str) -> str:
    return _text(hmac.digest(key, f"login {purpose}\0{state}".encode(), "sha256"))


def _text(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).decode().rstrip("=")
