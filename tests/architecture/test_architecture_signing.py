"""There is one way to a signature: read off the source, so that a second way fails the build."""

import ast
import functools
from pathlib import Path

import certmint

SOURCE = Path(certmint.__file__).parent

# Everything that calls a method named `sign`, and with whose key. A line here is a decision.
MAY_SIGN = {
    "issuance/authority.py": "the CA's key",
    "issuance/pkcs11.py": "the CA's key, inside its token",
    "issuance/template.py": "a throw-away key, for the rehearsal",
    "enrolment/issue.py": "the one gate: it calls SigningAuthority.sign, and holds no key",
    "enrolment/results.py": "the batch's own signer key, over the result manifest",
    "app/servercert.py": "the server's own TLS key, over its CSR and the keys that EST delivers",
    "app/demo/field.py": "a device's own key, over its CSR",
}


@functools.cache
def _calls() -> frozenset[tuple[str, str]]:
    """File and name called, for every call in the server's source; read once."""
    found = set()
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                name = path.relative_to(SOURCE).as_posix()
                if isinstance(node.func, ast.Attribute):
                    found.add((name, node.func.attr))
                elif isinstance(node.func, ast.Name):
                    found.add((name, node.func.id))
    return frozenset(found)


def _callers(*names: str) -> set[str]:
    return {file for file, name in _calls() if name in names}


def test_only_known_places_sign() -> None:
    """A CA key is used in issuance; every other signature is by a key of somebody else's."""
    assert _callers("sign") <= MAY_SIGN.keys()
    assert _callers("sign") >= {file for file in MAY_SIGN if file.startswith("issuance/")}


def test_only_policy_grants() -> None:
    """An Approval is made by `decide`, and is not changed into another afterwards."""
    assert _callers("Approval") == {"policy/decide.py"}


def test_only_the_authority_prepares() -> None:
    """A Prepared exists only because `SigningAuthority.prepare` made it."""
    assert _callers("Prepared") == {"issuance/authority.py"}


def test_only_the_gate_prepares_and_signs_certificates() -> None:
    """Every door, renewal and batch comes through `enrolment.issue`."""
    assert _callers("prepare") == {"enrolment/issue.py"}


def test_only_status_is_sealed() -> None:
    """What a CA key signs besides certificates: CRLs and OCSP responses."""
    assert _callers("seal") == {"issuance/crl.py", "issuance/ocsp.py"}
