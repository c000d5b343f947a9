"""Certificate chains as files and wires carry them."""

import base64
from functools import lru_cache

from certmint.enrolment.facts import authority_chain
from certmint.model.entities import Authority
from certmint.registry.engine import Transaction


def pem(der: bytes) -> str:
    """One certificate as PEM (RFC 7468)."""
    text = base64.b64encode(der).decode()
    lines = "\n".join(text[i : i + 64] for i in range(0, len(text), 64))
    return f"-----BEGIN CERTIFICATE-----\n{lines}\n-----END CERTIFICATE-----\n"


@lru_cache(maxsize=256)  # of CAs there are few, and each stands above many leaves
def _pem_of_ca(der: bytes) -> str:
    return pem(der)


def intermediates(tx: Transaction, tenant_id: str, authority_id: str) -> list[Authority]:
    """The CAs between a leaf of `authority_id` and its root, nearest first, without the root."""
    chain = authority_chain(tx, tenant_id, authority_id)
    return [link for link in chain if link.parent_id is not None]


def intermediates_pem(tx: Transaction, tenant_id: str, authority_id: str) -> str:
    """`intermediates` as one PEM text."""
    return "".join(_pem_of_ca(link.der) for link in intermediates(tx, tenant_id, authority_id))


def root(tx: Transaction, tenant_id: str, authority_id: str) -> Authority:
    """The trust anchor above an authority."""
    return authority_chain(tx, tenant_id, authority_id)[-1]
