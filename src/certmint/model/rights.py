"""What operators can be allowed to do; who is, says `certmint.policy.authorization`."""

from enum import StrEnum


class Right(StrEnum):
    """One operation on a manufacturer's things."""

    READ_DEVICES = "devices:read"
    CHANGE_DEVICES = "devices:change"
    READ_CERTIFICATES = "certificates:read"
    REVOKE_CERTIFICATES = "certificates:revoke"
    READ_AUTHORITIES = "authorities:read"
    READ_AUDIT = "audit:read"
    MINT_BATCHES = "batches:mint"
