"""A certificate's chains as ACME hands them out (RFC 8555 7.4.2): the default, and alternates.

The default leaves the root out. Where the registry knows another certificate of a CA in the chain
(the same key, certified by another parent: a cross certificate, or an old root under a new one),
there is a chain by that way too. Each comes with its root as well, for clients that want it.
"""

from collections.abc import Mapping, Sequence

from certmint.enrolment.chains import pem
from certmint.model.entities import Authority
from certmint.registry import reads
from certmint.registry.engine import Transaction

_MOST_MADE = 1024
# What stands above the leaves of an authority, and the authorities that it was made of: as long
# as the registry gives the very same ones, it is the same.
_made: dict[tuple[str, str], tuple[Sequence[Authority], tuple[str, ...]]] = {}


def chains(tx: Transaction, tenant_id: str, authority_id: str, der: bytes) -> list[str]:
    """Every chain of a certificate of this authority in PEM, the default first."""
    known = reads.known_authorities(tx, tenant_id)
    made = _made.get((tenant_id, authority_id))
    if made is None or made[0] is not known:
        if len(_made) >= _MOST_MADE:
            _made.clear()
        made = _made[tenant_id, authority_id] = (known, _above(known, authority_id))
    leaf = pem(der)
    return [leaf + above for above in made[1]]


def _above(known: Sequence[Authority], authority_id: str) -> tuple[str, ...]:
    """What stands above a leaf in each of its chains, in PEM."""
    ways = _ways({each.id: each for each in known if each.der}, authority_id)
    shown = [way[:-1] for way in ways] + ways
    texts = ["".join(pem(link.der) for link in way) for way in shown]
    return tuple(dict.fromkeys(texts))


def _ways(known: Mapping[str, Authority], authority_id: str) -> list[list[Authority]]:
    """Each way from an issuer to a root, by the issuer's own parents first."""
    first = _upwards(known, authority_id)
    ways = [first]
    for place, link in enumerate(first):
        for twin in known.values():
            if twin.id != link.id and twin.key.key_id == link.key.key_id:
                above = _upwards(known, twin.id)
                if all(each.id != link.id for each in above):
                    ways.append([*first[:place], *above])
    return ways


def _upwards(known: Mapping[str, Authority], authority_id: str) -> list[Authority]:
    way: list[Authority] = []
    here = known.get(authority_id)
    while here is not None and len(way) <= len(known):
        way.append(here)
        here = known.get(here.parent_id) if here.parent_id else None
    return way
