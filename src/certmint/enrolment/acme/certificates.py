"""A certificate's chains as ACME hands them out (RFC 8555 7.4.2): the default, and alternates.

The default leaves the root out. Where the registry knows another certificate of a CA in the chain
(the same key, certified by another parent: a cross certificate, or an old root under a new one),
there is a chain by that way too. Each comes with its root as well, for clients that want it.
"""

from collections.abc import Mapping
from functools import lru_cache

from certmint.enrolment.chains import pem
from certmint.model.entities import Authority, Certificate
from certmint.registry import reads
from certmint.registry.engine import Transaction


def chains(tx: Transaction, found: Certificate) -> list[str]:
    """Every chain of a certificate in PEM, the default first."""
    known = tuple(each for each in reads.authorities(tx, found.tenant_id) if each.der)
    leaf = pem(found.der)
    return [leaf + above for above in _above(known, found.authority_id)]


@lru_cache(maxsize=1024)
def _above(known: tuple[Authority, ...], authority_id: str) -> tuple[str, ...]:
    """What stands above a leaf in each of its chains, in PEM."""
    ways = _ways({each.id: each for each in known}, authority_id)
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
