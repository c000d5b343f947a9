"""Replay nonces that every node accepts, before and after a restart (RFC 8555 6.5).

A nonce carries its own time and MAC, so that handing one out stores nothing; using one stores it
until it would have expired anyway, so that it is used once in the whole installation. A request
stores it in the transaction of its first change, or before it is answered.
"""

import base64
import binascii
import datetime as dt
import hashlib
import hmac

from certmint.model.serial import RandomBytes
from certmint.registry import reads, writes
from certmint.registry.engine import Database, Transaction

LIFE = dt.timedelta(hours=24)
_URL_SAFE = bytes.maketrans(b"+/", b"-_")
_MAC_OCTETS, _RANDOM_OCTETS = 16, 16


class BadNonce(Exception):
    """The nonce is not ours, too old, or was used before."""


class Nonces:
    """`secret` is the same on every node."""

    def __init__(self, db: Database, secret: bytes) -> None:
        self._db = db
        self._secret = secret
        self._in_use: set[str] = set()

    def make(self, now: dt.datetime, random_bytes: RandomBytes) -> str:
        """A fresh nonce: seconds, 128 random bits, MAC; base64url."""
        body = int(now.timestamp()).to_bytes(5, "big") + random_bytes(_RANDOM_OCTETS)
        text = binascii.b2a_base64(body + self._mac(body), newline=False)
        return text.translate(_URL_SAFE, b"=").decode()

    def accept(self, nonce: object, now: dt.datetime) -> "Spending":
        """Let a request have this nonce. Raises BadNonce if it is not ours, not fresh, or in use.

        Whether it was spent before is known when it is spent: by the request's first write, or by
        `Spending.settle`.
        """
        if not isinstance(nonce, str) or len(nonce) > 64:
            raise BadNonce
        try:
            data = base64.urlsafe_b64decode(nonce + "=" * (-len(nonce) % 4))
        except ValueError:
            raise BadNonce from None
        body, mac = data[:-_MAC_OCTETS], data[-_MAC_OCTETS:]
        if len(body) != 5 + _RANDOM_OCTETS or not hmac.compare_digest(mac, self._mac(body)):
            raise BadNonce
        made = dt.datetime.fromtimestamp(int.from_bytes(body[:5], "big"), dt.UTC)
        if not now - LIFE < made <= now + dt.timedelta(minutes=5):
            raise BadNonce
        return Spending(self._db, body.hex(), made + LIFE, self._in_use)

    def _mac(self, body: bytes) -> bytes:
        # BLAKE2 with a key is a MAC (RFC 7693), and begins without OpenSSL looking for a provider.
        return hashlib.blake2b(body, key=self._secret, digest_size=_MAC_OCTETS).digest()


class Spending:
    """A nonce in the hands of the request that brought it. `db` is what that one writes by.

    `in_use` are the nonces of this node's requests; it keeps two of them from having one nonce.
    """

    def __init__(self, db: Database, nonce: str, expires_at: dt.datetime, in_use: set[str]) -> None:
        if nonce in in_use:
            raise BadNonce
        in_use.add(nonce)
        self._nonce, self._expires_at, self._in_use = nonce, expires_at, in_use
        self.db = db.preceded_by(self._spend)

    def settle(self) -> None:
        """The request is over: spend its nonce, unless its first write did. Raises BadNonce."""
        try:
            self.db.settle()
        finally:
            self._in_use.discard(self._nonce)

    def check(self) -> None:
        """Raises BadNonce if it was spent before: for what is begun before anything is written."""
        with self.db.read() as tx:
            if reads.is_acme_nonce_used(tx, self._nonce):
                raise BadNonce

    def _spend(self, tx: Transaction) -> None:
        if not writes.use_acme_nonce(tx, self._nonce, self._expires_at):
            raise BadNonce
