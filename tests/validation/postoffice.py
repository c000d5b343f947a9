"""A real SMTP server on loopback, and what it got."""

import asyncio
import contextlib
import datetime as dt
import email
import email.policy
import logging
import re
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.message import EmailMessage
from pathlib import Path

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

logging.getLogger("mail.log").setLevel(logging.CRITICAL)  # it goes on after a test has ended

LOGIN = ("certmint", "a password that is not for logs")


@dataclass(frozen=True)
class Letter:
    """One message as it came in. `is_secure` tells whether it came over TLS."""

    sender: str
    recipients: tuple[str, ...]
    content: bytes
    is_secure: bool

    @property
    def message(self) -> EmailMessage:
        return email.message_from_bytes(self.content, policy=email.policy.default)

    @property
    def text(self) -> str:
        return self.message.get_content()

    @property
    def link(self) -> str:
        """The one address in it."""
        (found,) = re.findall(r"https://\S+", self.text)
        return found

    @property
    def value(self) -> str:
        return self.link.rpartition("/")[2]


@dataclass
class PostOffice:
    """What the server does with recipients (an SMTP answer instead of yes), and what it got."""

    letters: list[Letter] = field(default_factory=list)
    answers: dict[str, str] = field(default_factory=dict)
    port: int = 0

    async def handle_RCPT(
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: object
    ) -> str:
        answer = self.answers.get(address) or self.answers.get("*")
        if answer is None:
            envelope.rcpt_tos.append(address)
        return answer or "250 OK"

    async def handle_DATA(self, _server: SMTP, session: Session, envelope: Envelope) -> str:
        self.letters.append(
            Letter(
                str(envelope.mail_from),
                tuple(envelope.rcpt_tos),
                bytes(envelope.content or b""),
                session.ssl is not None,
            )
        )
        return "250 taken"


def _knows(_server: SMTP, _session: Session, _envelope: Envelope, _how: str, given: object):
    good = isinstance(given, LoginPassword) and (given.login, given.password) == tuple(
        each.encode() for each in LOGIN
    )
    return AuthResult(success=good, handled=False)


@contextlib.contextmanager
def post_office(
    context: ssl.SSLContext | None = None, *, wants_login: bool = False, at_once: bool = False
) -> Iterator[PostOffice]:
    """Open for a while; with a context it takes nothing without TLS, by STARTTLS or `at_once`."""
    office = PostOffice()
    loop = asyncio.new_event_loop()

    def line() -> SMTP:
        return SMTP(
            office, hostname="mail.test", tls_context=None if at_once else context,
            require_starttls=bool(context) and not at_once,
            auth_required=wants_login, authenticator=_knows if wants_login else None, loop=loop,
        )  # fmt: skip

    server = loop.run_until_complete(
        loop.create_server(line, "127.0.0.1", 0, ssl=context if at_once else None)
    )
    office.port = server.sockets[0].getsockname()[1]
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield office
    finally:
        loop.call_soon_threadsafe(server.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)
        _end(loop)


def _end(loop: asyncio.AbstractEventLoop) -> None:
    async def finish() -> None:
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    loop.run_until_complete(finish())
    loop.close()


def tls_for(name: str, folder: Path) -> tuple[ssl.SSLContext, Path]:
    """A server's context with a self-signed certificate for `name`, and the certificate's file."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder().subject_name(subject).issuer_name(subject)
        .public_key(key.public_key()).serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1)).not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    certificate, secret = folder / f"{name}.pem", folder / f"{name}.key"
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, secret)
    return context, certificate
