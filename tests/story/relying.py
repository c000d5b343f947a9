"""The other side, with openssl alone: a relying party that asks for status, and a thief."""

import shutil
import subprocess
import urllib.request
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import AuthorityInformationAccessOID

from .lan import Router
from .maker import PASSPHRASE, Maker


def crl_and_ocsp(openssl: str, router: Router, root: Path, folder: Path) -> tuple[str, str]:
    """What `openssl verify -crl_check` and `openssl ocsp` say of a router's service certificate.

    Each is `good` or `revoked`, or else what openssl said. The addresses are those that the
    certificate itself names.
    """
    folder.mkdir()
    leaf, issuer, above = (folder / name for name in ("leaf.pem", "issuer.pem", "above.pem"))
    chain = x509.load_pem_x509_certificates(router.chain.read_bytes())
    leaf.write_bytes(_pem(chain[0]))
    issuer.write_bytes(_pem(chain[1]))
    above.write_bytes(b"".join(map(_pem, chain[1:])))
    crl_url, ocsp_url = _addresses(chain[0])
    with urllib.request.urlopen(crl_url, timeout=10) as answer:  # noqa: S310 (the leaf names it)
        crl = x509.load_der_x509_crl(answer.read())
    (folder / "crl.pem").write_bytes(crl.public_bytes(Encoding.PEM))
    verified = _run(
        openssl, "verify", "-x509_strict", "-crl_check", "-CRLfile", folder / "crl.pem",
        "-CAfile", root, "-untrusted", above, leaf,
    )  # fmt: skip
    asked = _run(
        openssl, "ocsp", "-issuer", issuer, "-cert", leaf, "-url", ocsp_url, "-CAfile", root,
        "-verify_other", above,
    )  # fmt: skip
    by_crl = "good" if verified.endswith(": OK") else verified
    by_ocsp = asked if "Response verify OK" not in asked else (
        asked.partition(f"{leaf}: ")[2].splitlines()[0]
    )  # fmt: skip
    return ("revoked" if "certificate revoked" in by_crl else by_crl), by_ocsp


def forged_package(
    openssl: str, maker: Maker, subca: str, package: Path, name: str, folder: Path
) -> Path:
    """A package like `package`, but with a certificate for `name` from the SubCA's stolen key."""
    folder.mkdir()
    stolen = maker.home / "keys" / f"{maker.ask('authority', 'show', subca)['id']}.pem"
    chain, key = folder / "chain.pem", folder / "stolen.key"
    maker.certmint("authority", "show", subca, "--chain", "--out", str(chain))
    ca = folder / "ca.pem"
    ca.write_bytes(_pem(x509.load_pem_x509_certificate(chain.read_bytes())))
    _run(
        openssl, "pkey", "-in", stolen, "-passin", f"file:{maker.home}/secrets/keys.passphrase",
        "-out", key,
    )  # fmt: skip
    out = folder / package.name
    shutil.copytree(package, out)
    _run(
        openssl, "req", "-x509", "-CA", ca, "-CAkey", key, "-newkey", "ec",
        "-pkeyopt", "ec_paramgen_curve:P-256", "-keyout", out / "key.pem",
        "-passout", f"pass:{PASSPHRASE}", "-subj", "/", "-days", "30",
        "-addext", f"subjectAltName=critical,DNS:{name}", "-addext", "extendedKeyUsage=serverAuth",
        "-addext", "basicConstraints=critical,CA:FALSE", "-addext", "keyUsage=digitalSignature",
        "-out", out / "service.pem",
    )  # fmt: skip
    with (out / "service.pem").open("ab") as file:
        file.write(chain.read_bytes())
    return out


def request_certificate(openssl: str, csr: Path, key: Path) -> None:
    """A fresh key and a CSR for it that asks for no names of its own."""
    _run(
        openssl, "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
        "-keyout", key, "-subj", "/", "-out", csr,
    )  # fmt: skip
    assert csr.exists()


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)


def _addresses(leaf: x509.Certificate) -> tuple[str, str]:
    points = leaf.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    access = leaf.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    (ocsp,) = (each for each in access if each.access_method == AuthorityInformationAccessOID.OCSP)
    assert points[0].full_name is not None
    return str(points[0].full_name[0].value), str(ocsp.access_location.value)


def _run(*words: object) -> str:
    done = subprocess.run(
        list(map(str, words)), capture_output=True, text=True, timeout=30, check=False
    )
    return (done.stdout + done.stderr).strip()
