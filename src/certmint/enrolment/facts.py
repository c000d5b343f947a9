"""What certmint knows about a sequence of requests, read in one transaction."""

from collections.abc import Sequence

from certmint.model.campaign import Call
from certmint.model.constraints import NameConstraints
from certmint.model.entities import (
    Authority,
    Batch,
    Certificate,
    DomainValidation,
    Product,
    Sighting,
)
from certmint.model.errors import NotFound
from certmint.model.evidence import BatchLine, HoldsCertificate
from certmint.model.profile import Purpose
from certmint.model.request import CertificateRequest, Facts
from certmint.model.serial import Serial
from certmint.policy.situation import is_in_the_field
from certmint.registry import reads
from certmint.registry.engine import Transaction


def gather(tx: Transaction, requests: Sequence[CertificateRequest]) -> list[Facts]:
    """The facts of each request, in order. Raises NotFound `authority-unknown`."""
    keys = reads.key_records(tx, [request.public_key.fingerprint for request in requests])
    shared = _Shared(tx)
    devices = {
        tenant: reads.devices_by_id(
            tx, tenant, [r.device_id for r in requests if r.tenant_id == tenant and r.device_id]
        )
        for tenant in {request.tenant_id for request in requests}
    }
    found = []
    for request in requests:
        tenant = request.tenant_id
        device = devices[tenant].get(request.device_id) if request.device_id else None
        newest, sighting, call = _last(tx, request)
        authority, ancestors = shared.authority(tenant, request.authority_id)
        found.append(
            Facts(
                authority=authority,
                ancestors=ancestors,
                domains=shared.domains(tenant),
                key_record=keys.get(request.public_key.fingerprint),
                device=device,
                product=shared.product(tenant, device.product_id) if device else None,
                batch=shared.batch(request),
                presented=_presented(tx, request),
                replaced=_replaced(tx, request, newest),
                newest=newest,
                sighting=sighting,
                call=call,
            )
        )
    return found


class _Shared:
    """What many requests of one call have in common, read once."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx
        self._authorities: dict[tuple[str, str], tuple[Authority, tuple[NameConstraints, ...]]] = {}
        self._domains: dict[str, tuple[DomainValidation, ...]] = {}
        self._products: dict[str, Product | None] = {}
        self._batches: dict[str, Batch | None] = {}

    def authority(
        self, tenant: str, authority_id: str
    ) -> tuple[Authority, tuple[NameConstraints, ...]]:
        handle = (tenant, authority_id)
        if handle not in self._authorities:
            chain = authority_chain(self._tx, tenant, authority_id)
            constraints = tuple(link.constraints for link in chain if link.constraints is not None)
            self._authorities[handle] = (chain[0], constraints)
        return self._authorities[handle]

    def domains(self, tenant: str) -> tuple[DomainValidation, ...]:
        if tenant not in self._domains:
            self._domains[tenant] = reads.verified_domains(self._tx, tenant)
        return self._domains[tenant]

    def product(self, tenant: str, product_id: str) -> Product | None:
        if product_id not in self._products:
            self._products[product_id] = reads.product(self._tx, tenant, product_id)
        return self._products[product_id]

    def batch(self, request: CertificateRequest) -> Batch | None:
        for piece in request.evidence:
            if isinstance(piece, BatchLine):
                if piece.batch_id not in self._batches:
                    found = reads.batch(self._tx, request.tenant_id, piece.batch_id)
                    self._batches[piece.batch_id] = found
                return self._batches[piece.batch_id]
        return None


def authority_chain(tx: Transaction, tenant_id: str, authority_id: str) -> list[Authority]:
    """An authority and every one above it, itself first. Raises NotFound `authority-unknown`."""
    chain: list[Authority] = []
    wanted: str | None = authority_id
    while wanted is not None:
        authority = reads.authority(tx, tenant_id, wanted)
        if authority is None:
            raise NotFound("authority-unknown", f"there is no authority {wanted!r}")
        chain.append(authority)
        wanted = authority.parent_id
    return chain


def _presented(tx: Transaction, request: CertificateRequest) -> Certificate | None:
    for piece in request.evidence:
        if isinstance(piece, HoldsCertificate):
            return reads.presented_certificate(tx, piece.authority_id, Serial(piece.serial))
    return None


def _last(
    tx: Transaction, request: CertificateRequest
) -> tuple[Certificate | None, Sighting | None, Call | None]:
    """What the device got last, where, and what a campaign wants of it; where policy weighs it."""
    if request.device_id is None or not is_in_the_field(request):
        return None, None, None
    tenant, device_id = request.tenant_id, request.device_id
    newest = reads.latest_certificate(tx, tenant, device_id, Purpose.SERVICE)
    sighting = reads.sighting(tx, tenant, device_id) if request.source else None
    if newest is None:
        return None, sighting, None
    return newest, sighting, reads.campaign_call(tx, tenant, newest.authority_id, newest.serial)


def _replaced(
    tx: Transaction, request: CertificateRequest, newest: Certificate | None
) -> Certificate | None:
    if request.replaces is None:
        return None
    if newest is not None and newest.serial == request.replaces:
        return newest  # the usual case
    return reads.certificate(tx, request.tenant_id, Serial(request.replaces))
