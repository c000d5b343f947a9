"""Draws what follows from the code: `make docs`. A test fails when a page is out of date."""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

from certmint.model.acme import ACCOUNT, AUTHORIZATION, CHALLENGE, ORDER
from certmint.model.campaign import CAMPAIGN
from certmint.model.desk import APPROVAL, JOB
from certmint.model.entities import Role
from certmint.model.mail import MAIL
from certmint.model.states import AUTHORITY, BATCH, DEVICE, OWNERSHIP, REQUEST
from certmint.model.sws import ORDER as SWS_ORDER
from certmint.policy.authorization import RULES as OPERATIONS
from certmint.policy.rules import RULES

HERE = Path(__file__).parent
POLICY_HEAD = "| code | what must be true | source |\n|---|---|---|\n"


def state_page(title: str, table: Mapping[StrEnum, Mapping[Any, StrEnum]]) -> str:
    """A state table as a Mermaid diagram."""
    first = next(iter(table))
    lines = [f"  [*] --> {first.value}"]
    lines += [
        f"  {state.value} --> {after.value}: {event.value}"
        for state, moves in table.items()
        for event, after in moves.items()
    ]
    lines += [f"  {state.value} --> [*]" for state, moves in table.items() if not moves]
    drawn = "\n".join(lines)
    return (
        f"# {title}\n\nDrawn from the tables in `src/certmint/model/` by `make docs`. Nothing else "
        f"moves a state, and each move is one compare-and-set.\n\n"
        f"```mermaid\nstateDiagram-v2\n{drawn}\n```\n"
    )


def roles_page() -> str:
    """Who may do what, from the one table that decides it."""
    roles = list(Role)
    lines = [
        "# Roles",
        "",
        "Made by `make docs` from the table in `src/certmint/policy/authorization.py`, which",
        "decides. A test calls every operation as every role, and as every role of another",
        "manufacturer. A token can be narrowed to some scopes. *Four eyes*: a second operator,",
        "whose role has the operation too, has to agree; nobody counts as a second one who holds",
        "or gave out the first one's token or login, or got theirs from the same hand, as far back",
        "as a token can live: make those of two people with `certmint operator token add`.",
        "*House*: operators of the installation's own manufacturer, `instance`, only.",
        "",
        "| operation | scope | " + " | ".join(roles) + " | |",
        "|---|---|" + ":-:|" * len(roles) + "---|",
    ]
    for operation, rule in OPERATIONS.items():
        marks = " | ".join("•" if role in rule.roles else "" for role in roles)
        more = " ".join(
            word for word, said in (("four eyes", rule.four_eyes), ("house", rule.house)) if said
        )
        lines.append(f"| `{operation}` | `{rule.scope}` | {marks} | {more} |")
    return "\n".join(lines) + "\n"


def pages() -> dict[Path, str]:
    """Every generated page and its content."""
    made = {
        HERE / "states" / f"{name}.md": state_page(title, table)
        for name, title, table in (
            ("device", "Device", DEVICE),
            ("ownership", "Ownership of a device", OWNERSHIP),
            ("request", "Request of a device that waits for an operator", REQUEST),
            ("batch", "Batch", BATCH),
            ("sws-order", "Order of an SWS client", SWS_ORDER),
            ("authority", "Authority", AUTHORITY),
            ("approval", "Approval by a second operator", APPROVAL),
            ("job", "Job", JOB),
            ("campaign", "Campaign", CAMPAIGN),
            ("mail", "Message to a domain's contact", MAIL),
            ("acme-account", "ACME account", ACCOUNT),
            ("acme-order", "ACME order", ORDER),
            ("acme-authorization", "ACME authorization", AUTHORIZATION),
            ("acme-challenge", "ACME challenge", CHALLENGE),
        )
    }
    made[HERE / "roles.md"] = roles_page()
    policy = HERE / "policy.md"
    before, _, rest = policy.read_text().partition(POLICY_HEAD)
    after = rest[rest.index("\n\n") :]
    rows = "\n".join(f"| `{rule.code}` | {rule.sentence} | {rule.source} |" for rule in RULES)
    made[policy] = before + POLICY_HEAD + rows + after
    return made


if __name__ == "__main__":
    for path, text in pages().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
