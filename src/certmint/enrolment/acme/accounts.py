"""ACME accounts and external account bindings (RFC 8555 7.3)."""

import datetime as dt
import json
import re
from dataclasses import dataclass

from certmint.enrolment.acme import limits as rates
from certmint.enrolment.acme.limits import GENEROUS, Limits
from certmint.enrolment.manufacturers import new_id
from certmint.enrolment.vault import Vault
from certmint.model.acme import Account, AccountEvent, AccountState, Binding, Directory
from certmint.model.entities import Device, Product
from certmint.model.errors import BadInput, NotFound, Refused
from certmint.model.serial import RandomBytes
from certmint.registry import reads, writes
from certmint.registry.engine import Database, Transaction

_MAC_KEY_OCTETS = 32
_GONE = json.dumps({"type": "unauthorized", "detail": "the account was closed"})
MAX_CONTACTS = 10
_ADDRESS = re.compile(r"[^\s@,?&<>\x00-\x1f\x7f-\U0010ffff]+@(?:[A-Za-z0-9-]+\.)+[A-Za-z0-9-]+\Z")


@dataclass(frozen=True)
class Identity:
    """An account's key as the door read it: RFC 7638 thumbprint, canonical JWK, SPKI's SHA-256."""

    thumbprint: str
    jwk: str
    fingerprint: str = ""


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


def usable_binding(
    db: Database, directory: Directory, binding_id: str, now: dt.datetime
) -> Binding | None:
    """A binding that may open an account now; None if it is unknown, spent, expired or revoked."""
    with db.read() as tx:
        found = reads.acme_binding(tx, directory.id, binding_id)
    if (
        found is None
        or found.revoked_at is not None
        or now >= found.expires_at
        or (found.account_id is not None and not found.is_reusable)
    ):
        return None
    return found


def binding_misused(
    db: Database, binding: Binding, now: dt.datetime, limits: Limits = GENEROUS
) -> None:
    """A MAC by another key than the binding's was shown. Raises RateLimited after too many.

    The wrong ones are counted for the binding, whoever sends them, and noted in the audit log
    when they are too many; from then on they write nothing. The right MAC is never refused: its
    key has 256 random bits, so a lock would stop nobody but the device that it belongs to.
    """
    subject = f"MACs:binding:{binding.id}"
    with db.read() as tx:
        rates.check(tx, {subject: limits.wrong_macs}, now)

    def work(tx: Transaction) -> None:
        spent, _ = writes.count_acme(tx, subject, now, now + limits.window)
        if spent == limits.wrong_macs:
            writes.note_acme_binding_attacked(
                tx, binding.tenant_id, binding.id, spent, by="nobody", at=now
            )

    db.write(work)


def existing(db: Database, directory: Directory, identity: Identity) -> Account | None:
    """The account of this key at this directory."""
    with db.read() as tx:
        return reads.acme_account_by_key(tx, directory.id, identity.thumbprint)


@dataclass(frozen=True)
class Opening:
    """What newAccount says, beside the key: contacts, agreement, and the binding with its JWS."""

    contacts: tuple[str, ...] = ()
    agrees: bool = False
    binding: Binding | None = None
    external_binding: str = ""


def new_account(
    db: Database,
    directory: Directory,
    identity: Identity,
    opening: Opening,
    *,
    now: dt.datetime,
    random_bytes: RandomBytes,
    limits: Limits = GENEROUS,
) -> tuple[Account, bool]:
    """The account of this key, and whether it is new; a race ends in one account.

    Raises Refused `binding-required`, `terms-changed` or `account-key-blocked`, BadInput
    `contact-syntax` or `contact-scheme`, Conflict `binding-spent`, RateLimited.
    """
    known = existing(db, directory, identity)
    if known is not None:
        return known, False
    _check_opening(directory, opening)
    check_key(db, identity)
    binding = opening.binding
    made = Account(
        id=new_id("acc", now, random_bytes),
        tenant_id=directory.tenant_id,
        directory=directory.id,
        thumbprint=identity.thumbprint,
        jwk=identity.jwk,
        contacts=opening.contacts,
        state=AccountState.VALID,
        binding_id=binding.id if binding else None,
        created_at=now,
        agreed_terms=directory.terms,
        external_binding=opening.external_binding,
    )
    who = rates.subjects(
        "accounts", limits.accounts, made.tenant_id, None, binding.device_id if binding else None
    )

    def work(tx: Transaction) -> bool:
        by = f"account:{made.id}"
        if not writes.add_acme_account(tx, made, by=by, at=now):
            return False
        rates.spend(tx, who, limits, now)
        if binding is not None:
            writes.spend_acme_binding(tx, made.tenant_id, binding.id, made.id, by=by, at=now)
        return True

    if db.write(work):
        return made, True
    winner = existing(db, directory, identity)
    if winner is None:
        raise NotFound("account-unknown", "the account was made and removed at the same moment")
    return winner, False


def _check_opening(directory: Directory, opening: Opening) -> None:
    if directory.requires_binding and opening.binding is None:
        raise Refused("binding-required", "this directory asks for an external account binding")
    if directory.terms and not opening.agrees:
        raise Refused(
            "terms-changed", f"to open an account, agree to the terms of service {directory.terms}"
        )
    check_contacts(opening.contacts)


def check_key(db: Database, identity: Identity) -> None:
    """Raises Refused `account-key-blocked` for a key that was reported compromised (11.1)."""
    with db.read() as tx:
        record = reads.key_records(tx, [identity.fingerprint]).get(identity.fingerprint)
    if record is not None and record.blocked:
        raise Refused("account-key-blocked", "this key was reported compromised: make another one")


def agree(db: Database, directory: Directory, account: Account, now: dt.datetime) -> Account:
    """Take the account's word that it agrees to the directory's present terms (7.3.3)."""
    if not directory.terms or account.agreed_terms == directory.terms:
        return account
    by = f"account:{account.id}"
    db.write(
        lambda tx: writes.agree_acme_terms(
            tx, account.tenant_id, account.id, directory.terms, by=by, at=now
        )
    )
    return _again(db, account)


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
        if len(contact) > 320 or not _ADDRESS.match(address):
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
    return _close(db, account, AccountEvent.DEACTIVATED, f"account:{account.id}", now)


def revoke(db: Database, account: Account, *, by: str, now: dt.datetime) -> Account:
    """The operator's way to end an account, open or deactivated. Raises WrongState."""
    return _close(db, account, AccountEvent.REVOKED, by, now)


def revoke_with_key(
    db: Database, tenant_id: str, thumbprint: str, *, by: str, now: dt.datetime
) -> list[Account]:
    """End every account of a key that somebody else was shown to have."""
    with db.read() as tx:
        found = reads.acme_accounts_with_key(tx, tenant_id, thumbprint)
    open_ones = [each for each in found if each.state is AccountState.VALID]
    return [revoke(db, each, by=by, now=now) for each in open_ones]


def account_named(db: Database, tenant_id: str, account_id: str) -> Account:
    """An account of the manufacturer. Raises NotFound `account-unknown`."""
    with db.read() as tx:
        found = reads.acme_account_by_id(tx, account_id)
    if found is None or found.tenant_id != tenant_id:
        raise NotFound("account-unknown", f"there is no ACME account {account_id!r}")
    return found


def _close(
    db: Database, account: Account, event: AccountEvent, by: str, now: dt.datetime
) -> Account:
    def work(tx: Transaction) -> None:
        writes.move_acme_account(
            tx, account.tenant_id, account.id, account.state, event, by=by, at=now
        )
        writes.close_acme_account(tx, account.tenant_id, account.id, _GONE, now)

    db.write(work)
    return _again(db, account)


def change_key(db: Database, account: Account, identity: Identity, now: dt.datetime) -> Account:
    """Give an account another key; its orders go on (RFC 8555 7.3.5).

    Raises Conflict `account-key-used`, Refused `account-key-blocked`.
    """
    check_key(db, identity)
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
