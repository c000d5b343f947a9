"""Operators' routes for devices, owners and batches."""

from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import FileResponse
from starlette.concurrency import run_in_threadpool

from certmint.doors.http import is_upload
from certmint.doors.rest import desk_views as views
from certmint.doors.rest.callers import Services
from certmint.doors.rest.listing import NDJSON, After, Limit, Page, listing
from certmint.doors.rest.people import LISTED
from certmint.doors.rest.routing import Me, linked
from certmint.doors.rest.views import ClaimBody, DeviceSelfView
from certmint.enrolment import batches, devices, ownership, products, revocation, work
from certmint.enrolment.access import Entrance
from certmint.model.desk import JobKind
from certmint.model.entities import Batch
from certmint.model.errors import BadInput, NotFound
from certmint.model.manifest import parse_manifest
from certmint.model.states import DeviceEvent, DeviceState
from certmint.registry import reads

MAX_MANIFEST = 64 * 1024 * 1024
_DEVICE = "/devices/{serial_number:path}"
_TEXT = {"schema": {"type": "string"}}
_MANIFEST = {"requestBody": {"required": True, "content": {"text/csv": _TEXT, NDJSON: _TEXT}}}


def fleet_routes(services: Services, router: APIRouter) -> None:
    """Add the routes to `router`."""
    _ownership_routes(services, router)
    _state_routes(services, router)
    _device_routes(services, router)
    _owner_routes(services, router)
    _batch_routes(services, router)
    _package_routes(services, router)


def _device_routes(services: Services, router: APIRouter) -> None:
    db, clock = services.db, services.clock

    @router.get("/devices", dependencies=LISTED)
    def list_devices(
        me: Me,
        request: Request,
        response: Response,
        state: DeviceState | None = None,
        product: Annotated[str | None, Query(description="a product's id", max_length=64)] = None,
        batch: Annotated[str | None, Query(description="a batch's id", max_length=64)] = None,
        owner: Annotated[str | None, Query(description="an owner's id", max_length=64)] = None,
        prefix: Annotated[
            str | None, Query(description="what serial numbers begin with", max_length=64)
        ] = None,
        after: After = None,
        limit: Limit = 100,
    ) -> Page[views.DeviceRow]:
        """Devices in the order of their serial numbers."""
        return listing(  # type: ignore[no-any-return]  # a page or a stream
            db, request, response,
            lambda tx, last, count: reads.devices(
                tx, me.tenant.id, state=state, product_id=product, batch_id=batch,
                owner_id=owner, prefix=prefix, after=last, limit=count,
            ),
            views.DeviceRow.of, lambda each: each.serial_number, after, limit,
        )  # fmt: skip

    @router.post(
        "/devices/changes",
        status_code=202,
        responses=linked(202, "job_id=id", "show_job", "cancel_job", "follow_job"),
    )
    def change_devices(me: Me, body: views.DevicesChange, response: Response) -> views.JobView:
        """The same change for many devices: a job, whose outcome names who was refused."""
        job = work.order(
            db, me, JobKind.CHANGE_DEVICES, body.model_dump(mode="json"),
            len(body.serial_numbers), clock(), services.random_bytes,
        )  # fmt: skip
        response.headers["Location"] = f"/api/v1/jobs/{job.id}"
        return views.JobView.of(job)

    @router.get(_DEVICE + "/certificates", dependencies=LISTED)
    def list_device_certificates(
        me: Me, request: Request, response: Response, serial_number: str,
        after: After = None, limit: Limit = 100,
    ) -> Page[views.CertificateRow]:  # fmt: skip
        """A device's certificates, oldest first."""
        target = devices.view_by_serial_number(db, me.tenant.id, serial_number)
        return listing(  # type: ignore[no-any-return]  # a page or a stream
            db, request, response,
            lambda tx, last, count: reads.certificates(
                tx, me.tenant.id, device_id=target.device.id, with_der=False, after=last,
                limit=count,
            ),
            views.CertificateRow.of, lambda each: each.serial, after, limit,
        )  # fmt: skip

    @router.get(_DEVICE, dependencies=LISTED)
    def show_device(me: Me, serial_number: str) -> DeviceSelfView:
        """One device: its names, its newest certificate, and when that renews."""
        target = devices.view_by_serial_number(db, me.tenant.id, serial_number)
        return DeviceSelfView.of(target, clock())


def _ownership_routes(services: Services, router: APIRouter) -> None:
    db, clock = services.db, services.clock

    @router.post(_DEVICE + "/claim")
    def claim_device(me: Me, serial_number: str, body: ClaimBody) -> DeviceSelfView:
        """Make an account the owner of an unclaimed device."""
        devices.claim(db, me.tenant, serial_number, body.username, by=me.by, now=clock())
        return _shown(services, me, serial_number)

    @router.post(_DEVICE + "/release")
    def release_device(me: Me, serial_number: str) -> DeviceSelfView:
        """Take a device from its owner: whoever has its label can claim it."""
        ownership.release(db, me.tenant.id, serial_number, None, by=me.by, now=clock())
        return _shown(services, me, serial_number)

    @router.post(_DEVICE + "/transfer")
    def transfer_device(me: Me, serial_number: str, body: ClaimBody) -> DeviceSelfView:
        """Hand a device from its owner to another account at once."""
        ownership.hand_on(db, me.tenant.id, serial_number, body.username, by=me.by, now=clock())
        return _shown(services, me, serial_number)


def _state_routes(services: Services, router: APIRouter) -> None:
    db, clock = services.db, services.clock

    @router.post(_DEVICE + "/suspension")
    def suspend_device(me: Me, serial_number: str) -> DeviceSelfView:
        """Refuse a device's requests until it is resumed; its certificates stay."""
        devices.move(db, me.tenant.id, serial_number, DeviceEvent.SUSPENDED, by=me.by, now=clock())
        return _shown(services, me, serial_number)

    @router.post(_DEVICE + "/resumption")
    def resume_device(me: Me, serial_number: str) -> DeviceSelfView:
        """Let a suspended device in again, whatever it was suspended for."""
        devices.move(db, me.tenant.id, serial_number, DeviceEvent.RESUMED, by=me.by, now=clock())
        return _shown(services, me, serial_number)

    @router.post(_DEVICE + "/retirement")
    def retire_device(me: Me, serial_number: str) -> DeviceSelfView:
        """Take a device out of service for good; its certificates are revoked."""
        revocation.retire_device(
            db, services.keys, me.tenant.id, serial_number, by=me.by, now=clock()
        )
        return _shown(services, me, serial_number)


def _shown(services: Services, me: Entrance, serial_number: str) -> DeviceSelfView:
    target = devices.view_by_serial_number(services.db, me.tenant.id, serial_number)
    return DeviceSelfView.of(target, services.clock())


def _owner_routes(services: Services, router: APIRouter) -> None:
    db, clock = services.db, services.clock

    @router.get("/owners", dependencies=LISTED)
    def list_owners(
        me: Me, request: Request, response: Response, after: After = None, limit: Limit = 100
    ) -> Page[views.OwnerView]:
        """Customers with an account at the maker, by user name."""
        return listing(  # type: ignore[no-any-return]  # a page or a stream
            db, request, response,
            lambda tx, last, count: reads.owners(tx, me.tenant.id, after=last, limit=count),
            views.OwnerView.of, lambda each: each.username, after, limit,
        )  # fmt: skip

    @router.post("/owners", status_code=201, responses=linked(201, "owner_id=id", "show_owner"))
    def create_owner(me: Me, body: views.OwnerBody, response: Response) -> views.OwnerView:
        """Add a customer's account."""
        made = devices.add_owner(
            db, me.tenant, body.username, body.password,
            by=me.by, now=clock(), random_bytes=services.random_bytes,
        )  # fmt: skip
        response.headers["Location"] = f"/api/v1/owners/{made.id}"
        return views.OwnerView.of(made)

    @router.get("/owners/{owner_id}", dependencies=LISTED)
    def show_owner(me: Me, owner_id: str) -> views.OwnerView:
        """One customer."""
        with db.read() as tx:
            found = reads.owner(tx, me.tenant.id, owner_id)
        if found is None:
            raise NotFound("owner-unknown", f"there is no owner {owner_id!r}")
        return views.OwnerView.of(found)


def _batch_routes(services: Services, router: APIRouter) -> None:
    db, clock = services.db, services.clock

    @router.get("/batches", dependencies=LISTED)
    def list_batches(
        me: Me, request: Request, response: Response, after: After = None, limit: Limit = 100
    ) -> Page[views.BatchView]:
        """Factory runs, oldest first."""
        return listing(  # type: ignore[no-any-return]  # a page or a stream
            db, request, response,
            lambda tx, last, count: reads.batches(tx, me.tenant.id, after=last, limit=count),
            views.BatchView.of, lambda each: each.id, after, limit,
        )  # fmt: skip

    @router.post(
        "/batches",
        status_code=201,
        openapi_extra=_MANIFEST,
        responses=linked(201, "batch_id=id", "show_batch", "mint_batch", "fetch_packages"),
    )
    async def submit_batch(
        me: Me,
        request: Request,
        response: Response,
        product: Annotated[str, Query(description="a product's name", max_length=64)],
    ) -> views.BatchView:
        """Take a manifest as CSV or NDJSON. The same one again is the same batch."""
        data = await _upload(request)

        def submit() -> Batch:
            return batches.submit(
                db, me.tenant, products.product_named(db, me.tenant, product),
                parse_manifest(data), by=me.by, now=clock(), random_bytes=services.random_bytes,
            )  # fmt: skip

        made = await run_in_threadpool(submit)
        response.headers["Location"] = f"/api/v1/batches/{made.id}"
        return views.BatchView.of(made)

    @router.get("/batches/{batch_id}", dependencies=LISTED)
    def show_batch(me: Me, batch_id: str) -> views.BatchView:
        """One batch, and how many of its devices are in each state."""
        found = batches.batch_of(db, me.tenant, batch_id)
        with db.read() as tx:
            counts = reads.count_devices_by_state(tx, me.tenant.id, found.id)
        return views.BatchView.of(found, {state.value: n for state, n in counts.items()})


def _package_routes(services: Services, router: APIRouter) -> None:
    db, clock = services.db, services.clock

    @router.post(
        "/batches/{batch_id}/minting",
        status_code=202,
        responses=linked(202, "job_id=id", "show_job", "cancel_job"),
    )
    def mint_batch(
        me: Me, batch_id: str, body: views.MintBody, response: Response
    ) -> views.JobView:
        """Mint what is left of a batch: a job. Fetch the packages when it is done."""
        found = batches.batch_of(db, me.tenant, batch_id)
        sealed = services.vault.lock(body.passphrase.encode(), found.id, services.random_bytes)
        job = work.order(
            db, me, JobKind.MINT_BATCH, {"batch": found.id, "passphrase": sealed.hex()},
            found.size, clock(), services.random_bytes,
        )  # fmt: skip
        response.headers["Location"] = f"/api/v1/jobs/{job.id}"
        return views.JobView.of(job)

    @router.get(
        "/batches/{batch_id}/packages",
        response_class=FileResponse,
        responses={200: {"content": {NDJSON: _TEXT}}},
    )
    def fetch_packages(me: Me, batch_id: str) -> FileResponse:
        """The packages that this node has minted, a line a device; their keys are encrypted."""
        path = _packages(services, me, batch_id)
        return FileResponse(path, media_type=NDJSON, filename=f"{batch_id}.jsonl")

    @router.delete("/batches/{batch_id}/packages", status_code=204)
    def drop_packages(me: Me, batch_id: str) -> None:
        """Forget the packages, once the line has them."""
        path = _packages(services, me, batch_id)
        batches.drop_packages(db, me.tenant, batch_id, path, by=me.by, now=clock())


def _packages(services: Services, me: Entrance, batch_id: str) -> Path:
    return work.packages_file(services.db, me.tenant, services.packages, batch_id)


async def _upload(request: Request) -> bytes:
    if not is_upload(request.headers.get("content-type", "")):
        raise BadInput("manifest-type", f"send a manifest as text/csv or {NDJSON}")
    pieces, size = [], 0
    async for piece in request.stream():
        size += len(piece)
        if size > MAX_MANIFEST:
            raise BadInput("manifest-type", f"a manifest has at most {MAX_MANIFEST} bytes")
        pieces.append(piece)
    return b"".join(pieces)
