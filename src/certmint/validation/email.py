"""Mail to contacts, through the one SMTP server that the configuration names.

Laws: a message goes to one recipient; TLS is verified, and only a server on this very machine is
spoken to without; what the server says is never trusted to be printable. It does not compose
messages, look up MX records or retry.
"""

import smtplib
import socket
import ssl
from dataclasses import dataclass, field
from typing import Literal

from certmint.model.errors import Misconfigured, Refused, Unavailable

TIMEOUT_S = 20.0

Security = Literal["starttls", "tls", "none"]


@dataclass(frozen=True, slots=True)
class SMTPServer:
    """A submission server. `ca_file` are the roots to trust, "" the system's.

    `name` is what we call ourselves in EHLO; without `username` there is no login.
    """

    host: str
    port: int
    security: Security
    name: str
    username: str = ""
    password: str = field(default="", repr=False)
    ca_file: str = ""

    def send(self, sender: str, recipient: str, message: bytes) -> None:
        """Hand over one message, as it is.

        Raises Unavailable `mail-unavailable` when it may work later, Refused `mail-refused` when
        the server never wants this recipient or message, Misconfigured `mail-tls` or `mail-login`.
        """
        where = f"the mail server {self.host}:{self.port}"
        try:
            with self._connected() as line:
                self._deliver(line, sender, recipient, message)
        except ssl.SSLError as error:
            reason = getattr(error, "verify_message", "") or error.reason or "TLS failed"
            raise Misconfigured("mail-tls", f"{where} does not pass as itself: {reason}") from None
        except smtplib.SMTPNotSupportedError:
            raise Misconfigured(
                "mail-tls", f"{where} does not offer what [mail] asks for: STARTTLS or a login"
            ) from None
        except smtplib.SMTPAuthenticationError as error:
            raise Misconfigured(
                "mail-login", f"{where} refuses the login as {self.username!r} ({error.smtp_code})"
            ) from None
        except smtplib.SMTPResponseException as error:
            raise self._answered(error.smtp_code, error.smtp_error, recipient) from None
        except smtplib.SMTPRecipientsRefused as error:
            code, text = next(iter(error.recipients.values()))
            raise self._answered(code, text, recipient) from None
        except (OSError, smtplib.SMTPException) as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
            raise Unavailable("mail-unavailable", f"{where} cannot be used: {reason}") from None

    def _connected(self) -> smtplib.SMTP:
        if self.security == "tls":
            return smtplib.SMTP_SSL(
                self.host, self.port, self.name, timeout=TIMEOUT_S, context=self._context()
            )
        return smtplib.SMTP(self.host, self.port, self.name, timeout=TIMEOUT_S)

    def _deliver(self, line: smtplib.SMTP, sender: str, recipient: str, message: bytes) -> None:
        if self.security == "starttls":
            line.starttls(context=self._context())  # before a login, so that none goes in the clear
        if self.username:
            line.login(self.username, self.password)
        line.sendmail(sender, [recipient], message)

    def _context(self) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cafile=self.ca_file or None)
        except OSError as error:
            raise Misconfigured(
                "mail-tls", f"mail.ca_file {self.ca_file} cannot be read: {error.strerror}"
            ) from None
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return context

    def _answered(self, code: int, text: bytes | str, recipient: str) -> Refused | Unavailable:
        said = text.decode("ascii", "replace") if isinstance(text, bytes) else text
        clean = "".join(letter if letter.isprintable() else " " for letter in said)[:120]
        if 500 <= code < 600:
            return Refused(
                "mail-refused", f"{self.host} refuses mail to {recipient}: {code} {clean}"
            )
        return Unavailable(
            "mail-unavailable", f"{self.host} puts mail to {recipient} off: {code} {clean}"
        )


def is_local(host: str) -> bool:
    """Whether the host is this machine, so that nobody else can listen on the way there."""
    try:
        found = {entry[4][0] for entry in socket.getaddrinfo(host, None)}
    except OSError:
        return False
    return bool(found) and all(
        str(address) == "::1" or str(address).startswith("127.") for address in found
    )
