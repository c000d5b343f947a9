"""Changing things: functions over an open transaction, by noun.

Laws: a write of a tenant's rows takes the tenant's id and cannot touch another tenant's; a move
is one compare-and-set, and whoever loses it gets an error and changes nothing; every change
appends its audit event in the same transaction. `by` is who caused it, as the audit log spells
that; `at` is when.

A function that raises may have changed something before: the transaction is to be rolled back,
which `Database.write` does.
"""

from certmint.registry.engine import Transaction
from certmint.registry.writes.acme import (
    add_acme_account,
    add_acme_binding,
    add_acme_directory,
    add_acme_order,
    change_acme_key,
    forget_acme_nonces,
    move_acme_account,
    move_acme_authorization,
    move_acme_challenge,
    move_acme_order,
    rebind_acme_binding,
    revoke_acme_binding,
    spend_acme_binding,
    update_acme_contacts,
    use_acme_nonce,
)
from certmint.registry.writes.authorities import (
    add_authority,
    add_crl,
    certify_authority,
    next_crl_number,
    retire_authority,
)
from certmint.registry.writes.certificates import (
    abandon_intent,
    block_key,
    record_issued,
    revoke_certificate,
)
from certmint.registry.writes.fleet import (
    add_batch,
    add_devices,
    add_owner,
    add_product,
    move_batch,
    move_device,
    move_devices,
    set_device_owner,
)
from certmint.registry.writes.intents import record_intents
from certmint.registry.writes.tenants import (
    add_domain_validation,
    add_manufacturer,
    add_operator,
    add_profile,
    mark_domain_verified,
    set_operator_disabled,
    take_lease,
)

__all__ = [
    "Transaction",
    "abandon_intent",
    "add_acme_account",
    "add_acme_binding",
    "add_acme_directory",
    "add_acme_order",
    "add_authority",
    "add_batch",
    "add_crl",
    "add_devices",
    "add_domain_validation",
    "add_manufacturer",
    "add_operator",
    "add_owner",
    "add_product",
    "add_profile",
    "block_key",
    "certify_authority",
    "change_acme_key",
    "forget_acme_nonces",
    "mark_domain_verified",
    "move_acme_account",
    "move_acme_authorization",
    "move_acme_challenge",
    "move_acme_order",
    "move_batch",
    "move_device",
    "move_devices",
    "next_crl_number",
    "rebind_acme_binding",
    "record_intents",
    "record_issued",
    "retire_authority",
    "revoke_acme_binding",
    "revoke_certificate",
    "set_device_owner",
    "set_operator_disabled",
    "spend_acme_binding",
    "take_lease",
    "update_acme_contacts",
    "use_acme_nonce",
]
