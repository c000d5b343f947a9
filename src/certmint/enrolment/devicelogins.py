"""The device authorization grant (RFC 8628): a device without a keyboard has its owner log in.

The device asks us, by its identity in TLS and with the CSR that it wants certified; we are the
provider's client, and the device shows its user a code and an address. Laws: a device has one
login under way; whoever polls takes the turn by one compare-and-set, so that several nodes ask
the provider no more often than it allows; the device code is encrypted at rest. The owner's login
counts for ten minutes, for that device and that CSR alone, and for one certificate. A device
without an owner becomes that of the owner who logs in: it is there, and so is the owner.
"""

import datetime as dt
import hashlib
import hmac
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from certmint.enrolment import oidc, ownership, sessions
from certmint.enrolment.manufacturers import new_id
from certmint.enrolment.oidc import OIDC
from certmint.model.csr import CSR
from certmint.model.entities import Certificate, Owner
from certmint.model.errors import (
    Conflict,
    NotFound,
    Refused,
    TooOften,
    Unauthenticated,
    Unavailable,
)
from certmint.model.profile import Purpose
from certmint.model.serial import RandomBytes
from certmint.registry import reads, writes
from certmint.registry.engine import Database, Transaction
from certmint.registry.reads.logins import DeviceLogin
from certmint.validation.oidc import Answer, RemoteProvider, is_provider_url

GRANT_LIFE = dt.timedelta(minutes=10)
AGAIN = dt.timedelta(seconds=10)  # between two beginnings of one device
_GRANT_TYPE = "urn:ietf:params:oauth:grant-type:device_code"
_SLOWER_S = 5  # RFC 8628 3.5
_INTERVAL_S = (1, 60)
_LIFE_S = (30, 1800)
_MAX_TEXT = 2048


@dataclass(frozen=True)
class Shown:
    """What the device shows its user. `interval` is how many seconds to wait between polls."""

    id: str
    user_code: str
    verification_uri: str
    verification_uri_complete: str
    interval: int
    expires_at: dt.datetime


@dataclass(frozen=True)
class Progress:
    """Where a login stands: granted until `expires_at`, or waiting until then."""

    is_granted: bool
    interval: int
    expires_at: dt.datetime


def begin(
    db: Database, service: OIDC, device: Certificate, csr: CSR, key: bytes, now: dt.datetime,
    random_bytes: RandomBytes,
) -> Shown:  # fmt: skip
    """Ask the manufacturer's provider for a login; `device` is an identity that TLS proved.

    Raises NotFound `provider-unknown`, Refused `identity-required`, `evidence-revoked`,
    `evidence-expired`; TooOften `login-too-soon`; Unavailable `provider-*`.
    """
    ownership.check_identity(device, now)
    tenant_id, device_id = device.tenant_id, device.device_id or ""
    with db.read() as tx:
        tenant = reads.manufacturer(tx, tenant_id)
        before = reads.device_login(tx, tenant_id, device_id)
    if before is not None and now - before.begun_at < AGAIN:
        raise _too_soon(before.begun_at + AGAIN, now)
    remote = service.of(tenant.slug if tenant else "")
    endpoint = remote.metadata(now).device_authorization_endpoint
    if not is_provider_url(endpoint):
        raise NotFound(
            "provider-unknown", "the manufacturer's OpenID provider offers no login for devices"
        )
    status, said = remote.post(endpoint, {"scope": " ".join(remote.provider.scopes)}, now)
    if status != 200:
        raise sessions.provider_refused(said)
    interval = _number(said, "interval", 5, _INTERVAL_S)
    begun = DeviceLogin(
        device_id=device_id,
        id=new_id("dlg", now, random_bytes),
        request_hash=_digest(csr),
        device_code=_seal(key, device_id, _said(said, "device_code"), random_bytes),
        interval=interval,
        begun_at=now,
        poll_at=now + dt.timedelta(seconds=interval),
        expires_at=now + dt.timedelta(seconds=_number(said, "expires_in", 600, _LIFE_S)),
    )
    shown = Shown(
        id=begun.id,
        user_code=_said(said, "user_code"),
        verification_uri=_said(said, "verification_uri"),
        verification_uri_complete=_said(said, "verification_uri_complete")
        if "verification_uri_complete" in said
        else "",
        interval=interval,
        expires_at=begun.expires_at,
    )
    db.write(lambda tx: writes.begin_device_login(tx, tenant_id, begun))
    return shown


def poll(
    db: Database, service: OIDC, device: Certificate, login_id: str, key: bytes, now: dt.datetime,
    random_bytes: RandomBytes,
) -> Progress:  # fmt: skip
    """Whether the owner has logged in; asks the provider, if it is time to.

    If the power fails after the provider has answered and before that is durable, its code is
    spent: the device begins again. Raises NotFound `login-unknown`, TooOften `login-too-soon`,
    Unauthenticated `login-expired`, Refused `login-denied`, Conflict `device-claimed`,
    Unavailable `provider-*`, and what `oidc.owner_by_id_token` raises.
    """
    ownership.check_identity(device, now)
    login = _login(db, device, login_id)
    if now >= login.expires_at:
        raise _expired()
    if login.owner_id is not None:
        return Progress(is_granted=True, interval=0, expires_at=login.expires_at)
    until = now + dt.timedelta(seconds=login.interval)
    if not db.write(lambda tx: writes.take_device_poll(tx, device.tenant_id, login, now, until)):
        raise _too_soon(login.poll_at, now)
    with db.read() as tx:
        tenant = reads.manufacturer(tx, device.tenant_id)
    remote = service.of(tenant.slug if tenant else "")
    form = {"grant_type": _GRANT_TYPE, "device_code": _unseal(key, login)}
    status, said = remote.post(_token_endpoint(remote, now), form, now)
    if status != 200:
        return _not_yet(db, device.tenant_id, login, said, now)
    owner = oidc.owner_by_id_token(db, remote, sessions.id_token(said), None, now, random_bytes)
    return _grant(db, device, login, owner, now)


def redeem(
    db: Database, device: Certificate, login_id: str, csr: CSR, now: dt.datetime
) -> tuple[Owner, dt.datetime]:
    """The owner who logged in for this CSR of this device, and when.

    Asking again with the same CSR is answered with the same certificate, so nothing is spent here;
    once that certificate was replaced or revoked, the login is. Raises NotFound `login-unknown`,
    Unauthenticated `login-expired`, `login-pending`, `login-other-request`, `login-spent`.
    """
    login = _login(db, device, login_id)
    if now >= login.expires_at:
        raise _expired()
    if login.owner_id is None or login.granted_at is None:
        raise Unauthenticated("login-pending", "the owner has not logged in yet")
    if not hmac.compare_digest(login.request_hash, _digest(csr)):
        raise Unauthenticated("login-other-request", "the owner logged in for another CSR")
    with db.read() as tx:
        owner = reads.owner(tx, device.tenant_id, login.owner_id)
        if _is_spent(tx, device, csr, login.granted_at):
            raise Unauthenticated(
                "login-spent", "this login has bought its certificate: begin again"
            )
    if owner is None:
        raise _unknown()
    return owner, login.granted_at


def _grant(
    db: Database, device: Certificate, login: DeviceLogin, owner: Owner, now: dt.datetime
) -> Progress:
    until = now + GRANT_LIFE
    try:
        ownership.claim_by_login(db, device, owner, now)
    except Conflict:
        db.write(lambda tx: writes.end_device_login(tx, device.tenant_id, login))
        raise
    db.write(
        lambda tx: writes.grant_device_login(
            tx, device.tenant_id, login, owner.id, at=now, until=until
        )
    )
    return Progress(is_granted=True, interval=0, expires_at=until)


def _not_yet(
    db: Database, tenant_id: str, login: DeviceLogin, said: Answer, now: dt.datetime
) -> Progress:
    """What the provider's error means (RFC 8628 3.5)."""
    error = said.get("error")
    if error == "authorization_pending":
        return Progress(is_granted=False, interval=login.interval, expires_at=login.expires_at)
    if error == "slow_down":
        interval = min(login.interval + _SLOWER_S, 10 * _INTERVAL_S[1])
        until = now + dt.timedelta(seconds=interval)
        db.write(lambda tx: writes.slow_device_login(tx, tenant_id, login, interval, until))
        return Progress(is_granted=False, interval=interval, expires_at=login.expires_at)
    if error in ("access_denied", "expired_token"):
        db.write(lambda tx: writes.end_device_login(tx, tenant_id, login))
        if error == "expired_token":
            raise _expired()
        raise Refused("login-denied", "the login was refused at the provider")
    raise sessions.provider_refused(said)


def _login(db: Database, device: Certificate, login_id: str) -> DeviceLogin:
    if device.purpose is not Purpose.IDENTITY:
        raise Refused("identity-required", "a device logs its owner in by its identity certificate")
    with db.read() as tx:
        found = reads.device_login(tx, device.tenant_id, device.device_id or "")
    if found is None or found.id != login_id:
        raise _unknown()
    return found


def _is_spent(tx: Transaction, device: Certificate, csr: CSR, since: dt.datetime) -> bool:
    bought = [
        each
        for each in reads.certificates_with_key(tx, device.tenant_id, csr.key.fingerprint)
        if each.issued_at >= since
    ]
    return any(each.revocation is not None or each.successor is not None for each in bought)


def _token_endpoint(remote: RemoteProvider, now: dt.datetime) -> str:
    return remote.metadata(now).token_endpoint


def _digest(csr: CSR) -> str:
    return hashlib.sha256(csr.der).hexdigest()


def _cipher(key: bytes) -> AESGCM:
    return AESGCM(hmac.digest(key, b"device codes", "sha256"))


def _seal(key: bytes, device_id: str, code: str, random_bytes: RandomBytes) -> bytes:
    nonce = random_bytes(12)
    return nonce + _cipher(key).encrypt(nonce, code.encode(), device_id.encode())


def _unseal(key: bytes, login: DeviceLogin) -> str:
    nonce, sealed = login.device_code[:12], login.device_code[12:]
    try:
        return _cipher(key).decrypt(nonce, sealed, login.device_id.encode()).decode()
    except InvalidTag:  # the installation's passphrase changed meanwhile
        raise _unknown() from None


def _said(said: Answer, name: str) -> str:
    value = said.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_TEXT or not value.isprintable():
        raise Unavailable("provider-refused", f"the OpenID provider's answer has no {name}")
    return value


def _number(said: Answer, name: str, otherwise: int, bounds: tuple[int, int]) -> int:
    value = said.get(name, otherwise)
    number = value if isinstance(value, int) and not isinstance(value, bool) else otherwise
    return max(bounds[0], min(number, bounds[1]))


def _unknown() -> NotFound:
    return NotFound("login-unknown", "this device has no such login under way: begin again")


def _expired() -> Unauthenticated:
    return Unauthenticated("login-expired", "the login took too long: begin again")


def _too_soon(until: dt.datetime, now: dt.datetime) -> TooOften:
    seconds = max(1, int((until - now).total_seconds()) + 1)
    return TooOften("login-too-soon", f"ask again in {seconds} seconds", seconds)
