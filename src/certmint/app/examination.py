"""What `certmint doctor` looks at. Each check ends in one sentence that a person can act on."""

import datetime as dt
import os
import shutil
import socket
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from certmint.app import config, jobs, tls, wiring
from certmint.enrolment.devices import CLONED
from certmint.enrolment.reconcile import GRACE
from certmint.model.entities import Authority
from certmint.model.errors import CertmintError, Misconfigured
from certmint.model.states import AuthorityState, DeviceState
from certmint.registry import audit, reads
from certmint.registry.engine import open_database

LOW_DISK = 512 * 1024 * 1024
SOON = dt.timedelta(days=90)


@dataclass(frozen=True)
class Finding:
    """One check: whether it is well, and the sentence."""

    check: str
    ok: bool
    detail: str


def examine(config_path: Path) -> list[Finding]:
    """Every check that can still be made; a failing one that others build on ends the list."""
    found: list[Finding] = []
    try:
        loaded = config.load(config_path)
    except CertmintError as error:
        return [Finding("configuration", False, str(error))]
    found.append(Finding("configuration", True, f"{loaded.path} is sound"))
    found += [
        _attempt("secrets", lambda: _secrets(loaded)),
        _attempt("disk", lambda: _disk(loaded)),
    ]
    database = _attempt("database", lambda: _database(loaded))
    found.append(database)
    if not database.ok:
        return found
    here = wiring.open_installation(loaded)
    try:
        found += [
            _attempt("audit chain", lambda: _audit(here)),
            _attempt("issuances", lambda: _orphans(here)),
            _attempt("devices", lambda: _clones(here)),
            *_authorities(here),
            _attempt("server certificate", lambda: _server(here)),
            _attempt("listeners", lambda: _listeners(loaded)),
            _attempt("dns", lambda: _dns(here)),
        ]
    finally:
        here.close()
    return found


def _attempt(check: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(check, True, look())
    except CertmintError as error:
        return Finding(check, False, str(error))


def _wrong(detail: str) -> Misconfigured:
    return Misconfigured("doctor", detail)


def _secrets(loaded: config.Config) -> str:
    wiring.secret_reader(loaded)("keys")
    path = loaded.resolve(loaded.settings.keys.passphrase_file)
    if path.exists() and stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise _wrong(f"others may read {path}: chmod 600 {path}")
    folder = loaded.resolve(loaded.settings.keys.folder)
    for key in sorted(folder.glob("*")) if folder.exists() else []:
        if stat.S_IMODE(key.stat().st_mode) & 0o077:
            raise _wrong(f"others may read {key}: chmod 600 {key}")
    return "the passphrase is there, and only its owner may read it and the keys"


def _disk(loaded: config.Config) -> str:
    usage = shutil.disk_usage(loaded.folder)
    free = f"{usage.free // (1024 * 1024)} MB free in {loaded.folder}"
    if usage.free < LOW_DISK:
        raise _wrong(f"only {free}: a full disk stops issuance")
    if not os.access(loaded.folder, os.W_OK):
        raise _wrong(f"{loaded.folder} cannot be written")
    return free


def _database(loaded: config.Config) -> str:
    db = open_database(loaded.database_url)
    try:
        if not db.is_current():
            raise _wrong(
                f"the database is at revision {db.schema_revision()}, not {db.head_revision()}: "
                "run `certmint database migrate`"
            )
        problems = db.integrity_check()
        if problems:
            raise _wrong(f"the database is damaged ({problems[0]}): restore a backup")
    finally:
        db.close()
    return "whole, and at this version's revision"


def _audit(here: wiring.Installation) -> str:
    with here.db.read() as tx:
        report = audit.verify(tx)
    if report.broken_at is not None:
        raise _wrong(f"event {report.broken_at} was changed or removed after it was written")
    return f"{report.events} events, unbroken"


def _orphans(here: wiring.Installation) -> str:
    with here.db.read() as tx:
        orphans = reads.orphan_intents(tx, here.clock() - GRACE, 1000)
    if orphans:
        raise _wrong(
            f"{len(orphans)} issuances were cut off by a crash and wait for `certmint reconcile`"
        )
    return "every intent has its certificate or was revoked"


def _clones(here: wiring.Installation) -> str:
    """Devices whose identity was seen in two places: somebody has to look at them."""
    found: list[str] = []
    after = None
    with here.db.read() as tx:
        while page := reads.manufacturers(tx, after):
            for tenant in page:
                suspended = reads.devices(
                    tx, tenant.id, state=DeviceState.SUSPENDED, suspended_for=CLONED, limit=1000
                )
                found += [f"{tenant.slug}/{each.serial_number}" for each in suspended]
            after = page[-1].slug
    if found:
        raise _wrong(
            f"{len(found)} suspended as cloned, such as {', '.join(found[:3])}: revoke the "
            "identity, or `certmint device resume`"
        )
    return "no identity was seen in two places"


def _authorities(here: wiring.Installation) -> Iterator[Finding]:
    with here.db.read() as tx:
        known = reads.all_authorities(tx)
    for authority in known:
        name = f"authority {authority.name}"
        if authority.state is AuthorityState.PENDING:
            yield Finding(name, False, "has a key but no certificate: make it again by its name")
            continue

        yield _attempt(name, partial(_authority, here, authority))


def _authority(here: wiring.Installation, authority: Authority) -> str:
    now = here.clock()
    here.keys.of(authority)
    end = authority.not_after
    if end is None or end - now < SOON:
        raise _wrong(f"ends at {end}: make its successor now")
    for shard in range(authority.crl_shards):
        with here.db.read() as tx:
            crl = reads.latest_crl(tx, authority.id, shard)
        if crl is None or crl.next_update < now:
            raise _wrong(f"CRL shard {shard} is missing or out of date: is the server running?")
    return f"its key opens, its CRLs are fresh, it ends {end.date().isoformat()}"


def _server(here: wiring.Installation) -> str:
    settings, resolve = here.config.settings.server, here.config.resolve
    anchors = jobs.trusted_anchors(here)
    tls.server_context(resolve(settings.certificate), resolve(settings.key), anchors)
    return "certificate and key belong together"


def _listeners(loaded: config.Config) -> str:
    heard = []
    for name, address in (
        ("https", loaded.settings.server.https),
        ("http", loaded.settings.server.http),
    ):
        host, _, port = address.rpartition(":")
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.settimeout(1)
            running = probe.connect_ex((host.strip("[]"), int(port))) == 0
        heard.append(f"{name} {address} {'answers' if running else 'is not listening'}")
    return "; ".join(heard)


def _dns(here: wiring.Installation) -> str:
    here.resolver.txt("_certmint-challenge.example.com")
    return f"{', '.join(here.config.settings.dns.resolvers)} answers"
