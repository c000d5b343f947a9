"""Both databases, and a world to fill them with: two manufacturers that must never meet."""

import dataclasses
import datetime as dt
import hashlib
import itertools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from certmint.model.acme import (
    Account,
    AccountState,
    Authorization,
    AuthorizationState,
    Binding,
    Challenge,
    ChallengeState,
    ChallengeType,
    Directory,
    Identifier,
    IdentifierType,
    Order,
    OrderState,
)
from certmint.model.constraints import technically_constrained
from certmint.model.desk import APIToken, Job, JobKind, OperatorApproval
from certmint.model.entities import (
    Authority,
    Batch,
    Certificate,
    Device,
    DomainValidation,
    Manufacturer,
    Operator,
    Owner,
    Product,
    RevocationReason,
    Role,
    ValidationMethod,
)
from certmint.model.keys import SPKI_PREFIX, KeyKind, KeyOrigin, PublicKey
from certmint.model.names import DNSName
from certmint.model.operations import Operation
from certmint.model.profile import Purpose, Trust
from certmint.model.serial import Serial, new_serial
from certmint.model.states import AuthorityState, BatchState, DeviceState
from certmint.model.subject import DistinguishedName
from certmint.registry import audit, reads, schema, writes
from certmint.registry.desk_rows import Answer
from certmint.registry.engine import Database, Transaction, open_database
from certmint.registry.rows import Intent, Status

NOW = dt.datetime(2026, 11, 23, 12, 0, 0, 123456, tzinfo=dt.UTC)
FOR_EVER = dt.datetime(9999, 12, 31, 23, 59, 59, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)


class Tenant:
    """One manufacturer with an active authority, a product and a batch, all stored."""

    def __init__(self, db: Database, slug: str, ids: Iterator[int]) -> None:
        self.db = db
        self.slug = slug
        self._ids = ids
        subject = DistinguishedName.of(C="US", O=f"{slug}, Routers \\ Sons")
        self.manufacturer = Manufacturer(f"m-{slug}", slug, subject, NOW)
        self.id = self.manufacturer.id
        self._open: Transaction | None = None
        db.write(self._settle)

    def _settle(self, tx: Transaction) -> None:
        # All in one commit: most tests start with it.
        self._open = tx
        self.write(writes.add_manufacturer, self.manufacturer)
        self.authority = self.active_authority("service")
        self.product = self.new_product("router")
        self.batch = self.new_batch("manifest-1")
        self._open = None

    def write(self, work: Callable[..., Any], *args: Any, **named: Any) -> Any:
        """One write by "test" at NOW, in a transaction of its own."""
        if self._open is not None:
            return work(self._open, *args, by="test", at=NOW, **named)
        return self.db.write(lambda tx: work(tx, *args, by="test", at=NOW, **named))

    def pending_authority(self, name: str, **changes: Any) -> Authority:
        """Made, not stored."""
        number = next(self._ids)
        point = hashlib.sha512(f"{self.slug}{name}{number}".encode()).digest()
        made = Authority(
            id=f"ca-{self.slug}-{name}",
            tenant_id=self.id,
            name=name,
            purpose=Purpose.SUBORDINATE,
            trust=Trust.PRIVATE,
            parent_id=None,
            subject=DistinguishedName.of(C="US", O="Example", CN=f"{name} {self.slug}"),
            key=PublicKey(KeyKind.P256, SPKI_PREFIX[KeyKind.P256] + point),
            key_uri=f"file:{name}.pem",
            constraints=technically_constrained(
                ("example.com", "example.org"), DistinguishedName.of(C="US", O="Example")
            ),
            path_length=0,
            state=AuthorityState.PENDING,
            status_url="http://pki.example.com",
            crl_shards=4,
            created_at=NOW,
        )
        return dataclasses.replace(made, **changes)

    def active_authority(self, name: str, **changes: Any) -> Authority:
        """Stored and certified."""
        made = self.pending_authority(name, **changes)
        self.write(writes.add_authority, made)
        serial, der = self.serial(), b"authority " + name.encode()
        self.write(writes.certify_authority, self.id, made.id, serial, der, NOW, FOR_EVER)
        return dataclasses.replace(
            made, state=AuthorityState.ACTIVE, serial=serial, der=der, not_before=NOW,
            not_after=FOR_EVER,
        )  # fmt: skip

    def new_product(self, name: str) -> Product:
        """Stored."""
        made = Product(
            f"prd-{name}", self.id, name, self.authority.id, "identity", self.authority.id,
            "service", ("{id}.dev.example.com",), (DNSName("router.example.com"),),
        )  # fmt: skip
        self.write(writes.add_product, made)
        return made

    def new_batch(self, manifest_hash: str) -> Batch:
        """Stored."""
        made = Batch(
            f"bat-{manifest_hash}",
            self.id,
            self.product.id,
            manifest_hash,
            3,
            BatchState.DRAFT,
            NOW,
        )
        self.write(writes.add_batch, made)
        return made

    def new_operator(self, name: str = "ada") -> Operator:
        """Made, not stored."""
        return Operator(f"opr-{name}", self.id, name, Role.OPERATOR)

    def new_approval(self, operator: Operator) -> OperatorApproval:
        """Made, not stored."""
        return OperatorApproval(
            "apr", self.id, Operation.CREATE_AUTHORITY, "a root", "{}", operator.id, NOW, NOW + DAY
        )

    def new_job(self, operator: Operator) -> Job:
        """Made, not stored."""
        return Job("job", self.id, JobKind.VERIFY_AUDIT, "{}", operator.id, NOW)

    def new_answer(self, tenant_id: str, operator: Operator) -> Answer:
        """Made, not stored."""
        return Answer(tenant_id, operator.id, "key", "hash", NOW)

    def lay_out(self, operator: Operator) -> None:
        """One of everything that an operator leaves on the desk."""
        token = APIToken("tok", self.id, operator.id, "first", None, NOW, NOW + DAY)
        self.write(writes.add_token, token, "hash")
        self.write(writes.link_operator, operator, "https://idp", "a")
        self.write(writes.add_job, self.new_job(operator))

        def rest(tx: Transaction) -> None:
            writes.open_operator_session(tx, operator, "session", None, at=NOW, until=NOW + DAY)
            writes.add_approval(tx, self.new_approval(operator), at=NOW)
            writes.begin_answer(tx, self.new_answer(self.id, operator), NOW)

        self.db.write(rest)

    def new_validation(self, name: str = "1", domain: str = "example.com") -> DomainValidation:
        """Made, not stored."""
        return DomainValidation(
            f"val-{name}", self.id, domain, ValidationMethod.DNS_TXT, "random", f"_acme.{domain}",
            NOW, NOW + 30 * DAY,
        )  # fmt: skip

    def new_owner(self, username: str = "grace") -> Owner:
        """Made, not stored."""
        return Owner(f"own-{username}", self.id, username, NOW)

    def new_devices(self, count: int, **changes: Any) -> list[Device]:
        """Made, not stored; numbered in order from where the last call ended."""
        numbers = list(itertools.islice(self._ids, count))
        return [
            dataclasses.replace(
                Device(
                    f"dev-{n:06}", self.id, self.product.id, f"SN{n:06}", f"r{n:06}",
                    f"02:00:00:00:00:{n % 256:02x}", DeviceState.EXPECTED, self.batch.id, n, None,
                    NOW,
                ),
                **changes,
            )
            for n in numbers
        ]  # fmt: skip

    def devices(self, count: int) -> list[Device]:
        """Stored."""
        made = self.new_devices(count)
        self.write(writes.add_devices, made)
        return made

    def serial(self, at: dt.datetime = NOW) -> Serial:
        """A fresh one; later ones sort behind earlier ones."""
        number = next(self._ids)
        return new_serial(at, lambda size: number.to_bytes(size, "big"))

    def intent(self, device: Device | None = None, **changes: Any) -> Intent:
        """Made, not stored; with a key of its own."""
        serial = self.serial()
        made = Intent(
            serial=serial,
            authority_id=self.authority.id,
            tenant_id=self.id,
            profile="service",
            profile_version=1,
            purpose=Purpose.SERVICE,
            device_id=device.id if device else None,
            subject="",
            names=("r1.dev.example.com", "*.r1.dev.example.com"),
            key_fingerprint=hashlib.sha256(f"{self.slug} {serial}".encode()).hexdigest(),
            not_before=NOW,
            not_after=NOW + 90 * DAY,
            crl_shard=int(serial, 16) % 4,
            requester="device:x",
            evidence="[]",
            rules="names-validated key-unused",
            calendar="2026-11",
            tbs=b"tbs " + serial.encode(),
            call_id=f"call-{serial[-8:]}",
            recorded_at=NOW,
        )
        return dataclasses.replace(made, **changes)

    def record(self, *intents: Intent, origin: KeyOrigin = KeyOrigin.SUBSCRIBER) -> Any:
        """Stored; what was refused."""
        origins = {intent.key_fingerprint: origin for intent in intents}
        return self.db.write(lambda tx: writes.record_intents(tx, intents, origins))

    def store(self, *intents: Intent, at: dt.datetime = NOW) -> None:
        """Their certificates, stored."""
        issued = [(intent, self.der(intent)) for intent in intents]
        self.db.write(lambda tx: writes.record_issued(tx, issued, at))

    def issue(self, device: Device | None = None, **changes: Any) -> Intent:
        """Recorded and stored."""
        intent = self.intent(device, **changes)
        assert self.record(intent) == {}
        self.store(intent)
        return intent

    def revoke(
        self, intent: Intent, reason: RevocationReason = RevocationReason.SUPERSEDED
    ) -> None:
        """Its certificate, revoked."""
        self.write(writes.revoke_certificate, self.id, intent.authority_id, intent.serial, reason)

    def abandon(self, intent: Intent) -> None:
        """What `reconcile` does with it, twenty minutes later."""
        at = NOW + dt.timedelta(minutes=20)
        self.db.write(lambda tx: writes.abandon_intent(tx, intent, at))

    def status(self, intent: Intent) -> Status:
        """What a responder says of its serial."""
        with self.db.read() as tx:
            return reads.certificate_status(tx, intent.authority_id, intent.serial)

    def certificate(self, intent: Intent, **changes: Any) -> Certificate:
        """What the registry must hold once it was issued."""
        copied = {
            field.name: getattr(intent, field.name)
            for field in dataclasses.fields(Certificate)
            if hasattr(intent, field.name)
        }
        return Certificate(**copied | {"issued_at": NOW, "der": self.der(intent)} | changes)

    def last_event(self) -> audit.Entry:
        """The end of the audit log."""
        log = schema.audit_event
        with self.db.read() as tx:
            return audit.Entry(*tx.execute(sa.select(log).order_by(log.c.seq.desc())).first())

    def der(self, intent: Intent) -> bytes:
        """What the certificate of that intent is in these tests."""
        return b"certificate " + intent.serial.encode()


class Client:
    """An ACME client of one manufacturer: a directory, a binding and an account, all stored."""

    def __init__(self, tenant: Tenant, name: str = "main") -> None:
        self.tenant = tenant
        self.name = f"{tenant.slug}-{name}"
        self.directory = Directory(
            f"dir-{self.name}",
            tenant.id,
            name,
            tenant.authority.id,
            ("service", "short"),
            True,
            NOW,
        )
        tenant.write(writes.add_acme_directory, self.directory)
        self.binding = self.new_binding()
        tenant.write(writes.add_acme_binding, self.binding)
        self.account = self.new_account()
        assert tenant.write(writes.add_acme_account, self.account)

    def id(self, kind: str) -> str:
        """A fresh one; no other tenant has it."""
        return f"{kind}-{self.name}-{next(self.tenant._ids):06}"

    def new_binding(self, **changes: Any) -> Binding:
        """Made, not stored; it opens one account."""
        made = Binding(
            self.id("eab"), self.tenant.id, self.directory.id, self.tenant.product.id, None, False,
            b"sealed", NOW + DAY, NOW,
        )  # fmt: skip
        return dataclasses.replace(made, **changes)

    def new_account(self, **changes: Any) -> Account:
        """Made, not stored; with a key of its own."""
        made_id = self.id("acc")
        made = Account(
            made_id, self.tenant.id, self.directory.id, f"thumb-{made_id}", '{"kty":"EC"}',
            ("mailto:a@example.com", "mailto:b@example.com"), AccountState.VALID, self.binding.id,
            NOW,
        )  # fmt: skip
        return dataclasses.replace(made, **changes)

    def new_authorization(self, value: str = "r1.example.com", **changes: Any) -> Authorization:
        """Made, not stored; with two challenges whose ids run against their order."""
        made_id = self.id("authz")
        kinds = (ChallengeType.HTTP_01, ChallengeType.DNS_01)
        challenges = tuple(
            Challenge(f"{kind}-{made_id}", made_id, kind, f"token-{kind}", ChallengeState.PENDING)
            for kind in kinds
        )
        made = Authorization(
            made_id, self.tenant.id, self.account.id, Identifier(IdentifierType.DNS, value), False,
            AuthorizationState.PENDING, NOW + DAY, NOW, challenges,
        )  # fmt: skip
        return dataclasses.replace(made, **changes)

    def new_order(self, *authorizations: Authorization, **changes: Any) -> Order:
        """Made, not stored."""
        made = Order(
            self.id("ord"), self.tenant.id, self.account.id, self.directory.id, "service",
            OrderState.PENDING, tuple(each.identifier for each in authorizations),
            tuple(each.id for each in authorizations), NOW + DAY, NOW,
        )  # fmt: skip
        return dataclasses.replace(made, **changes)

    def order(self, *authorizations: Authorization, **changes: Any) -> Order:
        """Stored, with authorizations that are all new; with one of its own if none is given."""
        new = authorizations or (self.new_authorization(),)
        made = self.new_order(*new, **changes)
        self.tenant.db.write(lambda tx: writes.add_acme_order(tx, made, new))
        return made

    def stored(self, order: Order) -> Order | None:
        """What the registry says of the order now."""
        with self.tenant.db.read() as tx:
            return reads.acme_order(tx, order.account_id, order.id)


class PostgreSQL:
    """Databases on the session's server; tests share one unless they want their own."""

    def __init__(self, server: Any) -> None:
        self.execute = server.execute
        self.url = server.url
        self._server = server
        self._deletions = [
            f"DELETE FROM {table.name}"  # noqa: S608 - our own names
            for table in reversed(schema.metadata.sorted_tables)
        ]
        self._shared = self.create()
        database = open_database(self._shared)
        database.migrate()
        database.close()

    def create(self) -> str:
        """A database of its own with nothing in it."""
        return self.url(self._server.create())

    def emptied(self) -> str:
        """The shared database with the current schema; what an earlier test left is deleted."""
        with psycopg.connect(self._shared) as connection:
            connection.execute("; ".join(self._deletions).encode())
            connection.execute("INSERT INTO audit_head VALUES (1, 0, %s)", [audit.START])
        return self._shared


@pytest.fixture(scope="session")
def postgresql(postgresql_server: Any) -> PostgreSQL:
    return PostgreSQL(postgresql_server)


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "registry.db"
    database = open_database(f"sqlite:{path}")
    database.migrate()
    database.close()
    return path


ENGINES = ("sqlite", pytest.param("postgresql", marks=pytest.mark.postgres))


@pytest.fixture(params=ENGINES)
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a database can be: no schema yet."""
    if request.param == "sqlite":
        return f"sqlite:{tmp_path / 'registry.db'}"
    server: PostgreSQL = request.getfixturevalue("postgresql")
    return server.create()


@pytest.fixture(params=ENGINES)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database with the current schema and nothing in it."""
    if request.param == "sqlite":
        path = tmp_path / "registry.db"
        shutil.copy(request.getfixturevalue("sqlite_template"), path)
        return f"sqlite:{path}"
    server: PostgreSQL = request.getfixturevalue("postgresql")
    return server.emptied()


@pytest.fixture
def db(url: str) -> Iterator[Database]:
    database = open_database(url)
    yield database
    database.close()


@pytest.fixture
def sqlite_db(tmp_path: Path, sqlite_template: Path) -> Iterator[Database]:
    path = tmp_path / "registry.db"
    shutil.copy(sqlite_template, path)
    database = open_database(f"sqlite:{path}", busy_timeout=dt.timedelta(milliseconds=50))
    yield database
    database.close()


def make_tenant(db: Database, slug: str, ids: Iterator[int] | None = None) -> Tenant:
    return Tenant(db, slug, itertools.count(1) if ids is None else ids)


@pytest.fixture
def maker(db: Database) -> Tenant:
    """The manufacturer that the test is about."""
    return make_tenant(db, "alpha")


@pytest.fixture
def rival(db: Database, maker: Tenant) -> Tenant:
    """Another one on the same database, whose ids and names are the same as `maker`'s."""
    return make_tenant(db, "beta")


@pytest.fixture
def client(maker: Tenant) -> Client:
    """An ACME client of `maker`."""
    return Client(maker)


@pytest.fixture(name="make_client")
def make_client_fixture() -> Callable[..., Client]:
    """For tests with several clients."""
    return Client


@pytest.fixture(name="make_tenant")
def make_tenant_fixture() -> Callable[[Database, str], Tenant]:
    """For tests that open a database of their own."""
    return make_tenant
