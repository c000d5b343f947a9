"""Every rule has a case file; every case says whether policy grants it, and by which rule not."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
from scenarios import CHANGES, SCENARIOS, Case

from certmint.model.errors import Refused
from certmint.policy.decide import decide
from certmint.policy.rules import RULES

CASES = Path(__file__).parent / "cases"
DOCUMENT = Path(__file__).parents[2] / "docs" / "policy.md"


def build(entry: dict[str, Any]) -> Case:
    """The scenario of a case with its changes."""
    case = SCENARIOS[entry.get("scenario", "renewal")]()
    for name, value in entry.get("change", {}).items():
        case = CHANGES[name](value)(case)
    return case


def entries(kind: str) -> list[Any]:
    """All cases of a kind, as pytest parameters."""
    return [
        pytest.param(path.stem, entry, id=f"{path.stem}: {entry['why']}")
        for path in sorted(CASES.glob("*.toml"))
        for entry in tomllib.loads(path.read_text())[kind]
    ]


@pytest.mark.parametrize(("code", "entry"), entries("accepted"))
def test_accepted(code: str, entry: dict[str, Any]) -> None:
    """What the case file calls accepted is granted."""
    case = build(entry)

    approval = decide(case.request, case.facts, case.now)

    assert code in approval.rules
    assert approval.not_before <= case.now < approval.not_after


@pytest.mark.parametrize(("code", "entry"), entries("refused"))
def test_refused(code: str, entry: dict[str, Any]) -> None:
    """What the case file calls refused is refused by that very rule, in one sentence."""
    case = build(entry)

    with pytest.raises(Refused) as refusal:
        decide(case.request, case.facts, case.now)

    assert refusal.value.code == code
    assert refusal.value.detail
    assert "\n" not in refusal.value.detail


def test_every_rule_has_a_case_file() -> None:
    """A rule without cases is a rule that nobody has tried."""
    assert {path.stem for path in CASES.glob("*.toml")} == {rule.code for rule in RULES}


def test_scenarios_are_granted_unchanged() -> None:
    """Each scenario is well-formed, so that a refusal is due to the change alone."""
    for build_scenario in SCENARIOS.values():
        case = build_scenario()
        decide(case.request, case.facts, case.now)


def test_codes_are_unique() -> None:
    """One code names one rule."""
    codes = [rule.code for rule in RULES]

    assert len(codes) == len(set(codes))


def test_every_rule_is_documented() -> None:
    """docs/policy.md has one row a rule: code, sentence and source."""
    rows = {
        tuple(cell.strip() for cell in line.strip("|\n ").split("|"))
        for line in DOCUMENT.read_text().splitlines()
        if line.startswith("| `")
    }

    assert rows == {(f"`{rule.code}`", rule.sentence, rule.source) for rule in RULES}
