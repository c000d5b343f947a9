"""An ACME door over a house: one node of it, and the DNS that its validators see."""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from acme_client import BASE, Client, b64, jwk_of, mac_jws

from certmint.doors.acme.app import ACMEDoor, Services
from certmint.enrolment.acme.accounts import new_binding
from certmint.enrolment.acme.challenges import Network
from certmint.enrolment.acme.nonces import Nonces
from certmint.enrolment.issue import Gate
from certmint.enrolment.vault import Vault
from certmint.model.acme import Directory
from certmint.registry.engine import Database
from certmint.validation.dns import Answer
from certmint.validation.reach import Reach

from .house import DAY, OPERATOR, House

VAULT = Vault(bytes(32))


@dataclass
class Zone:
    """A resolver with the TXT records that were published."""

    records: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def txt(self, name: str) -> Answer:
        return Answer(self.records.get(name, ()), "192.0.2.53:53", authenticated=False)

    cname = addresses = txt


def node(house: House, zone: Zone, db: Database | None = None) -> ACMEDoor:
    """A door; one with a database handle of its own is another node of the installation."""
    own = db or house.db
    return ACMEDoor(
        Services(
            db=own,
            gate=Gate(own, house.keys, os.urandom),
            keys=house.keys,
            nonces=Nonces(own, b"one secret"),
            vault=VAULT,
            network=Network(zone, Reach(), ThreadPoolExecutor(2)),
            clock=house.clock,
            random_bytes=os.urandom,
            base_url=BASE,
        )
    )


def client(house: House, app: Any, where: Directory) -> Client:
    """A client with an account; bound to the whole manufacturer where that is required."""
    found = Client(app, f"/acme/example/{where.name}")
    more = {}
    if where.requires_binding:
        binding, secret = new_binding(
            house.db, VAULT, where, product=None, device=None, is_reusable=False, lifetime=DAY,
            by=OPERATOR, now=house.clock(), random_bytes=os.urandom,
        )  # fmt: skip
        header = {"kid": binding.id, "url": found.url("new-account")}
        more["externalAccountBinding"] = mac_jws(secret, header, jwk_of(found.key))
    answer = found.register(**more)
    assert answer.status == 201, answer.body
    return found


def publish(zone: Zone, owner: Client, authorization: Any, *, well: bool = True) -> str:
    """Put the record of dns-01 into the DNS, rightly or wrongly; the challenge's URL."""
    (challenge,) = (c for c in authorization["challenges"] if c["type"] == "dns-01")
    proof = hashlib.sha256(f"{challenge['token']}.{owner.thumbprint}".encode()).digest()
    name = f"_acme-challenge.{authorization['identifier']['value']}"
    zone.records[name] = (b64(proof) if well else "wrong",)
    return str(challenge["url"])
