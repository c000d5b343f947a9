"""The pages of the operators' console: overview, devices, batches, domains, approvals."""

import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, field

from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from certmint.doors.console.charts import Bar, bars, progress
from certmint.doors.console.session import (
    COOKIE,
    HOME,
    LOGIN,
    Clock,
    Visit,
    inside,
)
from certmint.enrolment import approvals, campaigns, domains, operators, overview
from certmint.enrolment.approvals import Deed
from certmint.enrolment.oidc import OIDC
from certmint.model.desk import ApprovalState
from certmint.model.errors import BadInput
from certmint.model.operations import Operation
from certmint.model.serial import RandomBytes
from certmint.model.states import DeviceState
from certmint.registry import reads
from certmint.registry.engine import Database

_PAGE = 50
_STATE_COLOURS = {
    DeviceState.EXPECTED: "quiet",
    DeviceState.PROVISIONED: "plain",
    DeviceState.ACTIVE: "good",
    DeviceState.SUSPENDED: "bad",
    DeviceState.RETIRED: "quiet",
}
_LEFT = (
    ("expired", "bad"), ("under 7 days", "bad"), ("7 to 30 days", "warn"),
    ("30 to 60 days", "plain"), ("60 to 90 days", "good"), ("90 to 200 days", "good"),
    ("longer", "quiet"),
)  # fmt: skip


@dataclass(frozen=True)
class Desk:
    """What the console's pages call into."""

    db: Database
    clock: Clock
    random_bytes: RandomBytes
    deeds: Mapping[Operation, Deed]
    counts: overview.Counts
    oidc: OIDC
    login_key: bytes = field(repr=False)


def desk_routes(desk: Desk, logins: list[Route]) -> list[Route]:
    """Every page below `/console/`; `logins` are those that come before a session."""

    def route(path: str, operation: Operation, handler: object, *methods: str) -> Route:
        endpoint = inside(desk.db, desk.clock, operation, handler)  # type: ignore[arg-type]
        return Route(path, endpoint, methods=list(methods) or ["GET"])

    pages = _Pages(desk)
    return [
        *logins,
        route("/console/logout", Operation.SHOW_SELF, pages.logout, "POST"),
        route(HOME, Operation.LIST_DEVICES, pages.overview),
        route("/console/devices", Operation.LIST_DEVICES, pages.devices),
        route("/console/devices/{serial_number:path}", Operation.SHOW_DEVICE, pages.device),
        route("/console/batches", Operation.LIST_BATCHES, pages.batches),
        route("/console/campaigns", Operation.LIST_CAMPAIGNS, pages.campaigns),
        route("/console/campaigns/approve", Operation.APPROVE_CAMPAIGN, pages.agree, "POST"),
        route("/console/domains", Operation.LIST_DOMAINS, pages.domains),
        route("/console/approvals", Operation.LIST_APPROVALS, pages.approvals),
        route("/console/approvals/approve", Operation.APPROVE, pages.approve, "POST"),
        route("/console/approvals/reject", Operation.REJECT, pages.reject, "POST"),
        Route("/console", lambda _request: RedirectResponse(HOME, 308)),
    ]


class _Pages:
    """One method a page."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def overview(self, visit: Visit) -> Response:
        seen = overview.look(self._desk.db, self._desk.counts, visit.me.tenant, self._desk.clock())
        states = [
            Bar(state.value, number, _STATE_COLOURS[state])
            for state, number in seen.devices.items()
        ]
        left = [
            Bar(label, number, colour)
            for (label, colour), number in zip(_LEFT, seen.ending, strict=True)
        ]
        lapsing = [age for age in seen.ages if age.days_left(seen.at) <= 30]
        return visit.show(
            "overview.html",
            seen=seen, total=sum(seen.devices.values()), lapsing=lapsing,
            states=bars("Devices by state", states),
            left=bars("Certificates in force by days left", left),
        )  # fmt: skip

    def devices(self, visit: Visit) -> Response:
        state, prefix, after = visit.query("state"), visit.query("q"), visit.query("after")
        if state and state not in list(DeviceState):
            raise BadInput("state-unknown", f"{state!r} is no state of a device")
        with self._desk.db.read() as tx:
            found = reads.devices(
                tx, visit.me.tenant.id, state=DeviceState(state) if state else None,
                prefix=prefix or None, after=after or None, limit=_PAGE + 1,
            )  # fmt: skip
        following = ""
        if len(found) > _PAGE:
            query = {"q": prefix, "state": state, "after": found[_PAGE - 1].serial_number}
            following = "?" + urllib.parse.urlencode({k: v for k, v in query.items() if v})
        return visit.show(
            "devices.html", devices=found[:_PAGE], following=following, prefix=prefix,
            state=state, states=[each.value for each in DeviceState],
        )  # fmt: skip

    def device(self, visit: Visit) -> Response:
        serial_number = visit.request.path_params["serial_number"]
        found = overview.life(self._desk.db, visit.me.tenant, serial_number)
        return visit.show("device.html", life=found, now=self._desk.clock())

    def batches(self, visit: Visit) -> Response:
        tenant = visit.me.tenant.id
        with self._desk.db.read() as tx:
            found = list(reversed(reads.batches(tx, tenant, limit=1_000)))[:_PAGE]
            rows = [(each, reads.count_devices_by_state(tx, tenant, each.id)) for each in found]
            products = {each.id: each.name for each in reads.products(tx, tenant, limit=1_000)}
        shown = []
        for each, counts in rows:
            done = each.size - counts.get(DeviceState.EXPECTED, 0)
            shown.append((each, products.get(each.product_id, ""), done, progress(done, each.size)))
        return visit.show("batches.html", batches=shown)

    def campaigns(self, visit: Visit) -> Response:
        tenant = visit.me.tenant.id
        with self._desk.db.read() as tx:
            found = list(reversed(reads.campaigns(tx, tenant, limit=1_000)))[:_PAGE]
            names = {f"operator:{each.id}": each.name for each in reads.operators(tx, tenant)}
        shown = [(each, progress(each.size - each.pending, each.size)) for each in found]
        return visit.show(
            "campaigns.html", campaigns=shown, names=names,
            may_agree=visit.me.may(Operation.APPROVE_CAMPAIGN),
        )  # fmt: skip

    def agree(self, visit: Visit) -> Response:
        campaigns.approve(
            self._desk.db, visit.me.tenant, visit.form.get("id", ""),
            by=visit.me.by, now=self._desk.clock(),
        )  # fmt: skip
        return RedirectResponse("/console/campaigns", 303)

    def domains(self, visit: Visit) -> Response:
        now = self._desk.clock()
        ages = domains.ages(self._desk.db, visit.me.tenant)
        return visit.show("domains.html", ages=ages, now=now)

    def approvals(self, visit: Visit) -> Response:
        with self._desk.db.read() as tx:
            found = reads.approvals(tx, visit.me.tenant.id, limit=_PAGE)
            names = {each.id: each.name for each in reads.operators(tx, visit.me.tenant.id)}
        now = self._desk.clock()
        waiting = [
            each for each in found
            if each.state in (ApprovalState.PENDING, ApprovalState.APPROVED)
            and (each.state is ApprovalState.APPROVED or now < each.expires_at)
        ]  # fmt: skip
        rest = [each for each in found if each not in waiting]
        return visit.show(
            "approvals.html", waiting=waiting, decided=rest, names=names,
            may_decide=visit.me.may(Operation.APPROVE),
        )  # fmt: skip

    def approve(self, visit: Visit) -> Response:
        approvals.approve(
            self._desk.db, visit.me, visit.form.get("id", ""), self._desk.deeds, self._desk.clock()
        )
        return RedirectResponse("/console/approvals", 303)

    def reject(self, visit: Visit) -> Response:
        approvals.reject(self._desk.db, visit.me, visit.form.get("id", ""), self._desk.clock())
        return RedirectResponse("/console/approvals", 303)

    def logout(self, visit: Visit) -> Response:
        operators.close_session(self._desk.db, visit.me.operator, visit.secret, self._desk.clock())
        response = RedirectResponse(LOGIN, 303)
        response.delete_cookie(COOKIE, path="/", secure=True, httponly=True, samesite="strict")
        return response
