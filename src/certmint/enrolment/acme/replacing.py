"""`replaces` of an order (RFC 9773 5): which certificate it succeeds, and that no other does."""

from base64 import urlsafe_b64decode
from collections.abc import Sequence
from dataclasses import dataclass

from certmint.model.acme import Account, Identifier
from certmint.model.errors import BadInput, Conflict
from certmint.model.serial import Serial, serial_of
from certmint.registry import reads
from certmint.registry.engine import Transaction


@dataclass(frozen=True)
class Predecessor:
    """The certificate that an order is to replace."""

    authority_id: str
    serial: Serial


def predecessor(
    tx: Transaction, account: Account, wanted: Sequence[Identifier], replaces: str
) -> Predecessor:
    """Of the same account and with a name in common; its issuer's key is the one that is named.

    Raises BadInput `replaces-unknown`, Conflict `already-replaced`.
    """
    serial = replaced_serial(replaces)
    earlier = reads.acme_order_of_serial(tx, account.tenant_id, serial)
    found = (
        reads.certificate(tx, account.tenant_id, serial, earlier.authority_id) if earlier else None
    )
    if found is None or earlier is None or earlier.account_id != account.id:
        raise BadInput("replaces-unknown", "replaces names no certificate of this account")
    issuer = reads.authority(tx, account.tenant_id, found.authority_id)
    if issuer is None or issuer.key.key_id != _octets(replaces.partition(".")[0]):
        raise BadInput("replaces-unknown", "replaces names another issuer than the certificate's")
    if not set(earlier.identifiers) & set(wanted):
        raise BadInput("replaces-unknown", "the replaced certificate shares no name with the order")
    if found.successor is not None:
        raise Conflict("already-replaced", "the certificate was replaced by another order")
    return Predecessor(found.authority_id, found.serial)


def replaced_serial(cert_id: str) -> Serial:
    """The serial in an ARI certificate identifier (RFC 9773 4.1), which the door has checked."""
    return serial_of(int.from_bytes(_octets(cert_id.partition(".")[2]), "big"))


def _octets(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))
