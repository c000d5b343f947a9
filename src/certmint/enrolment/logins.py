"""Logins that can be guessed: owners' passwords, label secrets, pairing codes.

Laws: whoever guesses wrong waits longer each time; that wait is for one subject from one network,
so that nobody can lock another out by guessing, and it is never for ever. What is counted are
failures; the table of them is bounded. Argon2 runs twice at a time and no more.
"""

import datetime as dt
import hashlib
import ipaddress
import threading

import argon2

from certmint.model.entities import Owner
from certmint.model.errors import TooOften, Unauthenticated, Unavailable
from certmint.registry import reads, writes
from certmint.registry.engine import Database, Transaction

FREE = 5  # failures that cost no time: people mistype
LONGEST = dt.timedelta(minutes=15)
FORGOTTEN = dt.timedelta(hours=24)

# Argon2id at argon2-cffi's defaults (RFC 9106, low-memory profile): 64 MiB and some 50 ms a
# check, so two at a time; a caller that has waited too long is sent away.
_HASHER = argon2.PasswordHasher()
_HASHING = threading.Semaphore(2)
_PATIENCE_S = 10.0
_ABSENT = _HASHER.hash("nobody has this password, but checking it takes as long")


def login(
    db: Database, maker: str, username: str, password: str, source: str, now: dt.datetime
) -> Owner:
    """The owner with these credentials; `source` is the address that they came from.

    An unknown user costs the same time as a wrong password. Raises Unauthenticated `login-failed`,
    TooOften `login-locked`, Unavailable `login-busy`.
    """
    subject = subject_of("owner", f"{maker}/{username}", source)
    with db.read() as tx:
        refuse_early(tx, subject, now)
        tenant = reads.manufacturer_by_slug(tx, maker)
        found = reads.owner_credentials(tx, tenant.id, username) if tenant else None
    matches = _verify(found[1] if found else _ABSENT, password)
    if found is None or not matches:
        failed(db, subject, now)
        raise Unauthenticated("login-failed", "the user name or the password is wrong")
    succeeded(db, subject)
    return found[0]


def password_hash(password: str) -> str:
    """What is stored of a password. Raises Unavailable `login-busy`."""
    with _Turn():
        return _HASHER.hash(password)


def subject_of(kind: str, whose: str, source: str) -> str:
    """The name under which failures are counted: a digest, which tells nobody who it was.

    An IPv6 network of 64 bits is one source, since whoever has one address there has them all.
    """
    text = "\0".join((kind, whose, network(source)))
    return hashlib.sha256(text.encode()).hexdigest()


def refuse_early(tx: Transaction, subject: str, now: dt.datetime) -> None:
    """Raises TooOften `login-locked` while the subject has to wait."""
    found = reads.lockout(tx, subject)
    if found is not None and now < found.until:
        seconds = int((found.until - now).total_seconds()) + 1
        raise TooOften(
            "login-locked",
            f"too many wrong guesses from this address: try again in {seconds} seconds",
            seconds,
        )


def failed(db: Database, subject: str, now: dt.datetime) -> None:
    """Count a wrong guess."""

    def work(tx: Transaction) -> None:
        before = reads.lockout(tx, subject)
        if before is not None and now - before.failed_at > FORGOTTEN:
            before = None
        failures = 1 + (before.failures if before else 0)
        writes.set_lockout(tx, subject, failures, now, now + delay(failures), now - FORGOTTEN)

    db.write(work)


def succeeded(db: Database, subject: str) -> None:
    """Forget the wrong guesses before a right one; most logins have none and write nothing."""
    with db.read() as tx:
        if reads.lockout(tx, subject) is None:
            return
    db.write(lambda tx: writes.drop_lockout(tx, subject))


def delay(failures: int) -> dt.timedelta:
    """How long to wait after that many failures in a row: 1 s, 2 s, 4 s … up to LONGEST."""
    if failures <= FREE:
        return dt.timedelta(0)
    return min(LONGEST, dt.timedelta(seconds=2 ** min(failures - FREE - 1, 20)))


def _verify(hashed: str, password: str) -> bool:
    with _Turn():
        try:
            return _HASHER.verify(hashed, password)
        except argon2.exceptions.VerificationError:
            return False


class _Turn:
    """One of the two places where passwords are hashed."""

    def __enter__(self) -> None:
        if not _HASHING.acquire(timeout=_PATIENCE_S):
            raise Unavailable("login-busy", "too many logins at once: try again in a moment")

    def __exit__(self, *_: object) -> None:
        _HASHING.release()


def network(source: str) -> str:
    """What counts as one source: an IPv4 address, or an IPv6 network of 64 bits."""
    try:
        address = ipaddress.ip_address(source)
    except ValueError:
        return source
    if isinstance(address, ipaddress.IPv6Address):
        mapped = address.ipv4_mapped
        return str(mapped or ipaddress.IPv6Network((address, 64), strict=False))
    return str(address)
