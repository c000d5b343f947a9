"""Values that one column holds whole, as canonical JSON: sorted keys, no spaces, ASCII.

Laws: what `…_text` writes, `…_of` reads back equal, and equal values give equal texts; times are
integer microseconds, so nothing is rounded. Nobody searches inside these texts.
"""

import datetime as dt
import ipaddress
import json
from collections.abc import Callable, Iterable
from typing import Any

import orjson

from certmint.model import acceptance
from certmint.model.acceptance import Acceptance, parse_acceptance
from certmint.model.acme import Identifier, IdentifierType
from certmint.model.constraints import NameConstraints
from certmint.model.evidence import EvidenceKind
from certmint.model.keys import KeyKind, KeyOrigin
from certmint.model.profile import Profile, Purpose, Trust
from certmint.model.subject import DistinguishedName

_MICROSECOND = dt.timedelta(microseconds=1)
_QUICK = (
    orjson.OPT_SORT_KEYS
    | orjson.OPT_PASSTHROUGH_DATETIME
    | orjson.OPT_PASSTHROUGH_DATACLASS
    | orjson.OPT_PASSTHROUGH_SUBCLASS
)
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)


def canonical(value: object, otherwise: Callable[[object], object] | None = None) -> str:
    """The one JSON text of a value. Raises TypeError or ValueError for what JSON cannot say.

    `otherwise` says it of a value that JSON has no word for.

    orjson writes the same text for what nearly every value is made of, in a third of the time;
    where it might not (text beyond ASCII; `null`, which it also writes for NaN), the standard
    library does.
    """
    try:
        quick = orjson.dumps(value, otherwise, _QUICK)
    except TypeError:
        quick = b"null"
    if not quick.isascii() or b"null" in quick:
        return _ENCODER.encode(value) if otherwise is None else _encoder(otherwise).encode(value)
    return quick.decode("ascii")


def _encoder(otherwise: Callable[[object], object]) -> json.JSONEncoder:
    return json.JSONEncoder(
        sort_keys=True, separators=(",", ":"), allow_nan=False, default=otherwise
    )


def list_text(texts: Iterable[str]) -> str:
    """A list of texts, such as a certificate's names, in their order."""
    return canonical(list(texts))


def list_of(text: str) -> tuple[str, ...]:
    """The texts that `list_text` wrote."""
    return tuple(json.loads(text))


def identifiers_text(identifiers: Iterable[Identifier]) -> str:
    """What an order asks for, in its order."""
    return canonical([(identifier.type, identifier.value) for identifier in identifiers])


def identifiers_of(text: str) -> tuple[Identifier, ...]:
    """The identifiers that `identifiers_text` wrote."""
    return tuple(Identifier(IdentifierType(kind), value) for kind, value in json.loads(text))


def subject_text(subject: DistinguishedName) -> str:
    """A distinguished name, attribute by attribute."""
    return canonical(subject.attributes)


def subject_of(text: str) -> DistinguishedName:
    """The name that `subject_text` wrote."""
    return _subject(json.loads(text))


def constraints_text(constraints: NameConstraints | None) -> str | None:
    """An authority's name constraints; None for an authority without."""
    if constraints is None:
        return None
    return canonical(
        {
            "permitted_dns": constraints.permitted_dns,
            "excluded_dns": constraints.excluded_dns,
            "permitted_ip": [str(network) for network in constraints.permitted_ip],
            "excluded_ip": [str(network) for network in constraints.excluded_ip],
            "permitted_directory": [tree.attributes for tree in constraints.permitted_directory],
            "critical": constraints.critical,
        }
    )


def constraints_of(text: str | None) -> NameConstraints | None:
    """The constraints that `constraints_text` wrote."""
    if text is None:
        return None
    held = json.loads(text)
    return NameConstraints(
        permitted_dns=tuple(held["permitted_dns"]),
        excluded_dns=tuple(held["excluded_dns"]),
        permitted_ip=tuple(map(ipaddress.ip_network, held["permitted_ip"])),
        excluded_ip=tuple(map(ipaddress.ip_network, held["excluded_ip"])),
        permitted_directory=tuple(map(_subject, held["permitted_directory"])),
        critical=held["critical"],
    )


def acceptance_text(accepts: Acceptance) -> str:
    """A product's policy, a line for each situation."""
    return canonical(accepts.lines())


def acceptance_of(text: str | None) -> Acceptance:
    """The policy that `acceptance_text` wrote; a product from before there was one has none."""
    return acceptance.DEFAULT if text is None else parse_acceptance(json.loads(text))


def microseconds_of(duration: dt.timedelta | None) -> int | None:
    """A duration as a column holds it."""
    return None if duration is None else duration // _MICROSECOND


def duration_of(microseconds: int | None) -> dt.timedelta | None:
    """The duration that `microseconds_of` wrote."""
    return None if microseconds is None else microseconds * _MICROSECOND


def profile_text(profile: Profile) -> str:
    """One version of a profile, complete; durations in microseconds."""
    return canonical(
        {
            "name": profile.name,
            "version": profile.version,
            "trust": profile.trust,
            "purpose": profile.purpose,
            "lifetime": None if profile.lifetime is None else profile.lifetime // _MICROSECOND,
            "key_kinds": sorted(profile.key_kinds),
            "key_origins": sorted(profile.key_origins),
            "accepts": [sorted(alternative) for alternative in profile.accepts],
            "extended_key_usage": profile.extended_key_usage,
            "policies": profile.policies,
            "path_length": profile.path_length,
            "backdate": profile.backdate // _MICROSECOND,
            "grace": profile.grace // _MICROSECOND,
        }
        # Left out where it is false, so that the text of an older profile stays what it was.
        | ({"plain_delivery": True} if profile.plain_delivery else {})
    )


def profile_of(text: str) -> Profile:
    """The profile that `profile_text` wrote."""
    held = json.loads(text)
    return Profile(
        name=held["name"],
        version=held["version"],
        trust=Trust(held["trust"]),
        purpose=Purpose(held["purpose"]),
        lifetime=None if held["lifetime"] is None else held["lifetime"] * _MICROSECOND,
        key_kinds=frozenset(map(KeyKind, held["key_kinds"])),
        key_origins=frozenset(map(KeyOrigin, held["key_origins"])),
        accepts=tuple(frozenset(map(EvidenceKind, kinds)) for kinds in held["accepts"]),
        extended_key_usage=tuple(held["extended_key_usage"]),
        policies=tuple(held["policies"]),
        path_length=held["path_length"],
        backdate=held["backdate"] * _MICROSECOND,
        grace=held["grace"] * _MICROSECOND,
        plain_delivery=held.get("plain_delivery", False),
    )


def _subject(attributes: Any) -> DistinguishedName:
    return DistinguishedName(tuple((kind, value) for kind, value in attributes))
