"""Manufacturers, operators, domains, profiles and leases."""

import concurrent.futures
import dataclasses
import datetime as dt

import pytest
import sqlalchemy as sa

from certmint.model.entities import Manufacturer
from certmint.model.errors import CertmintError, Conflict, Misconfigured, WrongState
from certmint.model.profile import BUILT_IN, SERVICE
from certmint.model.subject import DistinguishedName
from certmint.registry import reads, schema, writes
from certmint.registry.engine import Database

NOW = dt.datetime(2026, 11, 23, 12, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)


def test_a_manufacturer_comes_back_equal(db: Database, maker) -> None:
    """By id and by slug, subject and times included."""
    with db.read() as tx:
        assert reads.manufacturer(tx, maker.id) == maker.manufacturer
        assert reads.manufacturer_by_slug(tx, "alpha") == maker.manufacturer
        assert reads.manufacturer(tx, "absent") is None
        assert reads.manufacturer_by_slug(tx, "absent") is None


@pytest.mark.parametrize("changes", [{"id": "m-2"}, {"slug": "other"}])
def test_a_manufacturer_exists_once(maker, changes: dict[str, str]) -> None:
    """Neither the slug nor the id can be taken twice."""
    again = dataclasses.replace(maker.manufacturer, **changes)

    with pytest.raises(Conflict) as refusal:
        maker.write(writes.add_manufacturer, again)

    assert refusal.value.code == "manufacturer-exists"


def test_manufacturers_are_listed_in_pages(db: Database) -> None:
    """Every tenant once, by slug, whatever the size of a page."""
    for slug in ("d", "b", "a", "e", "c"):
        made = Manufacturer(f"m-{slug}", slug, DistinguishedName(), NOW)
        db.write(lambda tx, m=made: writes.add_manufacturer(tx, m, by="x", at=NOW))
    seen: list[str] = []
    with db.read() as tx:
        while page := reads.manufacturers(tx, seen[-1] if seen else None, 2):
            seen += [each.slug for each in page]

    assert seen == ["a", "b", "c", "d", "e"]


def test_an_operator_is_known_by_name_and_id(db: Database, maker, rival) -> None:
    """Names are unique within a tenant and mean nothing in another one."""
    made, foreign = maker.new_operator(), rival.new_operator()
    maker.write(writes.add_operator, made)
    rival.write(writes.add_operator, foreign)

    with db.read() as tx:
        assert reads.operator_by_name(tx, maker.id, made.name) == made
        assert reads.operator(tx, rival.id, foreign.id) == foreign
        assert reads.operators(tx, maker.id) == [made]
    with pytest.raises(Conflict) as refusal:
        maker.write(writes.add_operator, dataclasses.replace(made, id="another"))
    assert refusal.value.code == "operator-exists"


def test_a_domain_is_verified_once(db: Database, maker) -> None:
    """The evidence and the moment are kept; a second verification changes nothing."""
    made = maker.new_validation()
    maker.write(writes.add_domain_validation, made)
    with db.read() as tx:
        assert reads.domain_validation(tx, maker.id, made.id) == made
        assert reads.verified_domains(tx, maker.id) == ()

    def verify(evidence: str) -> None:
        db.write(
            lambda tx: writes.mark_domain_verified(
                tx, maker.id, made.id, NOW + DAY, evidence, by="ada"
            )
        )

    verify("seen at ns1")
    with pytest.raises(WrongState) as refusal:
        verify("seen at ns2")

    assert refusal.value.code == "wrong-state"
    expected = dataclasses.replace(made, verified_at=NOW + DAY, evidence="seen at ns1")
    with db.read() as tx:
        assert reads.verified_domains(tx, maker.id) == (expected,)


def test_validations_are_listed_by_domain(db: Database, maker) -> None:
    """All attempts, or those for one domain."""
    first, second = maker.new_validation("1"), maker.new_validation("2", "example.org")
    maker.write(writes.add_domain_validation, first)
    maker.write(writes.add_domain_validation, second)

    with db.read() as tx:
        assert reads.domain_validations(tx, maker.id) == [first, second]
        assert reads.domain_validations(tx, maker.id, "example.org") == [second]
        assert reads.domain_validations(tx, maker.id, "example.net") == []
        one, other = sorted((first, second), key=lambda each: each.id)
        assert reads.domain_validations(tx, maker.id, limit=1) == [one]
        assert reads.domain_validations(tx, maker.id, after=one.id, limit=1) == [other]
    with pytest.raises(Conflict) as refusal:
        maker.write(writes.add_domain_validation, first)
    assert refusal.value.code == "validation-exists"


def test_the_random_value_is_not_written_to_the_audit_log(db: Database, maker) -> None:
    """Who reads the log cannot answer a challenge with it."""
    maker.write(writes.add_domain_validation, maker.new_validation())

    with db.read() as tx:
        log = tx.execute(sa.select(schema.audit_event.c.detail)).scalars().all()
    assert not any("random" in detail for detail in log)


def test_profiles_have_versions(db: Database, maker) -> None:
    """The newest version is the default, and an old certificate's version stays readable."""
    newer = dataclasses.replace(SERVICE, version=10, lifetime=dt.timedelta(days=47))
    for profile in (*BUILT_IN, dataclasses.replace(SERVICE, version=9), newer):
        maker.write(writes.add_profile, maker.id, profile)

    with db.read() as tx:
        assert reads.profile(tx, maker.id, "service") == newer
        assert reads.profile(tx, maker.id, "service", 1) == SERVICE
        assert reads.profile(tx, maker.id, "service", 2) is None
        assert reads.profile(tx, maker.id, "absent") is None
        assert len(reads.profiles(tx, maker.id)) == len(BUILT_IN) + 2
    with pytest.raises(Conflict) as refusal:
        maker.write(writes.add_profile, maker.id, dataclasses.replace(newer, lifetime=DAY))
    assert refusal.value.code == "profile-exists"


def test_a_profile_edited_in_the_database_is_not_used(db: Database, maker) -> None:
    """Somebody who widens a profile with SQL stops issuance instead of steering it."""
    maker.write(writes.add_profile, maker.id, SERVICE)
    column = schema.profile.c.document
    widened = sa.func.replace(column, '"accepts":[', '"accepts":[["operator-grant"],')
    db.write(lambda tx: tx.execute(sa.update(schema.profile).values(document=widened)))

    with pytest.raises(Misconfigured) as refusal, db.read() as tx:
        reads.profile(tx, maker.id, "service")

    assert refusal.value.code == "profile-altered"


def test_a_lease_has_one_holder_until_it_ends(db: Database) -> None:
    """A job runs on one node; when that node dies, another one takes over in time."""

    def take(holder: str, now: dt.datetime, until: dt.datetime) -> bool:
        return db.write(lambda tx: writes.take_lease(tx, "crl", holder, now, until))

    assert take("node-1", NOW, NOW + DAY)
    assert not take("node-2", NOW, NOW + DAY)
    assert take("node-1", NOW, NOW + 2 * DAY)  # its own may be prolonged
    assert not take("node-2", NOW + DAY, NOW + 3 * DAY)
    assert take("node-2", NOW + 2 * DAY, NOW + 3 * DAY)
    assert not take("node-1", NOW + 2 * DAY, NOW + 3 * DAY)
    assert take("node-2", NOW + 2 * DAY, NOW + 2 * DAY)  # given back
    assert take("node-1", NOW + 2 * DAY, NOW + 3 * DAY)


def test_of_many_nodes_that_want_a_lease_one_gets_it(db: Database) -> None:
    """A race for a lease has exactly one winner."""
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        won = list(
            pool.map(
                lambda n: db.write(
                    lambda tx: writes.take_lease(tx, "job", f"node-{n}", NOW, NOW + DAY)
                ),
                range(8),
            )
        )

    assert won.count(True) == 1


def test_a_tenant_that_does_not_exist_owns_nothing(db: Database, maker) -> None:
    """A row can only be added to a manufacturer that there is."""
    operator = dataclasses.replace(maker.new_operator(), tenant_id="nobody")

    with pytest.raises(CertmintError) as refusal:
        maker.write(writes.add_operator, operator)

    assert refusal.value.code == "reference-unknown"
