"""What the agent needs to run: Python and cryptography."""

import ast
import subprocess
import sys
from pathlib import Path

import certmint_agent
from certmint_agent.errors import AgentError

FOLDER = Path(certmint_agent.__file__).parent


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} has a relative import"
            names.add((node.module or "").partition(".")[0])
    return names


def test_nothing_but_the_standard_library_and_cryptography() -> None:
    """A router's image needs one wheel beside Python, and no code of the server."""
    found = set().union(*(imported(path) for path in FOLDER.glob("**/*.py")))
    assert found - set(sys.stdlib_module_names) == {"cryptography", "certmint_agent", "pkcs11"}


def test_pkcs11_is_imported_for_a_token_only() -> None:
    """The extra is needed by whoever has a token: no module imports it when it is loaded."""
    order = (
        "import sys, certmint_agent.cli, certmint_agent.pkcs11_keys\n"
        "sys.exit('pkcs11' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", order], check=False).returncode == 0
    users = {path.name for path in FOLDER.glob("*.py") if "pkcs11" in imported(path)}
    assert users == {"pkcs11_keys.py"}


def test_every_error_has_an_exit_code_of_its_own() -> None:
    """A script can tell the failures apart, and each code is in the documented list."""
    documented = sys.modules[AgentError.__module__].__doc__ or ""
    leaves = AgentError.__subclasses__()
    codes = [leaf.exit_code for leaf in leaves]
    assert len(set(codes)) == len(codes)
    for leaf in leaves:
        assert f"{leaf.__name__:14} {leaf.exit_code} " in documented
