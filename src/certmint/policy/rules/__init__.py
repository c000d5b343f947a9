"""The rule book: every rule that a certificate request must pass, in the order of asking."""

from certmint.policy.rules import authority, devices, evidence, keys, lifetime, names
from certmint.policy.rules.rule import Rule

RULES: tuple[Rule, ...] = (
    *authority.RULES,
    *devices.RULES,
    *evidence.RULES,
    *keys.RULES,
    *names.RULES,
    *lifetime.RULES,
)
