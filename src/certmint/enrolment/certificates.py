"""Certificates for servers that are no devices, on an operator's word."""

import datetime as dt
from dataclasses import dataclass

from certmint.enrolment import chains
from certmint.enrolment.authorities import authority_named, profile_named
from certmint.enrolment.issue import Along, Gate
from certmint.model.csr import CSR
from certmint.model.entities import Certificate, Manufacturer
from certmint.model.evidence import OperatorGrant
from certmint.model.names import parse_name
from certmint.model.request import CertificateRequest, Requester, RequesterKind
from certmint.registry.engine import Database


@dataclass(frozen=True)
class Wish:
    """What an operator asks for; `lifetime` None is the profile's."""

    authority: str
    profile: str
    names: tuple[str, ...]
    csr: CSR
    lifetime: dt.timedelta | None = None


def issue(
    db: Database, gate: Gate, tenant: Manufacturer, wish: Wish, *, operator_id: str,
    now: dt.datetime, along: Along | None = None,
) -> tuple[Certificate, str]:  # fmt: skip
    """The certificate, and the CAs above it in PEM without the root.

    `along` writes what else changes, in the transaction that stores the certificate.

    Raises NotFound `authority-unknown` or `profile-unknown`, BadInput `name-syntax`, and whatever
    the gate refuses.
    """
    with db.read() as tx:
        issuing = authority_named(tx, tenant.id, wish.authority)
        above = chains.intermediates_pem(tx, tenant.id, issuing.id)
        profile = profile_named(tx, tenant.id, wish.profile)
    issued = gate.issue_one(
        CertificateRequest(
            tenant_id=tenant.id,
            authority_id=issuing.id,
            profile=profile,
            key=wish.csr,
            requester=Requester(RequesterKind.OPERATOR, operator_id),
            evidence=(OperatorGrant(operator_id, now),),
            names=tuple(map(parse_name, wish.names)),
            lifetime=wish.lifetime,
        ),
        now,
        along,
    )
    return issued, above
