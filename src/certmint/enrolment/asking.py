"""Who stands at a door: everything that was proved in one request, together.

A device shows a certificate in TLS, its owner logs in, somebody types the label's secret, hardware
vouches for the key: a product may ask for any combination, so every proof that came goes to
policy. One that is wrong refuses the request, even if the others would have been enough.
"""

import datetime as dt
from dataclasses import dataclass, field

from certmint.enrolment import attesting, devices, logins, oidc, secrets, sessions
from certmint.enrolment.attesting import Statement
from certmint.enrolment.devices import DeviceView
from certmint.enrolment.oidc import OIDC
from certmint.model.entities import Certificate, Owner
from certmint.model.errors import BadInput, Refused, Unauthenticated
from certmint.model.evidence import Evidence, HoldsCertificate, OwnerLogin
from certmint.model.request import Asker, Requester, RequesterKind
from certmint.model.serial import RandomBytes
from certmint.registry.engine import Database


@dataclass(frozen=True)
class OwnerPassword:
    """What an owner typed."""

    maker: str
    username: str
    password: str = field(repr=False)


@dataclass(frozen=True)
class LabelSecret:
    """What somebody read off a device."""

    maker: str
    serial_number: str
    secret: str = field(repr=False)


@dataclass(frozen=True)
class ProvedOwner:
    """An owner whom the manufacturer's OpenID provider vouches for, and since when."""

    owner: Owner
    verified_at: dt.datetime


Login = OwnerPassword | LabelSecret | ProvedOwner


@dataclass(frozen=True)
class Shown:
    """What a request came with. `certificate` is DER whose key TLS has proved."""

    certificate: bytes | None = None
    logins: tuple[Login, ...] = ()
    statement: Statement | None = None
    source: str = ""


@dataclass(frozen=True)
class Caller:
    """Who stands at the door. `device_ids` are the devices that the proofs are about."""

    tenant_id: str
    certificate: Certificate | None
    owner: Owner | None
    evidence: tuple[Evidence, ...]
    device_ids: frozenset[str]
    source: str

    @property
    def asker(self) -> Asker:
        """All proofs count together, so that a policy may demand several."""
        if not self.device_ids and self.owner is not None:
            requester = Requester(RequesterKind.OWNER, self.owner.id)
        else:
            requester = Requester(RequesterKind.DEVICE, min(self.device_ids, default=""))
        return Asker(requester, self.evidence, self.source)


def admit(db: Database, shown: Shown, secret_key: bytes, now: dt.datetime) -> Caller:
    """Check every proof, the cheap ones first.

    Raises Unauthenticated `login-required`, `certificate-unknown`, `login-failed`, `secret-wrong`;
    TooOften `login-locked`; Refused `device-contradiction` for proofs of two makers or devices;
    and what `attesting.attest` raises.
    """
    if shown.certificate is None and not shown.logins and shown.statement is None:
        raise Unauthenticated(
            "login-required",
            "show the device's client certificate, or log in by HTTP Basic: as 'manufacturer/user' "
            "with the owner's password, or as 'manufacturer~serial' with the label's secret; or by "
            "an owner's bearer token",
        )
    evidence: list[Evidence] = []
    tenants, about = set(), set()
    certificate = _device_certificate(db, shown.certificate) if shown.certificate else None
    if certificate is not None:
        evidence.append(HoldsCertificate(certificate.authority_id, certificate.serial, now))
        tenants.add(certificate.tenant_id)
        about.add(certificate.device_id or "")
    if shown.statement is not None:
        proof, device = attesting.attest(db, shown.statement, secret_key, now)
        evidence.append(proof)
        tenants.add(device.tenant_id)
        about.add(device.id)
    owner = None
    for login in shown.logins:
        if isinstance(login, LabelSecret):
            device, secret = secrets.prove(
                db, secret_key, login.maker, login.serial_number, login.secret, shown.source, now
            )
            evidence.append(secret)
            tenants.add(device.tenant_id)
            about.add(device.id)
        else:
            owner, since = _owner(db, login, shown.source, now)
            evidence.append(OwnerLogin(owner.id, since))
            tenants.add(owner.tenant_id)
    if len(tenants) > 1 or len(about) > 1:
        raise Refused("device-contradiction", "the proofs of this request mean different devices")
    return Caller(
        tenants.pop(), certificate, owner, tuple(evidence), frozenset(about), shown.source
    )


def owner_by_token(
    db: Database, service: OIDC, token: str, now: dt.datetime, random_bytes: RandomBytes
) -> Owner:
    """The owner of a bearer token: a session's, or one that the maker's provider issued.

    Raises what `sessions.owner_of_session` and `oidc.owner_by_bearer` raise.
    """
    if token.startswith(sessions.SESSION_PREFIX):
        return sessions.owner_of_session(db, token, now)
    return oidc.owner_by_bearer(db, service, token, now, random_bytes)


def target_of(db: Database, caller: Caller, serial_number: str | None = None) -> DeviceView:
    """The device that the proofs are about, or that is named where they do not say.

    Raises BadInput `device-unnamed`, NotFound `device-unknown`, Refused `device-contradiction`.
    """
    if caller.device_ids:
        target = devices.view(db, caller.tenant_id, min(caller.device_ids))
        if serial_number and serial_number != target.device.serial_number:
            raise Refused(
                "device-contradiction",
                f"this request is about device {target.device.serial_number}, and names another",
            )
        return target
    if not serial_number:
        raise BadInput("device-unnamed", "a login does not say which device is meant: name it")
    return devices.view_by_serial_number(db, caller.tenant_id, serial_number)


def _owner(
    db: Database, login: OwnerPassword | ProvedOwner, source: str, now: dt.datetime
) -> tuple[Owner, dt.datetime]:
    if isinstance(login, ProvedOwner):
        return login.owner, login.verified_at
    return logins.login(db, login.maker, login.username, login.password, source, now), now


def _device_certificate(db: Database, der: bytes) -> Certificate:
    found = devices.identify(db, der)
    if found.device_id is None:
        raise Unauthenticated(
            "certificate-unknown", "the client certificate is not that of a device"
        )
    return found
