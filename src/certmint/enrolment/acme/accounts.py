"""ACME accounts and external account bindings (RFC 8555 7.3)."""

import datetime as dt
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from certmint.enrolment.manufacturers import new_id
from certmint.model.acme import Account, AccountEvent, AccountState, Binding, Directory
from certmint.model.entities import Device, Product
from certmint.model.errors import BadInput, Misconfigured, NotFound, Refused
from certmint.model.serial import RandomBytes
from certmint.registry import reads, writes
from certmint.registry.engine import Database

_MAC_KEY_OCTETS = 32
MAX_CONTACTS = 10


@dataclass(frozen=True)
class Identity:
    """An account's key as the door read it: RFC 7638 thumbprint and canonical JWK."""

    thumbprint: str
    jwk: str


class Vault:
    """Encrypts binding keys at rest, under a key that every node derives for itself."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def lock(self, secret: bytes, context: str, random_bytes: RandomBytes) -> bytes:
        nonce = random_bytes(12)
        return nonce + self._cipher.encrypt(nonce, secret, context.encode())

    def unlock(self, sealed: bytes, context: str) -> bytes:
        """Raises Misconfigured `binding-key` where the installation's passphrase changed."""
        try:
            return self._cipher.decrypt(sealed[:12], sealed[12:], context.encode())
        except InvalidTag:
            raise Misconfigured(
                "binding-key", "a binding's key cannot be opened with this installation's secrets"
            ) from None


def new_binding(
    db: Database,
    vault: Vault,
    directory: Directory,
    *,
    product: Product | None,
    device: Device | None,
    is_reusable: bool,
    lifetime: dt.timedelta,
    by: str,
    now: dt.datetime,
    random_bytes: RandomBytes,
) -> tuple[Binding, bytes]:
    """A binding and its MAC key, which is shown this once."""
    secret = random_bytes(_MAC_KEY_OCTETS)
    binding_id = new_id("eab", now, random_bytes)
    made = Binding(
        id=binding_id,
        tenant_id=directory.tenant_id,
        directory=directory.id,
        product_id=product.id if product else None,
        device_id=device.id if device else None,
        is_reusable=is_reusable,
        sealed_key=vault.lock(secret, binding_id, random_bytes),
        expires_at=now + lifetime,
        created_at=now,
    )
    db.write(lambda tx: writes.add_acme_binding(tx, made, by=by, at=now))
    return made, secret


def open_binding(
    db: Database, vault: Vault, directory: Directory, binding_id: str, now: dt.datetime
) -> tuple[Binding, bytes]:
    """A binding that may open an account now, and its MAC key.

    Raises Refused `binding-refused`, with the same words for unknown, spent, expired and revoked.
    """
    with db.read() as tx:
        found = reads.acme_binding(tx, directory.id, binding_id)
    if (
        found is None
        or found.revoked_at is not None
        or now >= found.expires_at
        or (found.account_id is not None and not found.is_reusable)
    ):
        raise Refused("binding-refused", "the external account binding is unknown or used up")
    return found, vault.unlock(found.sealed_key, found.id)


def existing(db: Database, directory: Directory, identity: Identity) -> Account | None:
    """The account of this key at this directory."""
    with db.read() as tx:
        return reads.acme_account_by_key(tx, directory.id, identity.thumbprint)


def new_account(
    db: Database,
    directory: Directory,
    identity: Identity,
    contacts: tuple[str, ...],
    binding: Binding | None,
    *,
    now: dt.datetime,
    random_bytes: RandomBytes,
) -> tuple[Account, bool]:
    """The account of this key, and whether it is new; a race ends in one account.

    Raises Refused `binding-required`, BadInput `contact-syntax` or `contact-scheme`, Conflict
    `binding-spent`.
    """
    known = existing(db, directory, identity)
    if known is not None:
        return known, False
    if directory.requires_binding and binding is None:
        raise Refused("binding-required", "this directory asks for an external account binding")
    check_contacts(contacts)
    made = Account(
        id=new_id("acc", now, random_bytes),
        tenant_id=directory.tenant_id,
        directory=directory.id,
        thumbprint=identity.thumbprint,
        jwk=identity.jwk,
        contacts=contacts,
        state=AccountState.VALID,
        binding_id=binding.id if binding else None,
        created_at=now,
    )

    def work(tx: writes.Transaction) -> bool:
        by = f"account:{made.id}"
        if not writes.add_acme_account(tx, made, by=by, at=now):
            return False
        if binding is not None:
            writes.spend_acme_binding(tx, made.tenant_id, binding.id, made.id, by=by, at=now)
        return True

    if db.write(work):
        return made, True
    winner = existing(db, directory, identity)
    if winner is None:
        raise NotFound("account-unknown", "the account was made and removed at the same moment")
    return winner, False


def check_contacts(contacts: tuple[str, ...]) -> None:
    """RFC 8555 7.3: `mailto:` with one address and no header fields."""
    if len(contacts) > MAX_CONTACTS:
        raise BadInput("contact-syntax", f"at most {MAX_CONTACTS} contacts are kept")
    for contact in contacts:
        scheme, _, address = contact.partition(":")
        if scheme.lower() != "mailto":
            raise BadInput(
                "contact-scheme", f"contacts of scheme {scheme[:20]!r} are not supported"
            )
        local, at, domain = address.partition("@")
        if (
            not at or not local or "." not in domain or len(contact) > 320
            or any(c in address for c in ",?&<> ") or not address.isascii()
        ):  # fmt: skip
            raise BadInput("contact-syntax", "a contact is 'mailto:' and one plain address")


def update_contacts(
    db: Database, account: Account, contacts: tuple[str, ...], now: dt.datetime
) -> Account:
    """Replace an account's contacts."""
    check_contacts(contacts)
    by = f"account:{account.id}"
    db.write(
        lambda tx: writes.update_acme_contacts(
            tx, account.tenant_id, account.id, contacts, by=by, at=now
        )
    )
    return _again(db, account)


def deactivate(db: Database, account: Account, now: dt.datetime) -> Account:
    """For good: nothing the account asks is answered any more (RFC 8555 7.3.6)."""
    by = f"account:{account.id}"
    db.write(
        lambda tx: writes.move_acme_account(
            tx, account.tenant_id, account.id, account.state, AccountEvent.DEACTIVATED,
            by=by, at=now,
        )
    )  # fmt: skip
    return _again(db, account)


def change_key(db: Database, account: Account, identity: Identity, now: dt.datetime) -> Account:
    """Give an account another key; its orders go on (RFC 8555 7.3.5).

    Raises Conflict `account-key-used`.
    """
    by = f"account:{account.id}"
    db.write(
        lambda tx: writes.change_acme_key(
            tx, account.tenant_id, account.id, account.thumbprint, identity.thumbprint,
            identity.jwk, by=by, at=now,
        )
    )  # fmt: skip
    return _again(db, account)


def _again(db: Database, account: Account) -> Account:
    with db.read() as tx:
        found = reads.acme_account(tx, account.directory, account.id)
    if found is None:
        raise NotFound("account-unknown", "there is no such account")
    return found
