"""The house of each test: a copy of one that was founded once, on SQLite or on PostgreSQL."""

import itertools
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from certmint.enrolment.signing import SigningKeys
from certmint.registry.engine import open_database

from .house import Clock, House, found, key_store


@pytest.fixture(scope="session")
def keys() -> SigningKeys:
    """Shared, as opening an encrypted key and rehearsing a profile take a while."""
    return key_store()


@pytest.fixture(scope="session")
def sqlite_house(tmp_path_factory: pytest.TempPathFactory, keys: SigningKeys) -> Path:
    """The folder of the house that is copied: `registry.db`, keys and stock."""
    home = tmp_path_factory.mktemp("house")
    found(f"sqlite:{home / 'registry.db'}", home, keys)
    return home


class PostgreSQL:
    """On the session's server: a template database that holds the house."""

    def __init__(self, server: Any, home: Path, keys: SigningKeys) -> None:
        self.home = home
        self._server = server
        self._house = server.create()
        found(server.url(self._house), home, keys)

    def copy(self) -> str:
        """A database of its own with the whole house in it."""
        return self._server.url(self._server.create(self._house))


@pytest.fixture(scope="session")
def postgresql(
    postgresql_server: Any, tmp_path_factory: pytest.TempPathFactory, keys: SigningKeys
) -> PostgreSQL:
    return PostgreSQL(postgresql_server, tmp_path_factory.mktemp("house-pg"), keys)


@pytest.fixture
def sqlite_url(sqlite_house: Path, tmp_path: Path) -> str:
    """A copy of the house's database."""
    shutil.copy(sqlite_house / "registry.db", tmp_path / "registry.db")
    return f"sqlite:{tmp_path / 'registry.db'}"


@pytest.fixture
def house(
    sqlite_url: str, sqlite_house: Path, keys: SigningKeys, tmp_path: Path
) -> Iterator[House]:
    """On SQLite: what most tests need."""
    db = open_database(sqlite_url)
    yield House(db, keys, sqlite_house, tmp_path)
    db.close()


@pytest.fixture
def fresh_houses(
    sqlite_house: Path, keys: SigningKeys, tmp_path: Path
) -> Callable[[Callable[[House], Any]], Callable[[], AbstractContextManager[House]]]:
    """As many houses as a test wants, one after the other: copies of what was made of one."""
    numbers = itertools.count()

    def prepare(make: Callable[[House], Any]) -> Callable[[], AbstractContextManager[House]]:
        template = tmp_path / f"template-{next(numbers)}.db"
        shutil.copy(sqlite_house / "registry.db", template)
        db = open_database(f"sqlite:{template}")
        first = House(db, keys, sqlite_house, tmp_path)
        make(first)
        db.close()  # all of it is in the one file now

        @contextmanager
        def build() -> Iterator[House]:
            path = tmp_path / f"house-{next(numbers)}.db"
            shutil.copy(template, path)
            folder = tmp_path / path.stem
            folder.mkdir()
            db = open_database(f"sqlite:{path}")
            yield House(db, keys, sqlite_house, folder, Clock(first.clock.now))
            db.close()

        return build

    return prepare


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest) -> str:
    """A copy of the house's database, on each kind."""
    if request.param == "sqlite":
        return request.getfixturevalue("sqlite_url")
    server: PostgreSQL = request.getfixturevalue("postgresql")
    return server.copy()


@pytest.fixture
def home(request: pytest.FixtureRequest, url: str) -> Path:
    """Where the keys of the house at `url` are."""
    if url.startswith("sqlite:"):
        return request.getfixturevalue("sqlite_house")
    server: PostgreSQL = request.getfixturevalue("postgresql")
    return server.home


@pytest.fixture
def each_house(url: str, home: Path, keys: SigningKeys, tmp_path: Path) -> Iterator[House]:
    """On SQLite and on PostgreSQL: where the database decides who wins."""
    db = open_database(url)
    yield House(db, keys, home, tmp_path)
    db.close()


@pytest.fixture
def postgresql_house(postgresql: PostgreSQL, keys: SigningKeys, tmp_path: Path) -> Iterator[House]:
    """On PostgreSQL: where this process alone is to be out of luck, and not its database."""
    db = open_database(postgresql.copy())
    yield House(db, keys, postgresql.home, tmp_path)
    db.close()


@pytest.fixture(scope="session")
def openssl() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the openssl command; its exit status is for the test to judge."""
    program = shutil.which("openssl")
    if program is None:
        pytest.fail("the openssl command is missing: install the Debian package openssl")

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [program, *map(str, arguments)], capture_output=True, text=True, timeout=30, check=False
        )

    return run
