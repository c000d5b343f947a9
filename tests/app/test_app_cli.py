"""The command line as a newcomer meets it: one sentence, one code, nothing lost."""

import ast
import json
import re
import shutil
import socket
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import click
import pytest

from certmint.app.cli import COMMANDS, Nouns, root
from certmint.app.cli.common import EXIT_CODES, Failing
from certmint.model import errors
from certmint.policy.rules import RULES
from certmint.registry import failures

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An installation with one manufacturer; the folder of its configuration."""
    folder = tmp_path_factory.mktemp("cli") / "pki"
    for words in (
        ("init", str(folder)),
        ("manufacturer", "add", "acme", "--subject", "C=US, O=Acme", "--config",
         str(folder / "certmint.toml")),
    ):  # fmt: skip
        with pytest.raises(SystemExit) as end:
            run(*words)
        assert end.value.code == 0
    return folder


def run(*words: str) -> None:
    """`certmint words…` in this process; ends in SystemExit."""
    before, sys.argv = sys.argv, ["certmint", *words]
    try:
        Failing(root).run()
    finally:
        sys.argv = before


@pytest.fixture
def certmint(installed: Path, capsys: pytest.CaptureFixture[str]):  # type: ignore[no-untyped-def]
    """Runs a command on the installation; (exit code, stdout, stderr)."""

    def call(*words: str) -> tuple[object, str, str]:
        with pytest.raises(SystemExit) as end:
            run(*words, "--config", str(installed / "certmint.toml"))
        said = capsys.readouterr()
        return end.value.code, said.out, said.err

    return call


def test_init_keeps_secrets_to_their_owner(installed: Path) -> None:
    """Nobody else can read the passphrase, the keys or the database."""
    private = [
        installed, installed / "secrets", installed / "secrets/keys.passphrase",
        installed / "keys", *(installed / "keys").iterdir(), installed / "certmint.db",
        installed / "tls/server.key",
    ]  # fmt: skip

    assert all(not stat.S_IMODE(path.stat().st_mode) & 0o077 for path in private)


def test_init_does_not_overwrite(installed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A second init in the same folder is refused and changes nothing."""
    before = (installed / "secrets/keys.passphrase").read_bytes()
    capsys.readouterr()

    with pytest.raises(SystemExit) as end:
        run("init", str(installed))

    assert end.value.code == 5
    assert "[installation-exists]" in capsys.readouterr().err
    assert (installed / "secrets/keys.passphrase").read_bytes() == before


BAD = [
    (("manufacturer", "add", "Acme Inc", "--subject", "C=US, O=A"), 2, "manufacturer-syntax"),
    (("manufacturer", "add", "acme", "--subject", "C=US, O=A"), 5, "manufacturer-exists"),
    (("manufacturer", "add", "b", "--subject", "C=USA, O=A"), 2, "subject-syntax"),
    (("authority", "issuing", "x", "--parent", "nope"), 4, "authority-unknown"),
    (("authority", "root", "x", "--key", "tpm:1"), 7, "key-uri"),
    (("domain", "add", "*.example.com"), 2, "name-syntax"),
    (("domain", "add", "example.com", "--assert"), 3, "validation-not-private"),
    (("domain", "verify", "val_x"), 4, "validation-unknown"),
    (("product", "add", "p", "--identity-authority", "a", "--service-authority", "b",
      "--name-pattern", "{id}.x"), 4, "authority-unknown"),
    (("device", "show", "R1"), 4, "device-unknown"),
    (("device", "list", "-m", "nobody"), 4, "manufacturer-unknown"),
    (("batch", "show", "bat_x"), 4, "batch-unknown"),
    (("certificate", "show", "xyz"), 2, "serial-syntax"),
    (("certificate", "revoke", "01"), 4, "certificate-unknown"),
    (("acme", "add", "x", "--authority", "nope"), 4, "authority-unknown"),
    (("acme", "add", "X y", "--authority", "nope"), 2, "directory-syntax"),
    (("acme", "bind", "nope"), 4, "directory-unknown"),
    (("operator", "add", "x", "--role", "viewer", "--lifetime", "soon"), 2, "duration-syntax"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "code", "name"), BAD, ids=[" ".join(case[0]) for case in BAD])
def test_bad_input(certmint, words: tuple[str, ...], code: int, name: str) -> None:  # type: ignore[no-untyped-def]
    """Each mistake is one sentence with its code, and the documented exit code."""
    ended, out, err = certmint(*words)

    assert ended == code
    assert out == ""
    assert re.fullmatch(rf"certmint: [^\n]+ \[{name}\]\n", err), err


def test_acme_serves_nothing_public(certmint) -> None:  # type: ignore[no-untyped-def]
    """A public profile never meets validators that may reach private networks."""
    certmint("authority", "root", "acme-root")
    certmint("authority", "issuing", "acme-ca", "--parent", "acme-root")

    words = ("acme", "add", "pub", "--authority", "acme-ca", "--profile", "service-public")
    ended, _, err = certmint(*words)

    assert (ended, "[directory-syntax]" in err) == (2, True)
    assert certmint("acme", "list")[1].startswith("no directories")


def test_wrong_passphrase(certmint, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    """A wrong passphrase names the key, not the secret, and leaves no new authority."""
    certmint("authority", "root", "passphrase-root")
    monkeypatch.setenv("CERTMINT_KEYS_PASSPHRASE", "not the right one")

    ended, _, err = certmint("authority", "crl", "passphrase-root")

    assert ended == 7
    assert "[key-passphrase]" in err
    assert "not the right one" not in err


@pytest.mark.slow
def test_locked_database(certmint, installed: Path) -> None:  # type: ignore[no-untyped-def]
    """A database that another program holds ends in one sentence, and nothing is half-written."""
    holder = sqlite3.connect(installed / "certmint.db")
    holder.execute("begin exclusive")
    try:
        ended, _, err = certmint("manufacturer", "add", "locked", "--subject", "C=US, O=A")
    finally:
        holder.close()

    assert (ended, "[database-locked]" in err) == (6, True)
    assert "locked" not in certmint("manufacturer", "list")[1]


def test_port_in_use(installed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`serve` on a taken port names the address and what to change."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        text = (installed / "certmint.toml").read_text()
        busy = installed / "busy.toml"
        busy.write_text(text.replace("127.0.0.1:8443", f"127.0.0.1:{taken.getsockname()[1]}"))
        with pytest.raises(SystemExit) as end:
            run("serve", "--config", str(busy))

    assert end.value.code == 7
    assert "[address-in-use]" in capsys.readouterr().err


def test_damaged_database(
    installed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file that is no database is said to be one, not traced back."""
    folder = tmp_path / "copy"
    shutil.copytree(installed, folder)
    for leftover in folder.glob("certmint.db-*"):
        leftover.unlink()
    (folder / "certmint.db").write_bytes(b"this is not a database" * 100)

    with pytest.raises(SystemExit) as end:
        run("device", "list", "--config", str(folder / "certmint.toml"))

    assert end.value.code == 7
    assert "[database-corrupt]" in capsys.readouterr().err


def test_doctor_finds_what_is_wrong(certmint, installed: Path) -> None:  # type: ignore[no-untyped-def]
    """Open permissions and a missing DNS are said in words, with exit code 7."""
    secret = installed / "secrets/keys.passphrase"
    secret.chmod(0o644)
    ended, out, _ = certmint("doctor")
    secret.chmod(0o600)

    assert ended == 7
    assert f"WRONG  secrets: others may read {secret.resolve()}" in out
    assert "ok     audit chain" in out
    assert "ok     authority instance-root" in out


def test_json_is_for_programs(certmint) -> None:  # type: ignore[no-untyped-def]
    """`--json` prints one object a line and nothing else."""
    _, out, _ = certmint("profile", "list", "--json")

    assert {json.loads(line)["name"] for line in out.splitlines()} >= {"identity", "service"}


def test_token_is_shown_once_and_never_stored(certmint, installed: Path) -> None:  # type: ignore[no-untyped-def]
    """The API token is in the answer of `operator add` and nowhere else."""
    _, out, _ = certmint("operator", "add", "ann", "--role", "viewer", "--json")
    token = json.loads(out)["token"]

    certmint("operator", "list")
    files = [path for path in installed.rglob("*") if path.is_file()]

    assert not any(token.encode() in path.read_bytes() for path in files)


def test_help_is_everywhere(capsys: pytest.CaptureFixture[str]) -> None:
    """Every command explains itself."""

    def walk(command: click.Command, path: tuple[str, ...]) -> None:
        assert command.help, path
        if isinstance(command, click.Group):
            context = click.Context(command)
            for name in command.list_commands(context):
                found = command.get_command(context, name)
                assert found is not None
                walk(found, (*path, name))

    walk(root, ("certmint",))
    assert isinstance(root, Nouns)


def test_cli_page_lists_every_command_and_exit_code() -> None:
    """docs/cli.md has a row for each noun and each exit code."""
    page = (REPOSITORY / "docs/cli.md").read_text()

    assert set(re.findall(r"^\| `certmint ([a-z]+)`", page, re.MULTILINE)) == set(COMMANDS)
    assert {int(code) for code in re.findall(r"^\| ([0-9]+) \|", page, re.MULTILINE)} == {
        0, 1, 130, *EXIT_CODES.values(),
    }  # fmt: skip


def test_every_kind_of_error_has_an_exit_code() -> None:
    """No error of ours can end in a traceback."""
    kinds = {
        each for each in vars(errors).values()
        if isinstance(each, type) and issubclass(each, errors.CertmintError)
    }  # fmt: skip

    assert set(EXIT_CODES) == kinds - {errors.CertmintError}


def test_every_code_is_documented() -> None:
    """A code in the source stands in docs/errors.md or is a policy rule, and the reverse."""
    kinds = {kind.__name__ for kind in EXIT_CODES}
    used: set[str] = set()
    for path in (REPOSITORY / "src/certmint").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            places = node.args[2:3] if name == "problem_response" else node.args[:1]
            if name in kinds | {"problem_response", "NotProved"}:
                for place in places:
                    choices = (
                        (place.body, place.orelse) if isinstance(place, ast.IfExp) else (place,)
                    )
                    used |= {
                        each.value
                        for each in choices
                        if isinstance(each, ast.Constant) and isinstance(each.value, str)
                    }
    used |= {each[1] for each in vars(failures).values() if isinstance(each, tuple)}
    page = (REPOSITORY / "docs/errors.md").read_text()
    documented = set(re.findall(r"^\| `([a-z0-9-]+)` \|", page, re.MULTILINE))
    rules = {rule.code for rule in RULES}

    source = "".join(path.read_text() for path in (REPOSITORY / "src/certmint").rglob("*.py"))
    assert used - documented - rules == set()
    assert {code for code in documented if f'"{code}"' not in source} == set()


def test_start_is_quick_without_heavy_libraries() -> None:
    """`certmint --help` imports no database, web or crypto library."""
    probe = (
        "import sys; from certmint.app.cli import root;"
        "root.main(['--help'], standalone_mode=False);"
        "print(sorted({'sqlalchemy', 'fastapi', 'cryptography', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)

    assert done.stdout.splitlines()[-1] == "[]"
