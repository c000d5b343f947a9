"""The `require` fixture: a missing system part is named, and in CI it is a failure."""

from collections.abc import Callable

import pytest

Require = Callable[..., str]


def test_first_candidate_that_is_there_is_found(require: Require) -> None:
    """A candidate may be a program or the absolute path of any file."""
    assert require("no-such-program", "sh", package="dash").endswith("/sh")
    assert require("/no/such/file", "/etc/passwd", package="base-files") == "/etc/passwd"


def test_missing_program_skips_and_says_which_package_has_it(
    require: Require, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a developer's machine the rest of the tests goes on."""
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="apt-get install the-package"):
        require("no-such-program", package="the-package")


def test_missing_program_fails_in_ci(require: Require, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is left out there unseen."""
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="apt-get install the-package"):
        require("no-such-program", package="the-package")
