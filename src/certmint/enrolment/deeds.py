"""What is done once a second operator has agreed: one function an operation with four eyes."""

import datetime as dt
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from certmint.enrolment import profiles, work
from certmint.enrolment.access import Entrance
from certmint.enrolment.approvals import Deed
from certmint.enrolment.authorities import create_authority
from certmint.enrolment.issue import Gate
from certmint.enrolment.signing import SigningKeys
from certmint.enrolment.wishes import (
    AuthorityKind,
    AuthorityWish,
    ConstraintsKind,
    new_authority,
)
from certmint.model.desk import JobKind, OperatorApproval
from certmint.model.keys import KeyKind
from certmint.model.operations import Operation
from certmint.model.serial import RandomBytes
from certmint.registry.engine import Database


@dataclass(frozen=True)
class Hands:
    """What the deeds work with. Authorities' keys go to `key_folder`."""

    db: Database
    gate: Gate
    keys: SigningKeys
    key_folder: str
    status_url: str
    clock: Callable[[], dt.datetime]
    random_bytes: RandomBytes = field(repr=False)

    @property
    def deeds(self) -> Mapping[Operation, Deed]:
        """The table that `approvals.approve` takes."""
        return {
            Operation.CREATE_AUTHORITY: self._create_authority,
            Operation.CHANGE_PROFILE: self._change_profile,
            Operation.REVOKE_CERTIFICATES: self._revoke_certificates,
        }

    def _create_authority(self, entrance: Entrance, approval: OperatorApproval) -> str:
        wanted = new_authority(
            entrance.tenant, wish_of(approval.document), self.key_folder, self.status_url
        )
        made = create_authority(
            self.db, self.gate, self.keys, entrance.tenant, wanted,
            operator_id=approval.requested_by, now=self.clock(), random_bytes=self.random_bytes,
        )  # fmt: skip
        return f"authority {made.name} {made.id}"

    def _change_profile(self, entrance: Entrance, approval: OperatorApproval) -> str:
        name, change = change_of(approval.document)
        made = profiles.change_profile(
            self.db, entrance.tenant, name, change,
            by=f"operator:{approval.requested_by}", now=self.clock(),
            version=json.loads(approval.document)["version"],
        )  # fmt: skip
        return f"profile {made.name} version {made.version}"

    def _revoke_certificates(self, entrance: Entrance, approval: OperatorApproval) -> str:
        document = json.loads(approval.document)
        job = work.order(
            self.db, entrance, JobKind.REVOKE_CERTIFICATES, document, len(document["serials"]),
            self.clock(), self.random_bytes,
        )  # fmt: skip
        return f"job {job.id}"


def wish_of(document: str) -> AuthorityWish:
    """An authority as an approval's document says it."""
    said: dict[str, Any] = json.loads(document)
    return AuthorityWish(
        **said
        | {
            "kind": AuthorityKind(said["kind"]),
            "constraints": ConstraintsKind(said["constraints"]),
            "key_kind": KeyKind(said["key_kind"]),
            "domains": tuple(said["domains"]),
        }
    )


def change_of(document: str) -> tuple[str, profiles.ProfileChange]:
    """A profile's name and change as an approval's document says them; times in seconds."""
    said: dict[str, Any] = json.loads(document)

    def seconds(name: str) -> dt.timedelta | None:
        value = said.get(name)
        return None if value is None else dt.timedelta(seconds=value)

    accepts = said.get("accepts")
    return said["name"], profiles.ProfileChange(
        lifetime=seconds("lifetime"),
        grace=seconds("grace"),
        accepts=None if accepts is None else tuple(accepts),
        plain_delivery=said.get("plain_delivery"),
    )
