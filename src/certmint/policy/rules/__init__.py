"""The rule book: every rule that a certificate request must pass, in the order of asking."""

from certmint.policy.rules import approval, authority, devices, evidence, keys, lifetime, names
from certmint.policy.rules.rule import Rule

# Who asks, then with which key, for which names, of whom, for how long; and at last a person.
RULES: tuple[Rule, ...] = (
    authority.TENANT,
    *devices.RULES,
    *evidence.RULES,
    *keys.RULES,
    *names.RULES,
    *authority.RULES,
    *lifetime.RULES,
    approval.REQUIRED,
)
