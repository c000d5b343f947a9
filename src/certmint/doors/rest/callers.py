"""From an HTTP request to everything that was shown in it, and to whom that makes the caller."""

import base64
import binascii
import datetime as dt
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from fastapi import Request

from certmint.doors.http import basic_login, bearer_of, peer_certificate, source_of
from certmint.doors.rest import views
from certmint.enrolment import asking, devicelogins, devices, logins, proving
from certmint.enrolment.asking import LabelSecret, Login, OwnerPassword, ProvedOwner, Shown
from certmint.enrolment.attesting import Activation, Statement
from certmint.enrolment.deeds import Hands
from certmint.enrolment.issue import Gate
from certmint.enrolment.oidc import OIDC
from certmint.enrolment.signing import SigningKeys
from certmint.enrolment.vault import Vault
from certmint.model.csr import parse_csr
from certmint.model.entities import Certificate, Owner
from certmint.model.errors import BadInput, Unauthenticated
from certmint.model.serial import RandomBytes
from certmint.registry.engine import Database

_PEM = re.compile(r"-----BEGIN CERTIFICATE-----")


@dataclass(frozen=True)
class Services:
    """What the routes call into. `secret_key` is the one under which labels are known.

    `packages` is where batches that were asked for over the network leave their packages.
    """

    db: Database
    gate: Gate
    keys: SigningKeys
    clock: Callable[[], dt.datetime]
    random_bytes: RandomBytes
    secret_key: bytes = field(repr=False)
    vault: Vault
    hands: Hands
    proofs: proving.Proofs
    packages: Path
    requests_minute: int
    four_eyes_above: int
    metrics: Callable[[], bytes]
    oidc: OIDC = field(default_factory=OIDC)


def device_certificate(services: Services, request: Request) -> Certificate:
    """The client certificate of the TLS connection, as this registry issued it."""
    der = peer_certificate(request)
    if der is None:
        raise Unauthenticated("certificate-required", "show the device's client certificate")
    found = devices.identify(services.db, der)
    if found.device_id is None:
        raise Unauthenticated(
            "certificate-unknown", "the client certificate is not that of a device"
        )
    return found


def owner_of(services: Services, request: Request) -> Owner:
    """The owner who logged in: by HTTP Basic, or by a session or a provider's token as Bearer.

    Raises Unauthenticated `login-required` …
    """
    bearer = bearer_token(request)
    if bearer:
        return _owner_by_token(services, bearer)
    maker, separator, username, password = basic_login(request.headers.get("authorization", ""))
    if separator != "/":
        raise Unauthenticated("login-required", "log in as 'manufacturer/user' with a password")
    return logins.login(
        services.db, maker, username, password, source_of(request.scope), services.clock()
    )


def bearer_token(request: Request) -> str:
    """The request's bearer token; "" without one."""
    return bearer_of(request.headers.get("authorization", ""))


def shown_by(services: Services, request: Request, body: views.Proofs) -> Shown:
    """Every proof that came: certificate, logins, label, attestation."""
    authorization = request.headers.get("authorization", "")
    bearer = bearer_token(request)
    found: list[Login] = []
    if bearer:
        found.append(ProvedOwner(_owner_by_token(services, bearer), services.clock()))
    elif authorization:
        maker, separator, name, password = basic_login(authorization)
        kind = OwnerPassword if separator == "/" else LabelSecret
        found.append(kind(maker, name, password))
    if body.label is not None:
        label = body.label
        found.append(LabelSecret(label.manufacturer, label.serial_number, label.secret))
    if isinstance(body, views.CertifyBody) and body.login is not None:
        owner, since = devicelogins.redeem(
            services.db, device_certificate(services, request), body.login,
            parse_csr(body.csr.encode()), services.clock(),
        )  # fmt: skip
        found.append(ProvedOwner(owner, since))
    statement = _statement(body.attestation) if body.attestation is not None else None
    return Shown(peer_certificate(request), tuple(found), statement, source_of(request.scope))


def admitted(services: Services, request: Request, body: views.Proofs) -> asking.Caller:
    """Whoever asks for a certificate, with everything that was proved."""
    shown = shown_by(services, request, body)
    if shown.certificate is None and not shown.logins and shown.statement is None:
        raise Unauthenticated(
            "certificate-required",
            "show the device's client certificate, a login, the label's secret or an attestation",
        )
    return asking.admit(services.db, shown, services.secret_key, services.clock())


def octets(text: str, name: str) -> bytes:
    """What base64, of either alphabet, carries. Raises BadInput `request-syntax`."""
    try:
        plain = text.strip().replace("-", "+").replace("_", "/").rstrip("=")
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (ValueError, binascii.Error):
        raise BadInput("request-syntax", f"{name} is not base64") from None


def chain_of(pem: str) -> tuple[bytes, ...]:
    """Certificates in PEM as DER; empty for none. Raises BadInput `request-syntax`."""
    if not _PEM.search(pem):
        return ()
    try:
        found = x509.load_pem_x509_certificates(pem.encode())
    except ValueError:
        raise BadInput("request-syntax", "ek_chain holds no certificates in PEM") from None
    return tuple(each.public_bytes(serialization.Encoding.DER) for each in found)


def _owner_by_token(services: Services, token: str) -> Owner:
    return asking.owner_by_token(
        services.db, services.oidc, token, services.clock(), services.random_bytes
    )


def _statement(body: views.AttestationBody) -> Statement:
    said: bytes | Activation
    if body.activation is not None:
        given = body.activation
        said = Activation(
            ek_public=octets(given.ek_public, "ek_public"),
            ek_chain=chain_of(given.ek_chain),
            ak_public=octets(given.ak_public, "ak_public"),
            secret=octets(given.secret, "secret"),
            cert_info=octets(given.cert_info, "cert_info"),
            signature=octets(given.signature, "signature"),
            area=octets(given.area, "area"),
        )
    elif body.object is not None:
        said = octets(body.object, "object")
    else:
        raise BadInput("request-syntax", "an attestation has an `object` or an `activation`")
    return Statement(body.manufacturer, body.product, body.nonce, said)
