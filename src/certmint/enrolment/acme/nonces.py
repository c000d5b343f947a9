"""Replay nonces that every node accepts, before and after a restart (RFC 8555 6.5).

A nonce carries its own time and MAC, so that handing one out stores nothing; using one stores it
until it would have expired anyway, so that it is used once in the whole installation.
"""

import base64
import datetime as dt
import hashlib
import hmac
from functools import partial

from certmint.model.serial import RandomBytes
from certmint.registry import writes
from certmint.registry.engine import Database, Transaction

LIFE = dt.timedelta(hours=24)
_MAC_OCTETS, _RANDOM_OCTETS = 16, 16


class BadNonce(Exception):
    """The nonce is not ours, too old, or was used before."""


class Nonces:
    """`secret` is the same on every node."""

    def __init__(self, db: Database, secret: bytes) -> None:
        self._db = db
        self._secret = secret

    def make(self, now: dt.datetime, random_bytes: RandomBytes) -> str:
        """A fresh nonce: seconds, 128 random bits, MAC; base64url."""
        body = int(now.timestamp()).to_bytes(5, "big") + random_bytes(_RANDOM_OCTETS)
        return base64.urlsafe_b64encode(body + self._mac(body)).rstrip(b"=").decode()

    def accept(self, nonce: object, now: dt.datetime) -> Database:
        """The database for the request that brought this nonce: its first write spends it too.

        Raises BadNonce if it is not ours or not fresh; that write (or `settle`) raises it if the
        nonce was spent before.
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
        return self._db.preceded_by(partial(_spend, body.hex(), made + LIFE))

    def _mac(self, body: bytes) -> bytes:
        # BLAKE2 with a key is a MAC (RFC 7693), and begins without OpenSSL looking for a provider.
        return hashlib.blake2b(body, key=self._secret, digest_size=_MAC_OCTETS).digest()


def _spend(nonce: str, expires_at: dt.datetime, tx: Transaction) -> None:
    if not writes.use_acme_nonce(tx, nonce, expires_at):
        raise BadNonce
