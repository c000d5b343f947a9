"""Nothing crosses tenants; and no read of one tenant walks through the rows of all."""

import dataclasses
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa

from certmint.model.campaign import MemberState
from certmint.model.desk import ApprovalEvent, JobEvent
from certmint.model.entities import Manufacturer, RevocationReason
from certmint.model.errors import CertmintError
from certmint.model.profile import SERVICE
from certmint.model.subject import DistinguishedName
from certmint.registry import reads, schema, writes
from certmint.registry.engine import Database, Transaction
from certmint.registry.reads.askers import Pairing

from .belongings import asked, bought, campaign, campaigning, letter, member, offer, seen, waiting
from .tenant_calls import (
    LATER,
    NOTHING,
    NOW,
    READS,
    ROOT,
    WHO,
    WRITES,
    Read,
    Things,
    Write,
)


@pytest.fixture
def things(maker, client) -> Things:
    operator, validation, owner = (
        maker.new_operator(), maker.new_validation(), maker.new_owner(),
    )  # fmt: skip
    maker.write(writes.add_operator, operator)
    maker.lay_out(operator)
    maker.write(writes.add_domain_validation, validation)
    maker.db.write(
        lambda tx: writes.mark_domain_verified(tx, maker.id, validation.id, NOW, "seen", by="x")
    )
    maker.write(writes.add_owner, owner, "argon2")
    maker.write(writes.add_profile, maker.id, SERVICE)
    maker.write(writes.add_domain_mails, [letter(validation)])
    (device,) = maker.devices(1)
    issued = maker.issue(device)
    campaigning(maker)
    maker.write(writes.add_sws_order, bought(maker, operator))
    order = client.order(serial=issued.serial, authority_id=issued.authority_id)
    maker.db.write(lambda tx: known_by_more(tx, maker, device, owner))
    return Things(maker, operator, validation, owner, device, issued, client, order)


def known_by_more(tx: Transaction, maker: Any, device: Any, owner: Any) -> None:
    """What tells who asks for a device: secret, sighting, hardware, root, offers."""
    writes.set_label_secrets(tx, maker.id, "claim", [(device.id, "mac")], **WHO)
    writes.set_sighting(tx, maker.id, seen(device.id, "192.0.2.1"))
    writes.expect_hardware(tx, maker.id, device.id, "tpm-ek:ab", **WHO)
    writes.add_attestation_anchor(tx, maker.id, maker.product.id, ROOT, by="x")
    writes.set_transfer(tx, maker.id, offer(device.id, owner), **WHO)
    writes.set_pairing(tx, maker.id, device.id, Pairing(owner.id, "mac", LATER), **WHO)
    writes.link_identity(tx, maker.id, owner.id, "https://login", "jo", **WHO)
    writes.begin_device_login(tx, maker.id, waiting(device.id))
    writes.add_device_request(tx, asked(maker.id, device.id), by="x")
    writes.begin_owner_login(tx, maker.id, "state", at=NOW, until=LATER)
    writes.open_session(tx, maker.id, owner.id, "token", at=NOW, until=LATER)


@pytest.fixture
def stranger(db: Database, things: Things) -> str:
    """A manufacturer with nothing of its own, who knows every id and name of the other one."""
    made = Manufacturer("m-stranger", "stranger", DistinguishedName(), NOW)
    db.write(lambda tx: writes.add_manufacturer(tx, made, by="x", at=NOW))
    return made.id


def with_tenant(room: object) -> set[str]:
    """The functions of a room that take a tenant's id."""
    names = room.__all__
    return {
        name
        for name in names
        if inspect.isfunction(getattr(room, name))
        and "tenant_id" in inspect.signature(getattr(room, name)).parameters
    }


def test_every_function_with_a_tenant_is_tried_here() -> None:
    """A new read or write of tenant data cannot be forgotten below."""
    assert set(READS) == with_tenant(reads)
    assert set(WRITES) == with_tenant(writes)


def test_a_stranger_reads_nothing(db: Database, things: Things, stranger: str) -> None:
    """Knowing every id of another manufacturer shows not one of its rows."""
    for name, read in READS.items():
        with db.read() as tx:
            assert read(tx, things.maker.id, things) not in NOTHING, name
            assert read(tx, stranger, things) in NOTHING, name


def test_a_stranger_changes_nothing(db: Database, things: Things, stranger: str) -> None:
    """Knowing every id of another manufacturer changes not one of its rows."""
    things.maker.write(writes.add_authority, things.maker.pending_authority("pending"))
    before = everything_of(db, things.maker.id)
    for write in (WRITES | BY_VALUE).values():
        try:
            outcome = db.write(lambda tx, w=write: w(tx, stranger, things))
        except CertmintError:
            continue
        assert not outcome

    assert everything_of(db, things.maker.id) == before


def everything_of(db: Database, tenant_id: str) -> dict[str, object]:
    with db.read() as tx:
        return {
            table.name: tx.execute(sa.select(table).where(table.c.tenant_id == tenant_id)).all()
            for table in schema.metadata.sorted_tables
            if "tenant_id" in table.c
        }


def test_rows_of_two_tenants_cannot_refer_to_each_other(
    db: Database, things: Things, rival
) -> None:
    """Products, batches, devices and intents name only what their own manufacturer has."""
    maker = things.maker
    own_authority = rival.active_authority("own")
    foreign = dict.fromkeys(("identity_authority_id", "service_authority_id"), own_authority.id)
    attempts = [
        (writes.add_product, dataclasses.replace(maker.product, id="x", name="x", **foreign)),
        (
            writes.add_batch,
            dataclasses.replace(maker.batch, id="x", manifest_hash="x", product_id="prd-own"),
        ),
        (writes.add_devices, maker.new_devices(1, owner_id="own-of-rival")),
        (writes.add_devices, maker.new_devices(1, batch_id="bat-of-rival")),
    ]
    rival.new_product("of-rival")
    rival.new_batch("of-rival")
    rival.write(writes.add_devices, rival.new_devices(1, id="dev-of-rival"))
    rival.write(writes.add_owner, rival.new_owner("of-rival"), "argon2")
    for write, entity in attempts:
        with pytest.raises(CertmintError) as refusal:
            maker.write(write, entity)
        assert refusal.value.code == "reference-unknown"
    for changes in ({"authority_id": own_authority.id}, {"device_id": "dev-of-rival"}):
        with pytest.raises(CertmintError) as refusal:
            maker.record(maker.intent(**changes))
        assert refusal.value.code == "reference-unknown"


# Writes whose value says the tenant, with the wrong one in it.
BY_VALUE: dict[str, Write] = {
    "unlink_operator": lambda tx, t, x: writes.unlink_operator(
        tx, dataclasses.replace(x.operator, tenant_id=t), "https://idp", "a", **WHO
    ),
    "change_operator": lambda tx, t, x: writes.change_operator(
        tx, dataclasses.replace(x.operator, tenant_id=t), x.operator, **WHO
    ),
    "move_approval": lambda tx, t, x: writes.move_approval(
        tx,
        dataclasses.replace(x.maker.new_approval(x.operator), tenant_id=t),
        ApprovalEvent.REJECTED,
        by_operator=x.operator.id,
        at=NOW,
    ),
    "move_job": lambda tx, t, x: writes.move_job(
        tx, dataclasses.replace(x.maker.new_job(x.operator), tenant_id=t), JobEvent.STARTED, **WHO
    ),
    "set_answer": lambda tx, t, x: writes.set_answer(tx, x.maker.new_answer(t, x.operator)),
    "gather_members": lambda tx, t, _: writes.gather_members(
        tx, dataclasses.replace(campaign(t), gathered_to="f" * 40), "f" * 40, (), "g"
    ),
    "settle_members": lambda tx, t, x: writes.settle_members(
        tx, campaign(t), MemberState.PENDING, {MemberState.MISSED: [member(x)]}, at=NOW
    ),
    "revoke_members": lambda tx, t, x: writes.revoke_members(
        tx, campaign(t), [member(x)], RevocationReason.SUPERSEDED, **WHO
    ),
    "set_campaign_seen": lambda tx, t, _: writes.set_campaign_seen(tx, campaign(t), "mine"),
}

# Other reads that answer while clients wait; they serve every tenant.
FLEET_WIDE: dict[str, Read] = {
    "manufacturer_by_slug": lambda tx, _, x: reads.manufacturer_by_slug(tx, x.maker.slug),
    "operator_by_token": lambda tx, *_: reads.operator_by_token(tx, "hash", NOW),
    "operator_by_session": lambda tx, *_: reads.operator_by_session(tx, "session", NOW),
    "open_jobs": lambda tx, *_: reads.open_jobs(tx),
    "active_campaigns": lambda tx, *_: reads.active_campaigns(tx),
    "live_members": lambda tx, t, x: reads.live_members(tx, campaign(t), [member(x)], NOW),
    "successors": lambda tx, t, _: reads.successors(tx, campaign(t), "", "f" * 40),
    "domain_mail_by_value": lambda tx, *_: reads.domain_mail_by_value(tx, "hash"),
    "due_sws_orders": lambda tx, *_: reads.due_sws_orders(tx, NOW, 10),
    "due_domain_mails": lambda tx, *_: reads.due_domain_mails(tx, NOW, 10),
    "owner_of_session": lambda tx, *_: reads.owner_of_session(tx, "token", NOW),
    "authority_for_status": lambda tx, _, x: reads.authority_for_status(tx, x.maker.authority.id),
    "authority_by_key_id": lambda tx, _, x: reads.authority_by_key_id(
        tx, x.maker.authority.key.key_id.hex()
    ),
    "key_records": lambda tx, _, x: reads.key_records(tx, [x.certificate.key_fingerprint]),
    "presented_certificate": lambda tx, _, x: reads.presented_certificate(
        tx, x.maker.authority.id, x.certificate.serial
    ),
    "certificate_status": lambda tx, _, x: reads.certificate_status(
        tx, x.maker.authority.id, x.certificate.serial
    ),
    "revoked_entries": lambda tx, _, x: reads.revoked_entries(tx, x.maker.authority.id, 0),
    "orphan_intents": lambda tx, *_: reads.orphan_intents(tx, NOW, 10, since=NOW),
    "latest_crl": lambda tx, _, x: reads.latest_crl(tx, x.maker.authority.id, 0),
    "acme_directory": lambda tx, _, x: reads.acme_directory(tx, x.maker.slug, "main"),
    "acme_account": lambda tx, _, x: reads.acme_account(
        tx, x.client.directory.id, x.client.account.id
    ),
    "acme_account_by_key": lambda tx, _, x: reads.acme_account_by_key(
        tx, x.client.directory.id, x.client.account.thumbprint
    ),
    "acme_binding": lambda tx, _, x: reads.acme_binding(
        tx, x.client.directory.id, x.client.binding.id
    ),
    "acme_order": lambda tx, _, x: reads.acme_order(tx, x.client.account.id, x.order.id),
    "acme_orders": lambda tx, _, x: reads.acme_orders(
        tx, x.client.account.id, after=x.order.id, now=NOW
    ),
    "count_pending_acme_orders": lambda tx, _, x: reads.count_pending_acme_orders(
        tx, x.client.account.id, NOW
    ),
    "acme_stale_orders": lambda tx, *_: reads.acme_stale_orders(tx, NOW, 10),
    "acme_orders_of_authorization": lambda tx, _, x: reads.acme_orders_of_authorization(
        tx, x.order.authorization_ids[0]
    ),
    "acme_authorization": lambda tx, _, x: reads.acme_authorization(
        tx, x.client.account.id, x.order.authorization_ids[0]
    ),
    "live_acme_authorizations": lambda tx, _, x: reads.live_acme_authorizations(
        tx, x.client.account.id, [("dns", "r1.example.com", False)], NOW
    ),
    "valid_acme_authorizations": lambda tx, _, x: reads.valid_acme_authorizations(
        tx, x.client.account.id, [("dns", "r1.example.com", False)], NOW
    ),
    "acme_challenge": lambda tx, _, x: reads.acme_challenge(tx, x.client.account.id, x.challenge),
    "stale_acme_challenges": lambda tx, *_: reads.stale_acme_challenges(tx, NOW, 10),
}


@contextmanager
def statements_of(tx: Transaction) -> Iterator[list[str]]:
    """What SQLite is asked meanwhile, with the values in it, whoever asks it."""
    seen: list[str] = []
    driver = tx.connection.driver_connection
    driver.set_trace_callback(lambda text: seen.append(text) if text.startswith("SELECT") else None)
    yield seen
    driver.set_trace_callback(None)


def test_no_read_walks_through_a_whole_table(sqlite_db: Database, make_tenant, make_client) -> None:
    """With a million devices every read is still a search in an index."""
    maker = make_tenant(sqlite_db, "alpha")
    (device,) = maker.devices(1)
    client = make_client(maker)
    things = Things(
        maker, maker.new_operator(), maker.new_validation(), maker.new_owner(), device,
        maker.issue(device), client, client.order(),
    )  # fmt: skip
    walked = []
    for name, read in (READS | FLEET_WIDE).items():
        with sqlite_db.read() as tx:
            with statements_of(tx) as seen:
                read(tx, maker.id, things)
            assert seen, name
            for statement in seen:
                plan = tx.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}").all()
                walked += [(name, step.detail) for step in plan if is_walk(step.detail)]

    assert walked == []


def test_a_batch_is_counted_without_the_others(sqlite_db: Database, make_tenant) -> None:
    """Fifty batches on a page do not each walk through the devices of all."""
    maker = make_tenant(sqlite_db, "alpha")
    with sqlite_db.read() as tx:
        with statements_of(tx) as seen:
            reads.count_devices_by_state(tx, maker.id, "a batch")
        (plan,) = tx.exec_driver_sql(f"EXPLAIN QUERY PLAN {seen[0]}").all()
    assert "COVERING INDEX" in plan.detail
    assert "batch_id=?" in plan.detail


def is_walk(step: str) -> bool:
    return step.startswith("SCAN ") and step != "SCAN CONSTANT ROW"
