"""Products: which names, profiles and authorities the devices of one model use."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import replace

from certmint.enrolment.authorities import authority_named, profile_named
from certmint.enrolment.manufacturers import new_id
from certmint.model.acceptance import (
    DEFAULT,
    STRICT,
    Acceptance,
    parse_acceptance,
    parse_situations,
)
from certmint.model.entities import Manufacturer, Product
from certmint.model.errors import BadInput, NotFound
from certmint.model.names import parse_name
from certmint.model.profile import Purpose
from certmint.model.serial import RandomBytes
from certmint.registry import reads, writes
from certmint.registry.engine import Database


def add_product(
    db: Database,
    tenant: Manufacturer,
    name: str,
    *,
    identity: tuple[str, str],
    service: tuple[str, str],
    patterns: tuple[str, ...],
    shared_names: tuple[str, ...],
    renew_at: float,
    by: str,
    now: dt.datetime,
    random_bytes: RandomBytes,
    accepts: tuple[str, ...] = (),
    grace: dt.timedelta | None = None,
    approval: tuple[str, ...] = (),
    channel_linking: bool = False,
) -> Product:
    """A new device model. `identity` and `service` are (profile, authority) by name.

    `accepts` are lines as `policy_of` reads them; `grace` bounds the profile's; `approval` are the
    situations where an operator decides, as `parse_situations` reads them. Raises BadInput
    `acceptance-syntax` or `product-syntax`, NotFound for the things it names, Conflict
    `product-exists`.
    """
    with db.read() as tx:
        for (profile, _), purpose in ((identity, Purpose.IDENTITY), (service, Purpose.SERVICE)):
            if profile_named(tx, tenant.id, profile).purpose is not purpose:
                raise BadInput("product-syntax", f"profile {profile!r} is not for {purpose} use")
        authorities = [authority_named(tx, tenant.id, each[1]).id for each in (identity, service)]
    made = Product(
        id=new_id("prd", now, random_bytes),
        tenant_id=tenant.id,
        name=name,
        identity_authority_id=authorities[0],
        identity_profile=identity[0],
        service_authority_id=authorities[1],
        service_profile=service[0],
        name_patterns=patterns,
        shared_names=tuple(map(parse_name, shared_names)),
        renew_at=renew_at,
        accepts=policy_of(accepts),
        grace=grace,
        approval=parse_situations(approval),
        channel_linking=channel_linking,
    )
    db.write(lambda tx: writes.add_product(tx, made, by=by, at=now))
    return made


def set_policy(
    db: Database,
    product: Product,
    accepts: Sequence[str],
    *,
    grace: dt.timedelta | None,
    by: str,
    now: dt.datetime,
    approval: Sequence[str] = (),
    channel_linking: bool | None = None,
) -> Product:
    """Change what a product asks for; what is not named, empty or None stays as it is.

    It holds from the commit on, for every request that is weighed after it. Raises BadInput
    `acceptance-syntax` or `product-syntax`.
    """
    changed = replace(
        product,
        accepts=policy_of(accepts, product.accepts),
        grace=product.grace if grace is None else grace,
        approval=parse_situations(approval) if approval else product.approval,
        channel_linking=product.channel_linking if channel_linking is None else channel_linking,
    )
    db.write(lambda tx: writes.set_product_policy(tx, changed, by=by, at=now))
    return changed


def policy_of(lines: Sequence[str], base: Acceptance = DEFAULT) -> Acceptance:
    """A policy by its lines, or by the one word `default` or `strict` first."""
    named = {"default": DEFAULT, "strict": STRICT}
    if lines and lines[0].strip() in named:
        base, lines = named[lines[0].strip()], lines[1:]
    return parse_acceptance(lines, base)


def product_named(db: Database, tenant: Manufacturer, name: str) -> Product:
    """Raises NotFound `product-unknown`."""
    with db.read() as tx:
        found = reads.product_by_name(tx, tenant.id, name)
    if found is None:
        raise NotFound(
            "product-unknown", f"there is no product {name!r}: see `certmint product list`"
        )
    return found
