"""Routes for devices themselves: their record, their certificates, what hardware says, pairing."""

import base64
from typing import Annotated

from fastapi import APIRouter, Depends, Request

from certmint.doors.rest import views
from certmint.doors.rest.callers import (
    Services,
    admitted,
    chain_of,
    device_certificate,
    octets,
)
from certmint.enrolment import asking, attesting, devices, ownership, renewal
from certmint.model.csr import parse_csr
from certmint.model.entities import Certificate


def device_routes(services: Services) -> APIRouter:
    """Everything below `/device`, and the time."""
    router = APIRouter(tags=["device"])
    db, gate, clock = services.db, services.gate, services.clock

    def me(request: Request) -> Certificate:
        return device_certificate(services, request)

    Me = Annotated[Certificate, Depends(me)]  # noqa: N806

    @router.get("/time")
    def read_time() -> views.TimeView:
        """The server's time, for who has no clock; TLS proves whose word it is."""
        return views.TimeView(time=clock())

    @router.get("/device")
    def read_self(shown: Me) -> views.DeviceSelfView:
        """The device's own record, and when to renew."""
        target = devices.view(db, shown.tenant_id, shown.device_id or "")
        return views.DeviceSelfView.of(target, clock())

    @router.post("/device/certificates", status_code=201, responses=views.WAITING)
    def certify_self(request: Request, body: views.CertifyBody) -> views.EnrolledView:
        """Certify the device's new key. Asking again with the same key gives the same answer.

        Whatever is proved counts together: the client certificate, HTTP Basic (an owner, or the
        label), the label in the body, an attestation.
        """
        caller = admitted(services, request, body)
        csr = parse_csr(body.csr.encode())
        target = asking.target_of(db, caller, body.serial_number)
        return views.EnrolledView.of(renewal.renew(db, gate, target, csr, caller.asker, clock()))

    @router.post("/device/keys", status_code=201, responses=views.WAITING)
    def deliver_key(request: Request, body: views.KeyBody) -> views.DeliveredKeyView:
        """Make a key pair for the device; private profiles only."""
        caller = admitted(services, request, body)
        target = asking.target_of(db, caller, body.serial_number)
        enrolled = renewal.deliver_key(
            db, gate, target, body.kind, caller.asker, clock(), services.random_bytes
        )
        return views.DeliveredKeyView(
            **views.EnrolledView.of(enrolled).model_dump(),
            encrypted_key=base64.b64encode(enrolled.encrypted_key).decode(),
        )

    @router.post("/device/attestation/challenge", status_code=201)
    def challenge_hardware(body: views.ChallengeBody) -> views.NonceView:
        """A nonce for hardware of a product to sign, as the text that it is; good for once."""
        nonce, until = attesting.new_nonce(
            db, body.manufacturer, body.product, services.secret_key, clock(),
            services.random_bytes,
        )  # fmt: skip
        return views.NonceView(nonce=nonce, expires_at=until)

    @router.post("/device/attestation/activation", status_code=201)
    def hide_secret(body: views.HideBody) -> views.CredentialView:
        """What TPM2_ActivateCredential takes: it finds the secret of an attestation by this AK."""
        hidden = attesting.hide(
            db, body.manufacturer, body.product, body.nonce,
            octets(body.ek_public, "ek_public"), chain_of(body.ek_chain),
            octets(body.ak_public, "ak_public"), services.secret_key, clock(),
            services.random_bytes,
        )  # fmt: skip
        return views.CredentialView(
            credential_blob=base64.b64encode(hidden.credential_blob).decode(),
            encrypted_secret=base64.b64encode(hidden.encrypted_secret).decode(),
        )

    @router.post("/device/pairing")
    def confirm_pairing(shown: Me, body: views.PairingBody) -> views.OwnedView:
        """Name the code that the owner was shown: the device becomes the owner's."""
        device = ownership.confirm_pairing(db, shown, body.code, services.secret_key, clock())
        return views.OwnedView.of(device)

    return router
