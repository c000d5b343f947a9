"""Revoking over ACME (RFC 8555 7.6), and when to renew (RFC 9773)."""

import datetime as dt
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from certmint.enrolment import devices, revocation
from certmint.enrolment.acme import accounts
from certmint.enrolment.signing import SigningKeys
from certmint.model.acme import Account, Directory, identifier_of
from certmint.model.entities import Certificate, RevocationReason
from certmint.model.errors import BadInput, Conflict, NotFound, Refused, Unauthenticated
from certmint.model.names import IPName, parse_name
from certmint.model.serial import Serial
from certmint.policy.renewal import Window, called_window, earlier, window
from certmint.registry import reads
from certmint.registry.engine import Database

# RFC 5280 5.3.1 codes that a client may give (BR 7.2.2); 6 and 8 are for others, 2 and 10 for CAs.
REASONS = {
    0: RevocationReason.UNSPECIFIED,
    1: RevocationReason.KEY_COMPROMISE,
    3: RevocationReason.AFFILIATION_CHANGED,
    4: RevocationReason.SUPERSEDED,
    5: RevocationReason.CESSATION_OF_OPERATION,
    9: RevocationReason.PRIVILEGE_WITHDRAWN,
}
_RENEW_AT = 2 / 3


def reason_of(code: object) -> RevocationReason:
    """Raises BadInput `revocation-reason`."""
    if code is None:
        return RevocationReason.UNSPECIFIED
    if isinstance(code, bool) or not isinstance(code, int) or code not in REASONS:
        raise BadInput("revocation-reason", f"reason {code!r} is not one of {sorted(REASONS)}")
    return REASONS[code]


def certificate_of(db: Database, directory: Directory, der: bytes) -> Certificate:
    """The certificate with these bytes, if this manufacturer issued it.

    Raises NotFound `certificate-unknown`.
    """
    try:
        found = devices.identify(db, der)
    except Unauthenticated:
        found = None
    if found is None or found.tenant_id != directory.tenant_id:
        raise NotFound("certificate-unknown", "this certificate was not issued here")
    return found


def revoke_by_account(
    db: Database,
    keys: SigningKeys,
    account: Account,
    certificate: Certificate,
    reason: RevocationReason,
    now: dt.datetime,
) -> None:
    """For the account that ordered it, or one that is authorized for all of its names.

    The latter shows no more than that the names have moved on, so its reason is always
    cessationOfOperation. Raises Refused `not-authorized` or `auto-renewal-revocation`, Conflict
    `already-revoked`.
    """
    _check_renewing(db, certificate)
    with db.read() as tx:
        order = reads.acme_order_of_serial(tx, account.tenant_id, certificate.serial)
    if order is None or order.account_id != account.id:
        if not _holds_all(db, account, certificate, now):
            raise Refused("not-authorized", "the account neither ordered it nor holds its names")
        reason = RevocationReason.CESSATION_OF_OPERATION
    if certificate.revocation is not None:
        raise Conflict("already-revoked", "the certificate was revoked before")
    revocation.revoke_one(db, keys, certificate, reason, by=f"account:{account.id}", now=now)


def revoke_by_key(
    db: Database, keys: SigningKeys, certificate: Certificate, thumbprint: str, now: dt.datetime
) -> None:
    """For whoever proved possession of the certificate's private key: it is compromised.

    The key is blocked for ever, and every certificate with it is revoked, those of orders that
    renew themselves too; accounts that have the same key (`thumbprint`) are closed.
    """
    accounts.revoke_with_key(db, certificate.tenant_id, thumbprint, by="certificate-key", now=now)
    known = certificate.revocation
    if known is not None and known.reason is RevocationReason.KEY_COMPROMISE:
        raise Conflict("already-revoked", "the certificate was revoked before")
    revocation.report_compromise(db, keys, certificate, by="certificate-key", now=now)


def _check_renewing(db: Database, certificate: Certificate) -> None:
    with db.read() as tx:
        order_id = reads.acme_order_renewing(tx, certificate.authority_id, certificate.serial)
    if order_id is not None:
        raise Refused(
            "auto-renewal-revocation",
            "the certificate of an order that renews itself is not revoked: cancel the order",
        )


def _holds_all(db: Database, account: Account, certificate: Certificate, now: dt.datetime) -> bool:
    wanted = []
    for text in certificate.names:
        kind = "ip" if isinstance(parse_name(text), IPName) else "dns"
        identifier = identifier_of(kind, text)
        wanted.append((kind, identifier.authorized.value, identifier.is_wildcard))
    with db.read() as tx:
        held = reads.valid_acme_authorizations(tx, account.id, wanted, now)
    found = {(each.identifier.type.value, each.identifier.value, each.is_wildcard) for each in held}
    return bool(wanted) and set(wanted) <= found


@dataclass(frozen=True)
class Renewal:
    """The suggested window, and whether somebody waits for the client to come sooner.

    `explanation_url` is a campaign's, for people.
    """

    window: Window
    is_urgent: bool
    explanation_url: str = ""


def renewal_info(db: Database, key_id: bytes, serial: Serial, now: dt.datetime) -> Renewal:
    """When to replace a certificate, by its authorityKeyIdentifier and serial (RFC 9773 4.1).

    Raises NotFound `certificate-unknown`.
    """
    with db.read() as tx:
        found = reads.certificate_by_issuer_key(tx, key_id.hex(), serial)
        product = None
        if found is not None and found.device_id is not None:
            device = reads.device(tx, found.tenant_id, found.device_id)
            product = reads.product(tx, found.tenant_id, device.product_id) if device else None
        call = (
            reads.campaign_call(tx, found.tenant_id, found.authority_id, serial) if found else None
        )
    if found is None:
        raise NotFound("certificate-unknown", "there is no such certificate")
    if found.revocation is not None:
        past = now.replace(microsecond=0) - dt.timedelta(hours=1)
        return Renewal(Window(past - dt.timedelta(hours=1), past), is_urgent=True)
    who = found.device_id or found.serial
    renew_at = product.renew_at if product else _RENEW_AT
    planned = window(who, found.not_before, found.not_after, renew_at)
    if call is None:
        return Renewal(planned, is_urgent=False)
    called = called_window(who, call, now)
    return Renewal(earlier(planned, called), is_urgent=True, explanation_url=call.explanation_url)


def spki_of(der: bytes) -> bytes:
    """The SubjectPublicKeyInfo of a certificate. Raises BadInput `certificate-syntax`."""
    try:
        key = x509.load_der_x509_certificate(der).public_key()
    except ValueError:
        raise BadInput("certificate-syntax", "it is not a certificate in DER") from None
    return key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
