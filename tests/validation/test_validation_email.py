"""Handing mail to a real SMTP server: TLS, logins, and servers that say no."""

import socket
from pathlib import Path

import pytest
from postoffice import LOGIN, post_office, tls_for

from certmint.model.errors import CertmintError, Misconfigured, Refused, Unavailable
from certmint.validation.email import SMTPServer

MESSAGE = b"Subject: hello\r\nTo: admin@example.com\r\n\r\nHello.\r\n"
TO = "admin@example.com"


def server(port: int, **changes: object) -> SMTPServer:
    wanted = {"host": "localhost", "port": port, "security": "none", "name": "pki.test"} | changes
    return SMTPServer(**wanted)  # type: ignore[arg-type]


def send(found: SMTPServer) -> None:
    found.send("pki@example.org", TO, MESSAGE)


def refused(found: SMTPServer) -> CertmintError:
    with pytest.raises(CertmintError) as refusal:
        send(found)
    return refusal.value


def test_a_message_arrives_as_it_is() -> None:
    """One message, one recipient, every octet."""
    with post_office() as office:
        send(server(office.port))
    (letter,) = office.letters
    assert (letter.sender, letter.recipients) == ("pki@example.org", (TO,))
    assert letter.content == MESSAGE


def test_starttls_with_a_login(tmp_path: Path) -> None:
    """TLS comes before the login and the message; a wrong password is told without it."""
    context, trusted = tls_for("localhost", tmp_path)
    with post_office(context, wants_login=True) as office:
        good = server(
            office.port, security="starttls", username=LOGIN[0], password=LOGIN[1],
            ca_file=str(trusted),
        )  # fmt: skip
        send(good)
        assert office.letters[0].is_secure
        bad = server(
            office.port, security="starttls", username=LOGIN[0], password="another password",
            ca_file=str(trusted),
        )  # fmt: skip
        error = refused(bad)
    assert (type(error), error.code) == (Misconfigured, "mail-login")
    assert "another password" not in f"{error!r} {bad!r} {good!r}"


def test_tls_from_the_first_octet(tmp_path: Path) -> None:
    """The other way to speak to a submission server (RFC 8314)."""
    context, trusted = tls_for("localhost", tmp_path)
    with post_office(context, at_once=True) as office:
        send(server(office.port, security="tls", ca_file=str(trusted)))
    assert [each.recipients for each in office.letters] == [(TO,)]


@pytest.mark.parametrize("security", ["starttls", "tls"])
@pytest.mark.parametrize("name", ["localhost", "elsewhere.test"])
def test_a_certificate_that_does_not_fit(tmp_path: Path, name: str, security: str) -> None:
    """Neither an unknown issuer nor another name is taken, and nothing is sent."""
    context, certificate = tls_for(name, tmp_path)
    trusted = str(certificate) if name != "localhost" else ""
    with post_office(context, at_once=security == "tls") as office:
        error = refused(server(office.port, security=security, ca_file=trusted))
    assert error.code == "mail-tls"
    assert office.letters == []


def test_a_server_without_starttls() -> None:
    """What cannot be encrypted is not sent."""
    with post_office() as office:
        error = refused(server(office.port, security="starttls"))
    assert (type(error), error.code, office.letters) == (Misconfigured, "mail-tls", [])


@pytest.mark.parametrize(
    ("answer", "kind", "code"),
    [
        ("550 no such user", Refused, "mail-refused"),
        ("450 come back later", Unavailable, "mail-unavailable"),
    ],
)
def test_a_recipient_that_is_refused(answer: str, kind: type, code: str) -> None:
    """For ever and for now are told apart, in the server's words."""
    with post_office() as office:
        office.answers[TO] = answer
        error = refused(server(office.port))
    assert (type(error), error.code) == (kind, code)
    assert answer[4:] in error.detail


def test_nobody_listens() -> None:
    """A server that is down is worth another try."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    error = refused(server(port))
    assert (type(error), error.code) == (Unavailable, "mail-unavailable")
