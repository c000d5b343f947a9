"""The listener's TLS: which clients it knows, and that it hands out no tickets."""

import datetime as dt
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from certmint.app.tls import ReloadingContext, server_context

PEM = serialization.Encoding.PEM
NOW = dt.datetime.now(dt.UTC)
DAY = dt.timedelta(days=1)


class Party:
    """A key and its certificate, by itself or by an issuer."""

    def __init__(self, name: str, issuer: "Party | None" = None, *, days: int = 10) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        by = issuer or self
        self.certificate = (
            x509.CertificateBuilder(
                by.name, self.name, self.key.public_key(), x509.random_serial_number(),
                NOW - 30 * DAY, NOW + days * DAY,
            )
            .add_extension(x509.BasicConstraints(ca=name.endswith("CA"), path_length=None), True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), False)
            .sign(by.key, hashes.SHA256())
        )  # fmt: skip

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(PEM).decode()

    def write(self, folder: Path) -> tuple[Path, Path]:
        paths = folder / "certificate.pem", folder / "key.pem"
        paths[0].write_text(self.pem)
        paths[1].write_bytes(
            self.key.private_bytes(
                PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return paths


def handshake(folder: Path, trusted: list[str], device: Party) -> tuple[bytes | None, bool]:
    """What the server knows of the client, and whether the client was given a session."""
    folder.mkdir()
    return shake(folder, server_context(*Party("server").write(folder), trusted), device)


def shake(folder: Path, server: ssl.SSLContext, device: Party) -> tuple[bytes | None, bool]:
    """The same, with a server that is there."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    client.load_cert_chain(*device.write(folder))
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = server.wrap_bio(to_server, to_client, server_side=True)
    theirs = client.wrap_bio(to_client, to_server)
    waiting = [theirs, ours]
    for _ in range(10):
        for each in tuple(waiting):
            try:
                each.do_handshake()
                waiting.remove(each)
            except ssl.SSLWantReadError:
                continue
    assert not waiting
    with pytest.raises(ssl.SSLWantReadError):
        theirs.read(1)  # a ticket would come with the first octets
    session = theirs.session
    return ours.getpeercert(binary_form=True), session is not None and session.has_ticket


def test_a_device_of_ours_is_known_by_its_nearest_ca(tmp_path: Path) -> None:
    """Also when it expired, since policy judges that; with the chain's other CAs or without."""
    root = Party("root CA")
    issuing = Party("issuing CA", root)
    for n, device in enumerate((Party("device", issuing), Party("device", issuing, days=-1))):
        der = device.certificate.public_bytes(serialization.Encoding.DER)
        assert handshake(tmp_path / f"a{n}", [root.pem, issuing.pem], device)[0] == der
        assert handshake(tmp_path / f"b{n}", [issuing.pem], device)[0] == der


def test_a_stranger_is_sent_away(tmp_path: Path) -> None:
    """A certificate of another CA, even one of the same name."""
    issuing, other = Party("issuing CA"), Party("issuing CA")
    with pytest.raises(ssl.SSLError, match=r"(?i)verify.failed"):
        handshake(tmp_path / "c", [issuing.pem], Party("device", other))


@pytest.mark.parametrize("others", [0, 1])
def test_anchors_change_while_it_listens(tmp_path: Path, others: int) -> None:
    """Also from none: a server is started before its first authority is made."""
    issuing = Party("issuing CA")
    files = Party("server").write(tmp_path)
    before = [Party("other CA").pem] * others
    device = Party("device", issuing)
    der = device.certificate.public_bytes(serialization.Encoding.DER)
    holder = ReloadingContext(*files, before)
    front = holder.listening()
    (client := tmp_path / "client").mkdir()

    holder.replace(*files, [issuing.pem])
    assert shake(client, front, device)[0] == der
    holder.replace(*files, before)
    with pytest.raises(ssl.SSLError, match=r"(?i)verify.failed"):
        shake(client, front, device)


def test_no_tickets_are_handed_out(tmp_path: Path) -> None:
    """They would cost what they save, and outlive the trust in a CA."""
    issuing = Party("issuing CA")
    assert not handshake(tmp_path / "d", [issuing.pem], Party("device", issuing))[1]
