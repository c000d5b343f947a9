"""A fleet over years: the real decision and the real renewal windows, against a clock that runs.

Every renewal is weighed by `policy.decide` at its simulated moment, so the dated rule calendar,
the profile's lifetime and the issuer's end all count; the next one is planned by
`policy.renewal.window`. Nothing is signed, and no time passes but the simulated.
"""

import dataclasses
import datetime as dt
import heapq
import random
from collections import Counter
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import ec

from certmint.model.csr import CSR
from certmint.model.entities import (
    Authority,
    Device,
    DomainValidation,
    Product,
    ValidationMethod,
)
from certmint.model.evidence import OwnerLogin
from certmint.model.keys import PublicKey, public_key_of
from certmint.model.profile import Profile, Purpose
from certmint.model.request import CertificateRequest, Facts, Requester, RequesterKind
from certmint.model.states import AuthorityState, DeviceState
from certmint.model.subject import DistinguishedName
from certmint.policy.approval import Approval
from certmint.policy.decide import decide
from certmint.policy.renewal import window

HOUR = dt.timedelta(hours=1)
FIRST_RETRY = dt.timedelta(minutes=1)
LAST_RETRY = dt.timedelta(hours=6)


@dataclass(frozen=True)
class Outage:
    """The server does not answer from `start` until `end`."""

    start: dt.datetime
    end: dt.datetime


@dataclass(frozen=True)
class Plan:
    """What to simulate. `boxed` is the longest that a device lies in its box before first boot."""

    devices: int
    start: dt.datetime
    years: float
    profile: Profile
    renew_at: float
    boxed: dt.timedelta = dt.timedelta(0)
    outages: tuple[Outage, ...] = ()
    seed: int = 1

    @property
    def end(self) -> dt.datetime:
        return self.start + dt.timedelta(days=365.25 * self.years)


@dataclass(frozen=True)
class Result:
    """What came out. `valid_share` is of the time that devices were powered on.

    `lifetimes` lists each lifetime in days with the day on which it was first granted.
    """

    renewals: int
    valid_share: float
    peak_per_hour: int
    mean_per_hour: float
    peak_per_day: int
    mean_per_day: float
    lifetimes: tuple[tuple[dt.date, int], ...]
    per_week: tuple[int, ...]


@dataclass
class _Unit:
    device: Device
    valid_until: dt.datetime
    on_since: dt.datetime
    dark: dt.timedelta = dt.timedelta(0)
    retries: int = 0


def simulate(plan: Plan) -> Result:
    """Run the plan to its end. The same plan with the same seed gives the same result."""
    chance = random.Random(plan.seed)  # noqa: S311 (a simulation, not a key)
    world = _World(plan)
    units: list[_Unit] = []
    queue: list[tuple[dt.datetime, int]] = []
    hours: Counter[int] = Counter()
    lifetimes: dict[int, dt.date] = {}
    renewals = 0
    for number in range(plan.devices):
        device = world.device(number)
        made = world.certify(device, plan.start)
        boot = plan.start + plan.boxed * chance.random()
        units.append(_Unit(device, made.not_after, boot))
        heapq.heappush(queue, (max(boot, _moment(world, device, made, chance)), number))
    while queue and queue[0][0] < plan.end:
        now, number = heapq.heappop(queue)
        unit = units[number]
        if any(outage.start <= now < outage.end for outage in plan.outages):
            unit.retries += 1
            delay = min(LAST_RETRY, FIRST_RETRY * 2 ** min(unit.retries, 12)) * chance.random()
            heapq.heappush(queue, (now + max(delay, FIRST_RETRY), number))
            continue
        approval = world.certify(unit.device, now)
        unit.dark += max(dt.timedelta(0), now - max(unit.valid_until, unit.on_since))
        unit.valid_until, unit.retries = approval.not_after, 0
        renewals += 1
        hours[(now - plan.start) // HOUR] += 1
        lifetimes.setdefault((approval.not_after - approval.not_before).days + 1, now.date())
        heapq.heappush(queue, (_moment(world, unit.device, approval, chance), number))
    powered = dark = dt.timedelta(0)
    for unit in units:
        powered += plan.end - unit.on_since
        dark += unit.dark + max(dt.timedelta(0), plan.end - max(unit.valid_until, unit.on_since))
    return _result(plan, hours, renewals, 1 - dark / powered, lifetimes)


def _moment(world: "_World", device: Device, made: Approval, chance: random.Random) -> dt.datetime:
    suggested = window(device.id, made.not_before, made.not_after, world.product.renew_at)
    return suggested.start + (suggested.end - suggested.start) * chance.random()


def _result(
    plan: Plan,
    hours: Counter[int],
    renewals: int,
    share: float,
    lifetimes: dict[int, dt.date],
) -> Result:
    total = int((plan.end - plan.start) / HOUR)
    days: Counter[int] = Counter()
    weeks: Counter[int] = Counter()
    for hour, count in hours.items():
        days[hour // 24] += count
        weeks[hour // 168] += count
    return Result(
        renewals=renewals,
        valid_share=share,
        peak_per_hour=max(hours.values(), default=0),
        mean_per_hour=renewals / total,
        peak_per_day=max(days.values(), default=0),
        mean_per_day=renewals / (total / 24),
        lifetimes=tuple(sorted((since, length) for length, since in lifetimes.items())),
        per_week=tuple(weeks[week] for week in range(total // 168)),
    )


class _World:
    """One authority, one product, one validated domain; enough for policy to say yes."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._key: PublicKey = public_key_of(ec.generate_private_key(ec.SECP256R1()))
        name = DistinguishedName.of(CN="simulated")
        self._authority = Authority(
            id="ca", tenant_id="fleet", name="simulated", purpose=Purpose.SUBORDINATE,
            trust=plan.profile.trust, parent_id="root", subject=name,
            key=self._key, key_uri="", constraints=None, path_length=0,
            state=AuthorityState.ACTIVE, status_url="http://127.0.0.1", crl_shards=1,
            created_at=plan.start, not_before=plan.start - dt.timedelta(days=1),
            not_after=plan.end + dt.timedelta(days=3650),
        )  # fmt: skip
        self.product = Product(
            id="product", tenant_id="fleet", name="simulated", identity_authority_id="id",
            identity_profile="identity", service_authority_id="ca",
            service_profile=plan.profile.name, name_patterns=("{id}.dev.example.com",),
            renew_at=plan.renew_at,
        )  # fmt: skip

    def device(self, number: int) -> Device:
        return Device(
            id=f"device-{self._plan.seed}-{number}", tenant_id="fleet", product_id="product",
            serial_number=f"S{number}", label=f"s{number}", mac="", state=DeviceState.ACTIVE,
            batch_id=None, line=None, owner_id="owner", created_at=self._plan.start,
        )  # fmt: skip

    def certify(self, device: Device, now: dt.datetime) -> Approval:
        """Ask policy, as the device's owner would, at the simulated moment."""
        validated = DomainValidation(
            id="v", tenant_id="fleet", domain="example.com", method=ValidationMethod.DNS_TXT,
            random_value="", record_name="", created_at=now, expires_at=now, verified_at=now,
        )  # fmt: skip
        request = CertificateRequest(
            tenant_id="fleet",
            authority_id="ca",
            profile=self._plan.profile,
            key=CSR(b"", self._key, (), None),
            requester=Requester(RequesterKind.OWNER, "owner"),
            evidence=(OwnerLogin("owner", now),),
            names=self.product.names_of(device.label),
            device_id=device.id,
        )
        facts = Facts(
            authority=self._authority, ancestors=(), domains=(validated,), device=device,
            product=self.product, ct_logs=2,
        )  # fmt: skip
        return decide(request, facts, now)


def with_lifetime(profile: Profile, lifetime: dt.timedelta) -> Profile:
    """The same profile with another lifetime, to try it out."""
    return dataclasses.replace(profile, lifetime=lifetime)
