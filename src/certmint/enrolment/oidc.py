"""Owners whom an OpenID provider knows: bearer tokens, and the links from persons to owners.

Laws: a token counts for the manufacturer whose configuration names its issuer and audience, and
for no other; a person is an owner by a link, that an operator made or that the manufacturer's
setting makes at first sight. Such an account has a name that no login by password can have.
"""

import datetime as dt
from dataclasses import dataclass

from certmint.enrolment import logins, tokens
from certmint.enrolment.manufacturers import new_id
from certmint.enrolment.tokens import Token, UnknownKey
from certmint.model.entities import Manufacturer, Owner
from certmint.model.errors import BadInput, Forbidden, Misconfigured, NotFound, Unauthenticated
from certmint.model.openid import (
    Identity,
    audiences,
    is_subject,
    judge_bearer,
    judge_id_token,
)
from certmint.model.serial import RandomBytes
from certmint.registry import reads, writes
from certmint.registry.engine import Database, Transaction
from certmint.registry.reads.logins import LinkedIdentity
from certmint.validation.oidc import RemoteProvider

ACCOUNT_PREFIX = "oidc:"  # HTTP Basic ends a user name at the colon


@dataclass(frozen=True)
class OIDC:
    """The providers of this installation, one for each manufacturer that has one.

    `redirect_uri` is where a browser comes back to.
    """

    providers: tuple[RemoteProvider, ...] = ()
    redirect_uri: str = ""

    def of(self, maker: str) -> RemoteProvider:
        """Raises NotFound `provider-unknown`."""
        for remote in self.providers:
            if remote.provider.manufacturer == maker:
                return remote
        raise NotFound("provider-unknown", "this manufacturer has no OpenID provider")


def owner_by_bearer(
    db: Database, oidc: OIDC, text: str, now: dt.datetime, random_bytes: RandomBytes
) -> Owner:
    """The owner whom a bearer token of the maker's app names (RFC 6750, RFC 9068).

    Raises Unauthenticated `token-syntax`, `token-issuer`, `token-audience`, `token-algorithm`,
    `token-key`, `token-signature`, `token-expired`, `token-early`, `token-claims`; Forbidden
    `login-unlinked`; Unavailable `provider-unreachable`, `provider-answer`.
    """
    token = tokens.read(text)
    remote = _provider_of(oidc, token)
    _check_signature(remote, token, now)
    identity = judge_bearer(token.claims, remote.provider, now)
    return _owner_of(db, remote, identity, now, random_bytes)


def owner_by_id_token(
    db: Database, remote: RemoteProvider, text: str, nonce: str | None, now: dt.datetime,
    random_bytes: RandomBytes,
) -> Owner:  # fmt: skip
    """The owner whom an ID token names that the provider gave to us.

    Its signature is checked although TLS brought it. Raises as `owner_by_bearer`, and
    Unauthenticated `token-nonce`.
    """
    identity = identity_by_id_token(remote, text, nonce, now)
    return _owner_of(db, remote, identity, now, random_bytes)


def identity_by_id_token(
    remote: RemoteProvider, text: str, nonce: str | None, now: dt.datetime
) -> Identity:
    """The person whom an ID token names. Raises as `owner_by_id_token`."""
    token = tokens.read(text)
    _check_signature(remote, token, now)
    return judge_id_token(token.claims, remote.provider, nonce, now)


def tenant_of(db: Database, remote: RemoteProvider) -> Manufacturer:
    """The manufacturer whose provider it is. Raises Misconfigured `provider-manufacturer`."""
    with db.read() as tx:
        return _tenant(tx, remote)


def link(
    db: Database, tenant: Manufacturer, username: str, issuer: str, subject: str, *, by: str,
    now: dt.datetime,
) -> None:  # fmt: skip
    """From now on this person is this owner.

    Raises BadInput `identity-syntax`, NotFound `owner-unknown`, Conflict `identity-linked`.
    """
    if not is_subject(subject):
        raise BadInput("identity-syntax", "a subject is 1 to 255 printable ASCII characters")

    def work(tx: Transaction) -> None:
        owner = _named(tx, tenant, username)
        writes.link_identity(tx, tenant.id, owner.id, issuer, subject, by=by, at=now)

    db.write(work)


def unlink(
    db: Database, tenant: Manufacturer, username: str, issuer: str, subject: str, *, by: str,
    now: dt.datetime,
) -> None:  # fmt: skip
    """This person is this owner no more; the owner's sessions and grants to devices end.

    Raises NotFound `owner-unknown`, `link-unknown`.
    """

    def work(tx: Transaction) -> None:
        owner = _named(tx, tenant, username)
        writes.unlink_identity(tx, tenant.id, owner.id, issuer, subject, by=by, at=now)

    db.write(work)


def identities(
    db: Database, tenant: Manufacturer, after: tuple[str, str] | None, limit: int
) -> list[LinkedIdentity]:
    """Who is linked, in the order of issuer and subject."""
    with db.read() as tx:
        return reads.owner_identities(tx, tenant.id, after, limit)


def _provider_of(oidc: OIDC, token: Token) -> RemoteProvider:
    """The one provider that may have issued this. Two manufacturers may share an issuer."""
    issuer, for_whom = token.claims.get("iss"), audiences(token.claims)
    known = [each for each in oidc.providers if each.provider.issuer == issuer]
    if not known:
        raise Unauthenticated("token-issuer", "the token is not of a provider that counts here")
    found = [each for each in known if each.provider.audience in for_whom]
    if len(found) != 1 or not found[0].provider.audience:
        raise Unauthenticated("token-audience", "the token was not issued for this service")
    return found[0]


def _check_signature(remote: RemoteProvider, token: Token, now: dt.datetime) -> None:
    algorithms = remote.provider.algorithms
    try:
        tokens.check_signature(token, remote.keys(now), algorithms)
    except UnknownKey:
        try:
            tokens.check_signature(token, remote.keys_again(now), algorithms)
        except UnknownKey:
            raise Unauthenticated(
                "token-key", "the token is signed by a key that its provider does not publish"
            ) from None


def _owner_of(
    db: Database, remote: RemoteProvider, identity: Identity, now: dt.datetime,
    random_bytes: RandomBytes,
) -> Owner:  # fmt: skip
    with db.read() as tx:
        tenant = _tenant(tx, remote)
        found = reads.owner_of_identity(tx, tenant.id, identity.issuer, identity.subject)
    if found is not None:
        return found
    if not remote.provider.creates_owners:
        raise Forbidden(
            "login-unlinked", "nobody here is linked with this login: ask the manufacturer"
        )
    made = Owner(new_id("own", now, random_bytes), tenant.id, _account(identity), now)
    hashed = logins.password_hash(random_bytes(32).hex())  # nobody has it
    return db.write(lambda tx: _create(tx, made, hashed, identity, now))


def _create(
    tx: Transaction, made: Owner, hashed: str, identity: Identity, now: dt.datetime
) -> Owner:
    # Of two first requests at once, the second one finds what the first has made.
    found = reads.owner_of_identity(tx, made.tenant_id, identity.issuer, identity.subject)
    if found is not None:
        return found
    by = f"owner:{made.id}"
    writes.add_owner(tx, made, hashed, by=by, at=now)
    writes.link_identity(
        tx, made.tenant_id, made.id, identity.issuer, identity.subject, by=by, at=now
    )
    return made


def _account(identity: Identity) -> str:
    return f"{ACCOUNT_PREFIX}{identity.subject}"


def _named(tx: Transaction, tenant: Manufacturer, username: str) -> Owner:
    found = reads.owner_credentials(tx, tenant.id, username)
    if found is None:
        raise NotFound("owner-unknown", f"there is no owner {username!r}")
    return found[0]


def _tenant(tx: Transaction, remote: RemoteProvider) -> Manufacturer:
    maker = remote.provider.manufacturer
    found = reads.manufacturer_by_slug(tx, maker)
    if found is None:
        raise Misconfigured(
            "provider-manufacturer", f"oidc.providers: there is no manufacturer {maker!r}"
        )
    return found
