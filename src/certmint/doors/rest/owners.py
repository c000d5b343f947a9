"""Routes for owners (HTTP Basic or Bearer): certificates, claiming, handing on."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request

from certmint.doors.http import source_of
from certmint.doors.rest import views
from certmint.doors.rest.callers import Services, admitted, owner_of
from certmint.enrolment import asking, ownership, renewal
from certmint.model.csr import parse_csr
from certmint.model.entities import Owner
from certmint.model.errors import Unauthenticated

_DEVICE = "/owner/devices/{serial_number:path}"


def owner_routes(services: Services) -> APIRouter:
    """Everything below `/owner`. Serial numbers are percent-encoded, slashes too."""
    router = APIRouter(tags=["owner"])
    db, clock = services.db, services.clock

    def me(request: Request) -> Owner:
        return owner_of(services, request)

    Me = Annotated[Owner, Depends(me)]  # noqa: N806

    @router.post(_DEVICE + "/certificates", status_code=201, responses=views.WAITING)
    def certify_owned(
        request: Request, serial_number: str, body: views.CertifyBody
    ) -> views.EnrolledView:
        """Certify a key for a device of the logged-in owner; other proofs may come with it."""
        if not request.headers.get("authorization"):
            raise _anonymous()
        caller = admitted(services, request, body)
        if caller.owner is None:
            raise _anonymous()
        csr = parse_csr(body.csr.encode())
        target = asking.target_of(db, caller, serial_number)
        return views.EnrolledView.of(
            renewal.renew(db, services.gate, target, csr, caller.asker, clock())
        )

    @router.post(_DEVICE + "/claim")
    def claim(
        request: Request, owner: Me, serial_number: str, body: views.ClaimCodeBody
    ) -> views.OwnedView:
        """Claim a device by the code on its label."""
        device = ownership.claim_by_code(
            db, owner, serial_number, body.code, services.secret_key, source_of(request.scope),
            clock(),
        )  # fmt: skip
        return views.OwnedView.of(device)

    @router.post(_DEVICE + "/pairing", status_code=201)
    def begin_pairing(owner: Me, serial_number: str) -> views.PairingView:
        """A short code for the device to name within minutes: it claims the device by presence."""
        code, until = ownership.begin_pairing(
            db, owner, serial_number, services.secret_key, clock(), services.random_bytes
        )
        return views.PairingView(code=code, expires_at=until)

    @router.post(_DEVICE + "/transfer", status_code=201)
    def offer(owner: Me, serial_number: str, body: views.ClaimBody) -> views.OfferView:
        """Offer the device to another owner, who has to accept it."""
        until = ownership.offer(db, owner, serial_number, body.username, clock())
        return views.OfferView(serial_number=serial_number, expires_at=until)

    @router.delete(_DEVICE + "/transfer", status_code=204)
    def withdraw(owner: Me, serial_number: str) -> None:
        """Take the offer back."""
        ownership.withdraw(db, owner, serial_number, clock())

    @router.post(_DEVICE + "/transfer/acceptance")
    def accept(owner: Me, serial_number: str) -> views.OwnedView:
        """Take a device that its owner offers; that one's login buys nothing from then on."""
        return views.OwnedView.of(ownership.accept(db, owner, serial_number, clock()))

    @router.post(_DEVICE + "/release")
    def release(owner: Me, serial_number: str) -> views.OwnedView:
        """Let the device go: whoever has its label can claim it."""
        device = ownership.release(
            db, owner.tenant_id, serial_number, owner, by=f"owner:{owner.id}", now=clock()
        )
        return views.OwnedView.of(device)

    @router.post(_DEVICE + "/retirement")
    def retire(owner: Me, serial_number: str) -> views.OwnedView:
        """Take the device out of service for good; its certificates are revoked."""
        return views.OwnedView.of(
            ownership.retire(db, services.keys, owner, serial_number, clock())
        )

    return router


def _anonymous() -> Unauthenticated:
    return Unauthenticated(
        "login-required", "log in as 'manufacturer/user' with a password, or with a Bearer token"
    )
