"""The generated pages are those that the code would draw today; the README's promises exist."""

import importlib.util
import re
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def test_generated_pages_are_up_to_date() -> None:
    """`make docs` would change nothing."""
    spec = importlib.util.spec_from_file_location("generate", REPOSITORY / "docs/generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    for path, text in module.pages().items():
        assert path.read_text() == text, f"{path} is out of date: run `make docs`"


def test_links_between_documents_lead_somewhere() -> None:
    """Every relative link of the documents names a file."""
    for page in [*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page}: {target}"


def test_make_targets_that_documents_name_exist() -> None:
    """Every `make …` in the documents is a target."""
    targets = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    for page in REPOSITORY.glob("*.md"):
        for named in re.findall(r"(?:`|^)make ([a-z-]+)", page.read_text(), re.MULTILINE):
            assert named in targets, f"{page}: make {named}"


def test_files_stay_small() -> None:
    """A file over 600 lines is two rooms; a function over 60 is two functions."""
    for path in [*(REPOSITORY / "src").rglob("*.py"), *(REPOSITORY / "tests").rglob("*.py")]:
        assert len(path.read_text().splitlines()) <= 600, path
