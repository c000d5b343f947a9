"""Rules about the device and about the certificate that is being replaced."""

import datetime as dt

from certmint.model.evidence import EvidenceKind
from certmint.model.profile import Purpose
from certmint.model.request import CertificateRequest, Facts
from certmint.model.states import DeviceState
from certmint.policy.rules.rule import Rule


def _state(request: CertificateRequest, facts: Facts, _: dt.datetime) -> str | None:
    needs_device = request.profile.purpose is Purpose.IDENTITY
    if request.device_id is None:
        return "an identity certificate is for one device" if needs_device else None
    if facts.device is None or facts.device.id != request.device_id:
        return f"device {request.device_id} is not in the inventory"
    if facts.device.state in (DeviceState.SUSPENDED, DeviceState.RETIRED):
        return f"device {facts.device.serial_number} is {facts.device.state}"
    if facts.device.state is DeviceState.EXPECTED and not any(
        piece.kind is EvidenceKind.BATCH_LINE for piece in request.evidence
    ):
        return f"device {facts.device.serial_number} has not left the factory yet"
    return None


def _product(request: CertificateRequest, facts: Facts, _: dt.datetime) -> str | None:
    product, device = facts.product, facts.device
    if device is None or product is None:
        return None
    if device.product_id != product.id:
        return f"device {device.serial_number} is not of product {product.name!r}"
    chosen = {
        Purpose.IDENTITY: (product.identity_profile, product.identity_authority_id),
        Purpose.SERVICE: (product.service_profile, product.service_authority_id),
    }.get(request.profile.purpose)
    if chosen != (request.profile.name, request.authority_id):
        return f"product {product.name!r} uses another profile or authority for this"
    return None


def _replaces(request: CertificateRequest, facts: Facts, _: dt.datetime) -> str | None:
    if request.replaces is None:
        return None
    old = facts.replaced
    if old is None or old.serial != request.replaces or old.device_id != request.device_id:
        return f"certificate {request.replaces} is not one of this device"
    if old.successor is not None:
        return f"certificate {request.replaces} has a successor already, {old.successor}"
    return None


RULES = (
    Rule("device-state", "ours: the device's state table",
         "The device is in the inventory and in service.", _state),
    Rule("device-product", "ours: the product's choice",
         "The product decides which profile and authority its devices use.", _product),
    Rule("already-replaced", "RFC 9773 5", "A certificate has one successor at the most.",
         _replaces),
)  # fmt: skip
