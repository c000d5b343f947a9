"""An authority in the words that people use: its kind, its parent, its domains."""

from dataclasses import dataclass
from enum import StrEnum

from certmint.enrolment.authorities import NewAuthority
from certmint.model.constraints import (
    NameConstraints,
    named_subordinate,
    technically_constrained,
)
from certmint.model.entities import Manufacturer
from certmint.model.errors import BadInput
from certmint.model.keys import KeyKind
from certmint.model.subject import DistinguishedName


class AuthorityKind(StrEnum):
    """What is made; the names are those of the built-in profiles."""

    ROOT = "root"
    IDENTITY_ROOT = "identity-root"
    ISSUING = "issuing"
    IDENTITY_ISSUING = "identity-issuing"
    SUBORDINATE = "subordinate"


class ConstraintsKind(StrEnum):
    """The section of the Baseline Requirements that shapes a SubCA's name constraints."""

    TECHNICALLY_CONSTRAINED = "tc-tls-7.1.2.5"
    NAMED = "tls-7.1.2.6-named"


@dataclass(frozen=True)
class AuthorityWish:
    """What somebody asks for. "" for what is left to the installation."""

    name: str
    kind: AuthorityKind
    parent: str | None = None
    domains: tuple[str, ...] = ()
    constraints: ConstraintsKind = ConstraintsKind.TECHNICALLY_CONSTRAINED
    critical: bool = False
    subject: str = ""
    key_uri: str = ""
    key_kind: KeyKind = KeyKind.P256
    crl_shards: int = 1

    def __post_init__(self) -> None:
        is_root = self.kind in (AuthorityKind.ROOT, AuthorityKind.IDENTITY_ROOT)
        if is_root != (self.parent is None):
            rule = "has no parent" if is_root else "needs a parent"
            raise BadInput("authority-syntax", f"an authority of kind {self.kind} {rule}")
        if (self.kind is AuthorityKind.SUBORDINATE) != bool(self.domains):
            raise BadInput("authority-syntax", "a subordinate CA, and no other, names its domains")


def new_authority(
    tenant: Manufacturer, wish: AuthorityWish, key_folder: str, status_url: str
) -> NewAuthority:
    """The wish, with what the installation fills in. Raises BadInput `name-syntax` …"""
    fields = {kind: value for kind, value in tenant.subject.attributes if kind in ("C", "O")}
    subject = (
        DistinguishedName.parse(wish.subject)
        if wish.subject
        else DistinguishedName.of(**fields, CN=wish.name)
    )
    return NewAuthority(
        name=wish.name,
        subject=subject,
        profile=wish.kind.value,
        key_uri=wish.key_uri or f"file:{key_folder}/{{id}}.pem",
        key_kind=wish.key_kind,
        status_url=status_url,
        parent=wish.parent,
        constraints=_constraints(fields, wish) if wish.domains else None,
        crl_shards=wish.crl_shards,
    )


def _constraints(fields: dict[str, str], wish: AuthorityWish) -> NameConstraints:
    if wish.constraints is ConstraintsKind.NAMED:
        return named_subordinate(wish.domains, critical=wish.critical)
    whom = DistinguishedName.of(**fields)
    return technically_constrained(wish.domains, whom, critical=wish.critical)
