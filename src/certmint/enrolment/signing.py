"""The authorities' keys, opened when first needed and kept open."""

import threading
from collections.abc import Callable

from certmint.issuance.authority import SigningAuthority
from certmint.model.entities import Authority
from certmint.model.keys import KeyKind, PrivateKey, PublicKey
from certmint.model.states import AuthorityState

OpenKey = Callable[[str], PrivateKey]
CreateKey = Callable[[str, KeyKind], PublicKey]


class SigningKeys:
    """What can sign, by authority. `open_key` and `create_key` come from the wiring.

    An authority is kept by its id and certificate, so that one that was certified or rolled
    over since is opened anew.
    """

    def __init__(self, open_key: OpenKey, create_key: CreateKey) -> None:
        self._open_key = open_key
        self._create_key = create_key
        self._open: dict[tuple[str, AuthorityState, bytes], SigningAuthority] = {}
        self._lock = threading.Lock()

    def of(self, authority: Authority) -> SigningAuthority:
        """The signer of one authority. Raises Misconfigured or Unavailable from the key store."""
        handle = (authority.id, authority.state, authority.der)
        with self._lock:
            if handle not in self._open:
                key = self._open_key(authority.key_uri)
                self._open[handle] = SigningAuthority(authority, key)
            return self._open[handle]

    def create(self, uri: str, kind: KeyKind) -> PublicKey:
        """Make a new authority key at `uri`. Raises Conflict `key-exists`."""
        return self._create_key(uri, kind)
