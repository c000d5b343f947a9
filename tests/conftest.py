"""What the tests of every room share: the parts that come from the system, not from a lock."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def require() -> Callable[..., str]:
    """`require("knotd", package="knot")`: the path of a program that Debian provides.

    Further words are tried in turn; an absolute path names any file, such as a library. Where
    none is there the test is skipped with the package that would make it run; in CI it fails,
    since nothing may be left out there unseen.
    """
    places = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))

    def find(*candidates: str, package: str) -> str:
        for candidate in candidates:
            if candidate.startswith("/"):
                found = candidate if Path(candidate).exists() else None
            else:
                found = shutil.which(candidate, path=places)
            if found is not None:
                return found
        reason = f"{candidates[0]} is not here: apt-get install {package}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)

    return find
