"""Proof of control by e-mail, through a real SMTP server: sent, answered once, and forgotten."""

import datetime as dt
import json
import os
import socket
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from postoffice import Letter, PostOffice, post_office

from certmint.enrolment import approving, domains, emailing, manufacturers
from certmint.enrolment.emailing import Post
from certmint.enrolment.vault import Vault
from certmint.model.entities import DomainValidation
from certmint.model.errors import CertmintError, Unavailable
from certmint.model.mail import DomainMail, MailState, contact_addresses
from certmint.model.names import DNSName
from certmint.model.subject import DistinguishedName
from certmint.registry import reads, schema
from certmint.validation.email import SMTPServer

from .house import DAY, OPERATOR, House

BASE = "https://pki.example"
CONTACT = "hostmaster@example.net"
SOURCE = "203.0.113.9"


@pytest.fixture
def office() -> Iterator[PostOffice]:
    with post_office() as opened:
        yield opened


@pytest.fixture
def post(office: PostOffice) -> Post:
    return posting(office.port)


def posting(port: int) -> Post:
    server = SMTPServer("localhost", port, "none", "pki.test")
    return Post(server.send, "pki@pki.example", BASE, Vault(b"k" * 32))


def begin(
    house: House, post: Post, *to: str, domain: str = "example.net"
) -> tuple[DomainValidation, list[DomainMail]]:
    return emailing.begin(
        house.db, house.tenant, post, domain, to or (CONTACT,),
        by=OPERATOR, now=house.clock(), random_bytes=os.urandom,
    )  # fmt: skip


def sent(house: House, post: Post, office: PostOffice, *to: str) -> list[Letter]:
    """The letters of one attempt, in the order of `to`."""
    _, mails = begin(house, post, *to)
    for mail in mails:
        assert emailing.deliver(house.db, post, mail, house.clock())
    return office.letters[-len(mails) :]


def answer(house: House, value: str, *, approves: bool = True) -> approving.Invitation:
    return approving.answer(house.db, value, approves=approves, source=SOURCE, now=house.clock())


def refused(work, *args: object, **named: object) -> str:
    with pytest.raises(CertmintError) as refusal:
        work(*args, **named)
    assert "\n" not in refusal.value.detail
    return refusal.value.code


def mails_of(house: House, attempt: DomainValidation) -> list[DomainMail]:
    return house.read(reads.domain_mails, attempt.id)


def test_a_contact_approves(each_house: House, office: PostOffice, post: Post) -> None:
    """The value in the mail buys the evidence, with everything that an auditor asks for."""
    house = each_house
    (letter,) = sent(house, post, office)
    asked = approving.look(house.db, letter.value, house.clock())
    assert (asked.domain, asked.recipient) == ("example.net", CONTACT)
    answer(house, letter.value)

    (proof,) = [each for each in house.read(reads.verified_domains) if each.domain == "example.net"]
    evidence = json.loads(proof.evidence)
    assert evidence["method"] == "BR 3.2.2.4.4"
    assert (evidence["adn"], evidence["recipient"]) == ("example.net", CONTACT)
    assert evidence["source"] == SOURCE
    assert evidence["rules"] >= "2026"
    assert evidence["answered_at"] == proof.verified_at.isoformat()
    assert evidence["sent_at"] < evidence["answered_at"]
    house.gate.issue_one(house.leaf("a.example.net", issuer="issuing"), house.clock())


def test_the_message(house: House, office: PostOffice, post: Post) -> None:
    """One recipient each, a value each, and header fields that keep robots from answering."""
    letters = sent(house, post, office, "admin@example.net", "webmaster@example.net")
    assert [each.recipients for each in letters] == [
        ("admin@example.net",), ("webmaster@example.net",),
    ]  # fmt: skip
    assert len({each.value for each in letters}) == 2
    for each in letters:
        assert len(each.value) == 32  # base32 of 160 bits
        assert each.link.startswith(f"{BASE}/approve/")
        assert each.message["Auto-Submitted"] == "auto-generated"
        assert each.message["Message-ID"].endswith("@pki.example>")
        assert each.message["To"] == each.recipients[0]
        assert each.message["Date"].datetime <= house.clock()


def test_the_database_does_not_know_the_value(house: House, office: PostOffice, post: Post) -> None:
    """Whoever reads every row cannot answer for the contact."""
    (letter,) = sent(house, post, office)
    with house.db.read() as tx:
        for table in (schema.domain_mail, schema.domain_validation, schema.audit_event):
            for row in tx.execute(sa.select(table)):
                assert letter.value not in repr(tuple(row))


def test_a_value_works_once(each_house: House, office: PostOffice, post: Post) -> None:
    """Neither the same link nor a colleague's can be used after one yes."""
    first, second = sent(each_house, post, office, "admin@example.net", CONTACT)
    answer(each_house, first.value)
    for value in (first.value, second.value):
        assert refused(answer, each_house, value) == "validation-done"
        assert refused(approving.look, each_house.db, value, each_house.clock()) == (
            "validation-done"
        )


def test_one_no_ends_the_attempt(house: House, office: PostOffice, post: Post) -> None:
    """After a contact declined, nobody can approve; and nothing was proved."""
    first, second = sent(house, post, office, "admin@example.net", CONTACT)
    answer(house, first.value, approves=False)
    assert refused(answer, house, second.value) == "mail-declined"
    assert all(each.domain != "example.net" for each in house.read(reads.verified_domains))


def test_looking_decides_nothing(house: House, office: PostOffice, post: Post) -> None:
    """A scanner that opens the link a hundred times leaves the registry as it was."""
    attempt, (mail,) = begin(house, post)
    emailing.deliver(house.db, post, mail, house.clock())
    before = house.read(reads.audit_events, 0, 1000)
    for _ in range(100):
        approving.look(house.db, office.letters[0].value, house.clock())
    assert house.read(reads.audit_events, 0, 1000) == before
    assert mails_of(house, attempt)[0].state is MailState.SENT


@pytest.mark.parametrize("value", ["", "a" * 32, "é", "'; --"])
def test_a_wrong_value(house: House, office: PostOffice, post: Post, value: str) -> None:
    """What we never sent is not known, and neither is all but the last letter of what we did."""
    (letter,) = sent(house, post, office)
    assert refused(answer, house, value) == "mail-unknown"
    assert refused(answer, house, letter.value[:-1]) == "mail-unknown"


def test_a_value_dies_after_thirty_days(house: House, office: PostOffice, post: Post) -> None:
    """It works in its last second, and not in the next (BR 3.2.2.4.4)."""
    (late,), (last,) = sent(house, post, office), sent(house, post, office, "admin@example.net")
    house.clock.now += 30 * DAY - dt.timedelta(seconds=1)
    answer(house, last.value)
    house.clock.now += dt.timedelta(seconds=2)
    assert refused(answer, house, late.value) == "validation-expired"


@pytest.mark.parametrize(
    ("domain", "to", "code"),
    [
        ("example.net", ("info@example.net",), "mail-recipient"),
        ("example.net", ("admin@example.org",), "mail-recipient"),
        ("example.net", ("admin@net",), "mail-recipient"),
        ("example.net", ("admin@a.example.net",), "mail-recipient"),
        ("example.net", ("admin@example.net\r\nBcc: eve@example.org",), "mail-recipient"),
        ("example.net", (), "mail-recipient"),
        ("a.example.net", ("admin@a.example.net", "admin@example.net"), "mail-recipient"),
        ("example.net\r\nBcc: eve@example.org", ("admin@example.net",), "name-syntax"),
        ("*.example.net", ("admin@example.net",), "name-syntax"),
        ("192.0.2.1", ("admin@192.0.2.1",), "name-syntax"),
        ("co.uk", ("admin@co.uk",), "mail-domain"),
        ("router.lan", ("admin@router.lan",), "mail-domain"),
    ],
)
def test_who_may_not_be_asked(
    house: House, office: PostOffice, post: Post, domain: str, to: tuple[str, ...], code: str
) -> None:
    """Five constructed addresses of the domain or its parents, and nobody else."""

    def ask() -> None:
        emailing.begin(
            house.db, house.tenant, post, domain, to,
            by=OPERATOR, now=house.clock(), random_bytes=os.urandom,
        )  # fmt: skip

    assert refused(ask) == code
    assert office.letters == []


def test_a_parent_domain_is_validated_whole(house: House, office: PostOffice, post: Post) -> None:
    """Who answers for example.co.uk proves that, and not the name that was asked about."""
    accepted = emailing.accepted_addresses("a.b.example.co.uk")
    assert accepted[::5] == ("admin@a.b.example.co.uk", "admin@b.example.co.uk",
                             "admin@example.co.uk")  # fmt: skip
    assert len(accepted) == 15
    attempt, (mail,) = begin(house, post, "admin@example.co.uk", domain="a.b.example.co.uk")
    assert (attempt.domain, mail.applied_for) == ("example.co.uk", "a.b.example.co.uk")


def test_a_hostile_name_of_a_manufacturer(house: House, office: PostOffice, post: Post) -> None:
    """What it calls itself is text in the body: it makes no header field and no line."""
    evil = manufacturers.add_manufacturer(
        house.db, "evil", DistinguishedName.of(C="US", O="Evil\u2028Bcc: eve@example.org\u202e"),
        by=OPERATOR, now=house.clock(), random_bytes=os.urandom,
    )  # fmt: skip
    assert emailing.display_name(evil) == "Evil Bcc: eve@example.org"
    _, (mail,) = emailing.begin(
        house.db, evil, post, "example.net", (CONTACT,),
        by=OPERATOR, now=house.clock(), random_bytes=os.urandom,
    )  # fmt: skip
    emailing.deliver(house.db, post, mail, house.clock())
    assert office.letters[0].message["Bcc"] is None
    assert office.letters[0].recipients == (CONTACT,)


def test_another_manufacturer_cannot_touch_it(house: House, office: PostOffice, post: Post) -> None:
    """Its messages can be neither seen nor sent again by a stranger."""
    attempt, _ = begin(house, post)
    other = manufacturers.add_manufacturer(
        house.db, "other", DistinguishedName.of(C="US", O="Other"),
        by=OPERATOR, now=house.clock(), random_bytes=os.urandom,
    )  # fmt: skip
    code = refused(
        emailing.resend, house.db, other, post, attempt.id, by=OPERATOR, now=house.clock()
    )
    assert code == "validation-unknown"


def test_a_mail_server_that_is_down(house: House, office: PostOffice, post: Post) -> None:
    """Nothing is half-written: the message waits, and the job sends it when the server is back."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        dead = posting(closed.getsockname()[1])
    attempt, (mail,) = begin(house, dead)
    with pytest.raises(Unavailable):
        emailing.deliver(house.db, dead, mail, house.clock())
    (waiting,) = mails_of(house, attempt)
    assert (waiting.state, waiting.attempts) == (MailState.QUEUED, 1)
    assert waiting.failure

    assert emailing.deliver_due(house.db, post, house.clock()) == []  # not yet
    house.clock.now += dt.timedelta(minutes=2)
    assert emailing.deliver_due(house.db, post, house.clock()) == []
    assert [each.recipients for each in office.letters] == [(CONTACT,)]
    assert mails_of(house, attempt)[0].state is MailState.SENT


def test_one_recipient_is_refused(house: House, office: PostOffice, post: Post) -> None:
    """It fails alone and for ever; the other's answer counts."""
    office.answers["admin@example.net"] = "550 no such user"
    attempt, mails = begin(house, post, "admin@example.net", CONTACT)
    assert refused(emailing.deliver, house.db, post, mails[0], house.clock()) == "mail-refused"
    emailing.deliver(house.db, post, mails[1], house.clock())
    states = {each.recipient: each.state for each in mails_of(house, attempt)}
    assert states == {"admin@example.net": MailState.FAILED, CONTACT: MailState.SENT}
    house.clock.now += DAY
    assert emailing.deliver_due(house.db, post, house.clock()) == []
    assert len(office.letters) == 1
    answer(house, office.letters[0].value)


def test_two_nodes_send_one_message(each_house: House, office: PostOffice, post: Post) -> None:
    """Only who takes the message first may send it."""
    _, (mail,) = begin(each_house, post)
    assert emailing.deliver(each_house.db, post, mail, each_house.clock())
    assert not emailing.deliver(each_house.db, post, mail, each_house.clock())
    assert len(office.letters) == 1


def test_sent_again(house: House, office: PostOffice, post: Post) -> None:
    """The same octets to the same contact, after an hour and not before (BR 3.2.2.4.4)."""
    attempt, (mail,) = begin(house, post)
    emailing.deliver(house.db, post, mail, house.clock())

    def again() -> None:
        emailing.resend(house.db, house.tenant, post, attempt.id, by=OPERATOR, now=house.clock())

    assert refused(again) == "mail-too-often"
    house.clock.now += dt.timedelta(hours=1)
    again()
    first, second = office.letters
    assert first == second
    answer(house, second.value)
    assert refused(again) == "validation-done"


def test_nobody_is_flooded(house: House, office: PostOffice, post: Post) -> None:
    """Five new messages a day to one address; then it is another day's turn."""
    for _ in range(emailing.MOST_A_DAY):
        begin(house, post)
    assert refused(begin, house, post) == "mail-too-often"
    begin(house, post, "admin@example.net")
    house.clock.now += DAY
    begin(house, post)


def test_nobody_writes_to_everybody(house: House, office: PostOffice, post: Post) -> None:
    """One manufacturer's messages of a day are bounded, whoever they go to."""
    recipients = contact_addresses(DNSName("example.net"))

    def write_to(number: int) -> None:
        domain = f"d{number}.example.net"
        emailing.begin(
            house.db, house.tenant, post, domain,
            [each.replace("@", f"@d{number}.") for each in recipients],
            by="x", now=house.clock.now, random_bytes=os.urandom,
        )  # fmt: skip

    for number in range(emailing.MOST_OF_ALL // len(recipients)):
        write_to(number)
    assert refused(write_to, 1_000) == "mail-too-often"
    house.clock.now += DAY
    write_to(1_001)


def test_an_answer_comes_before_our_note(house: House, office: PostOffice, post: Post) -> None:
    """The server has taken the message and we died: the link works all the same."""
    _, (mail,) = begin(house, post)
    message = post.vault.unlock(mail.sealed, mail.id)
    post.send(post.sender, mail.recipient, message)  # and no note of it
    answer(house, office.letters[0].value)
    assert refused(answer, house, office.letters[0].value) == "validation-done"


def test_who_waits_is_told_so(house: House, post: Post) -> None:
    """`verify` of an attempt by mail says whom it waits for."""
    attempt, _ = begin(house, post)
    world = domains.World(None)  # type: ignore[arg-type]  # it must not look anywhere
    code = refused(
        domains.verify_domain, house.db, house.tenant, attempt.id, world,
        by=OPERATOR, now=house.clock(),
    )  # fmt: skip
    assert code == "validation-awaiting"
