"""docs/conformance/acme.md names tests that exist."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/conformance/acme.md"
FILES = {
    "enrolment": "enrolment/test_enrolment_acme.py",
    "machine": "enrolment/test_enrolment_acme_machine.py",
    "nodes": "enrolment/test_enrolment_acme_nodes.py",
    "extensions": "enrolment/test_enrolment_acme_extensions.py",
    "validation": "validation/test_validation_challenges.py",
}


def rows() -> list[list[str]]:
    """The cells of every row of every table."""
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def named() -> list[tuple[str, str]]:
    """File and test of every test that the page names."""
    found = []
    for row in rows():
        for part in row[-1].split("; "):
            file, colon, tests = part.partition(": ")
            if colon:
                found += [(file, name) for name in re.findall(r"`([^`]+)`", tests)]
    return found


def known_in(file: str) -> list[str]:
    """The tests in one of the files that the page abbreviates."""
    path = ROOT / "tests" / FILES.get(file, f"doors/test_doors_acme_{file}.py")
    tree = ast.parse(path.read_text())
    return [
        node.name.removeprefix("test_") for node in tree.body if isinstance(node, ast.FunctionDef)
    ]


@pytest.mark.parametrize(("file", "name"), sorted(set(named())))
def test_a_test_that_the_page_names_exists(file: str, name: str) -> None:
    """By its whole name, or by the beginning that the page gives."""
    known = known_in(file)
    if name.endswith(("\u2026", "*")):
        assert any(each.startswith(name[:-1]) for each in known), f"{file}: {name}"
    else:
        assert name in known, f"{file}: {name}"


def test_every_row_is_proved_or_explained() -> None:
    """What is simply done has a test, and every table has four columns."""
    for row in rows():
        assert len(row) == 4, row
        if row[2] == "done":
            assert row[3], f"{row[0]} {row[1]}: done, and no test says so"


def test_the_page_knows_every_file_of_tests() -> None:
    """A file of ACME tests that the page does not name may be forgotten by its readers."""
    text = PAGE.read_text()
    for path in (ROOT / "tests/doors").glob("test_doors_acme_*.py"):
        file = path.stem.removeprefix("test_doors_acme_")
        if file != "conformance":
            assert f"`{file}`" in text, file
