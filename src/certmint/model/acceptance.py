"""Which proofs buy a device's service certificate in which situation: one policy for a product.

Laws: a situation lists alternatives, and each is a set of proofs that must all be there; a
situation without alternatives is closed. The profile's `accepts` stays the outer bound. Whether a
proof holds, and in which situation a device is, this module does not know.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from certmint.model.errors import BadInput


class Situation(StrEnum):
    """Where a device stands that asks for a service certificate (`policy.situation`)."""

    FIRST = "first"  # it never had one
    RENEWING = "renewing"  # its newest one is valid, and it has it
    EXPIRED = "expired"  # its newest one expired, within the grace
    RE_IMAGED = "re-imaged"  # it starts over: it lost its newest one, or that one does not count


class Proof(StrEnum):
    """What a product's policy is written in."""

    OWNER_LOGIN = "owner-login"
    IDENTITY_CERTIFICATE = "identity-certificate"
    SERVICE_CERTIFICATE = "service-certificate"
    ATTESTATION = "attestation"
    ENROLMENT_SECRET = "enrolment-secret"  # noqa: S105 (the name of a proof)


Alternatives = tuple[frozenset[Proof], ...]

NOBODY = "nobody"
ALWAYS, NONE = "always", "none"
# A service certificate that a device has is either its newest (renewing, expired) or worth nothing.
_SERVICE_COUNTS = (Situation.RENEWING, Situation.EXPIRED)


@dataclass(frozen=True)
class Acceptance:
    """The alternatives of each situation. Raises BadInput `acceptance-syntax`."""

    first: Alternatives
    renewing: Alternatives
    expired: Alternatives
    re_imaged: Alternatives

    def __post_init__(self) -> None:
        for situation in Situation:
            for alternative in self.of(situation):
                _check(situation, alternative)

    def of(self, situation: Situation) -> Alternatives:
        """The alternatives in one situation."""
        found: Alternatives = getattr(self, situation.name.lower())
        return found

    def lines(self) -> tuple[str, ...]:
        """One line for each situation, as `parse_acceptance` reads it."""
        return tuple(f"{each}: {written(self.of(each))}" for each in Situation)


def written(alternatives: Alternatives) -> str:
    """`owner-login+identity-certificate | attestation`, or `nobody`."""
    return " | ".join("+".join(sorted(each)) for each in alternatives) or NOBODY


def parse_acceptance(lines: Iterable[str], base: Acceptance | None = None) -> Acceptance:
    """A policy from `situation: proof+proof | proof`; what is not said is as in `base`.

    `base` is DEFAULT unless it is given. Raises BadInput `acceptance-syntax`.
    """
    start = base or DEFAULT
    said: dict[Situation, Alternatives] = {}
    for line in lines:
        name, colon, text = line.partition(":")
        try:
            situation = Situation(name.strip())
        except ValueError:
            situation = None
        if not colon or situation is None:
            known = ", ".join(Situation)
            raise _wrong(f"{line!r} does not begin with a situation and a colon: {known}")
        if situation in said:
            raise _wrong(f"the situation {situation} is given twice")
        said[situation] = _alternatives(text)
    return Acceptance(*(said.get(each, start.of(each)) for each in Situation))


def parse_situations(texts: Iterable[str]) -> frozenset[Situation]:
    """Situations by their names, or by the one word `always` or `none`.

    Raises BadInput `acceptance-syntax`.
    """
    given = [text.strip() for text in texts]
    if given == [ALWAYS]:
        return frozenset(Situation)
    if given == [NONE]:
        return frozenset()
    known = [each.value for each in Situation]
    for text in given:
        if text not in known:
            raise _wrong(
                f"{text!r} is no situation: use {', '.join(known)}; {ALWAYS} or {NONE} alone"
            )
    return frozenset(map(Situation, given))


def _alternatives(text: str) -> Alternatives:
    if text.strip() == NOBODY:
        return ()
    return tuple(frozenset(map(_proof, each.split("+"))) for each in text.split("|"))


def _proof(text: str) -> Proof:
    try:
        return Proof(text.strip())
    except ValueError:
        raise _wrong(
            f"{text.strip()!r} is no proof: use {', '.join(Proof)}, or {NOBODY} alone"
        ) from None


def _check(situation: Situation, alternative: frozenset[Proof]) -> None:
    if not alternative:
        raise _wrong(f"an alternative without any proof would let everybody in: {situation}")
    if Proof.SERVICE_CERTIFICATE in alternative and situation not in _SERVICE_COUNTS:
        raise _wrong(f"a device that is {situation} has no service certificate that counts")


def _wrong(detail: str) -> BadInput:
    return BadInput("acceptance-syntax", detail)


def _any(*alternatives: frozenset[Proof] | Proof) -> Alternatives:
    return tuple(frozenset({e}) if isinstance(e, Proof) else e for e in alternatives)


_KEPT_APART = (Proof.IDENTITY_CERTIFICATE, Proof.ATTESTATION, Proof.OWNER_LOGIN)

# What a product asks for that says nothing else. A service certificate renews itself; once it
# expired, it needs the label's secret beside it, or one of the credentials that are kept apart
# from it. The secret alone, which is spent by its use, buys a first certificate only.
DEFAULT = Acceptance(
    first=_any(*_KEPT_APART, Proof.ENROLMENT_SECRET),
    renewing=_any(*_KEPT_APART, Proof.SERVICE_CERTIFICATE),
    expired=_any(*_KEPT_APART, frozenset({Proof.SERVICE_CERTIFICATE, Proof.ENROLMENT_SECRET})),
    re_imaged=_any(*_KEPT_APART),
)

# With hardware or two parties behind everything but a renewal: `--accept strict`.
STRICT = Acceptance(
    first=_any(
        Proof.IDENTITY_CERTIFICATE,
        Proof.ATTESTATION,
        frozenset({Proof.OWNER_LOGIN, Proof.ENROLMENT_SECRET}),
    ),
    renewing=_any(Proof.IDENTITY_CERTIFICATE, Proof.ATTESTATION, Proof.SERVICE_CERTIFICATE),
    expired=_any(
        Proof.ATTESTATION,
        frozenset({Proof.OWNER_LOGIN, Proof.IDENTITY_CERTIFICATE}),
        frozenset({Proof.OWNER_LOGIN, Proof.SERVICE_CERTIFICATE}),
    ),
    re_imaged=_any(
        Proof.ATTESTATION,
        frozenset({Proof.OWNER_LOGIN, Proof.IDENTITY_CERTIFICATE}),
    ),
)
