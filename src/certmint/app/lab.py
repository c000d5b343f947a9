"""A lab on loopback: a fresh installation with an ACME directory for any client to run against.

Nothing is taken on anybody's word: every order is validated as in the field, only against the
ports and the resolver of the lab.
"""

import datetime as dt
import os
from dataclasses import dataclass
from pathlib import Path

from certmint.app import config, servercert
from certmint.app.wiring import Installation, open_installation, vault
from certmint.enrolment import chains
from certmint.enrolment.acme.accounts import new_binding
from certmint.enrolment.acme.directories import Offer, add_directory
from certmint.enrolment.authorities import NewAuthority, create_authority
from certmint.enrolment.manufacturers import add_manufacturer
from certmint.model.acme import (
    DEFAULT_CHALLENGES,
    MIN_AUTO_RENEWAL,
    ChallengeType,
    RenewalTerms,
)
from certmint.model.errors import Conflict
from certmint.model.keys import KeyKind
from certmint.model.subject import DistinguishedName
from certmint.registry.engine import open_database

BY = "console:lab"
ISSUER_ROOT_FILE = "lab-root.pem"
EXTENDED = "extended"  # a second directory, with what only some clients understand
EVERYTHING = Offer(
    challenges=(
        *DEFAULT_CHALLENGES,
        ChallengeType.DNS_ACCOUNT_01,
        ChallengeType.DNS_PERSIST_01,
        ChallengeType.DEVICE_ATTEST_01,
    ),
    allows_subdomains=True,
    auto_renewal=RenewalTerms(MIN_AUTO_RENEWAL, dt.timedelta(days=30), allows_get=True),
)


@dataclass(frozen=True)
class Ports:
    """Where the lab listens, and where its validators look."""

    https: int = 14000
    http: int = 14080
    http01: int = 5002
    tlsalpn01: int = 5001


@dataclass(frozen=True)
class Lab:
    """A lab that is ready to serve. `kid` and `hmac_key` are empty without a binding."""

    installation: Installation
    directory_url: str
    ca_file: Path
    issuer_root: Path
    kid: str
    hmac_key: bytes


def build(folder: Path, ports: Ports, resolver: str, *, requires_binding: bool) -> Lab:
    """Make a lab in an empty folder. Raises Conflict `installation-exists`."""
    path = folder / config.FILE_NAME
    if path.exists():
        raise Conflict("installation-exists", f"{path} exists already: choose an empty folder")
    for name in ("keys", "secrets", "tls"):
        (folder / name).mkdir(parents=True, exist_ok=True, mode=0o700)
    (folder / "secrets/keys.passphrase").write_text(os.urandom(24).hex())
    (folder / "secrets/keys.passphrase").chmod(0o600)
    path.write_text(
        config.example(
            https=f"127.0.0.1:{ports.https}",
            http=f"127.0.0.1:{ports.http}",
            status=f"http://127.0.0.1:{ports.http}",
            resolvers=(resolver,),
            http_port=ports.http01,
            tls_port=ports.tlsalpn01,
            private_networks=(
                f"127.0.0.0/8:{ports.http01},{ports.tlsalpn01}",
                f"::1/128:{ports.http01},{ports.tlsalpn01}",
            ),
        )
    )
    loaded = config.load(path)
    db = open_database(loaded.database_url)
    db.migrate()
    db.close()
    here = open_installation(loaded)
    servercert.ensure(here)
    return _furnish(here, requires_binding=requires_binding)


def _furnish(here: Installation, *, requires_binding: bool) -> Lab:
    now, random_bytes = here.clock(), here.random_bytes
    tenant = add_manufacturer(
        here.db, "lab", DistinguishedName.of(O="certmint lab"),
        by=BY, now=now, random_bytes=random_bytes,
    )  # fmt: skip
    for name, profile, parent in (("lab-root", "root", None), ("lab-ca", "issuing", "lab-root")):
        wanted = NewAuthority(
            name=name,
            subject=DistinguishedName.of(O="certmint lab", CN=name),
            profile=profile,
            key_uri="file:keys/{id}.pem",
            key_kind=KeyKind.P256,
            status_url=here.config.settings.status.url,
            parent=parent,
        )
        made = create_authority(
            here.db, here.gate, here.keys, tenant, wanted,
            operator_id=BY, now=now, random_bytes=random_bytes,
        )  # fmt: skip
        if parent is None:
            here.config.resolve(ISSUER_ROOT_FILE).write_text(chains.pem(made.der))
    directory = add_directory(
        here.db, tenant, "acme", "lab-ca", ("service",), requires_binding=requires_binding,
        by=BY, now=now, random_bytes=random_bytes,
    )  # fmt: skip
    add_directory(
        here.db, tenant, EXTENDED, "lab-ca", ("service",), requires_binding=False,
        by=BY, now=now, random_bytes=random_bytes, offer=EVERYTHING,
    )  # fmt: skip
    kid, key = "", b""
    if requires_binding:
        binding, key = new_binding(
            here.db, vault(here.config), directory, product=None, device=None, is_reusable=True,
            lifetime=dt.timedelta(days=30), by=BY, now=now, random_bytes=random_bytes,
        )  # fmt: skip
        kid = binding.id
    url = f"{here.config.base_url}/acme/lab/acme/directory"
    ca_file = here.config.resolve(servercert.ROOT_FILE)
    return Lab(here, url, ca_file, here.config.resolve(ISSUER_ROOT_FILE), kid, key)
