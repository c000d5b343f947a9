"""Looking and changing many from the command line, on an installation with a few routers."""

import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from certmint.app import config, wiring
from certmint.app.cli import root
from certmint.app.cli.common import Failing
from certmint.enrolment import access, approvals, manufacturers, operators, work
from certmint.model.desk import JobKind
from certmint.model.operations import Operation

Run = Callable[..., tuple[object, str, str]]


def ends(*words: str) -> object:
    before, sys.argv = sys.argv, ["certmint", *words]
    try:
        with pytest.raises(SystemExit) as end:
            Failing(root).run()
    finally:
        sys.argv = before
    return end.value.code


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small maker with a minted batch of five routers and two owners."""
    folder = tmp_path_factory.mktemp("lists") / "pki"
    manifest, password = folder.parent / "manifest.csv", folder.parent / "password"
    manifest.write_text("serial\n" + "".join(f"R{number}\n" for number in range(1, 6)))
    password.write_text("a good long password\n")
    for words in (
        ("init", str(folder)),
        ("manufacturer", "add", "acme", "--subject", "C=US, O=Acme"),
        ("authority", "root", "root"),
        ("authority", "issuing", "tls", "--parent", "root"),
        ("authority", "root", "id-root", "--identity"),
        ("authority", "issuing", "id", "--parent", "id-root", "--identity"),
        ("domain", "add", "lan", "--assert"),
        ("product", "add", "router", "--identity-authority", "id", "--service-authority", "tls",
         "--name-pattern", "{id}.lan"),
        ("batch", "mint", str(manifest), "--product", "router", "--plain-keys",
         "--out", str(folder.parent / "packages")),
        ("owner", "add", "jo", "--password-file", str(password)),
        ("owner", "add", "ann", "--password-file", str(password)),
        ("operator", "add", "boss", "--role", "administrator"),
    ):  # fmt: skip
        where = () if words[0] == "init" else ("--config", str(folder / "certmint.toml"))
        assert ends(*words, *where) == 0, words
    return folder


@pytest.fixture
def certmint(folder: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command: its exit code, what it said, and what it said of errors."""

    def run(*words: str) -> tuple[object, str, str]:
        code = ends(*words, "--config", str(folder / "certmint.toml"))
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def lines(run: Run, *words: str) -> list[Any]:
    """The objects of a command with --json."""
    code, out, err = run(*words, "--json")
    assert code == 0, err
    return [json.loads(line) for line in out.splitlines()]


def test_a_list_comes_in_parts_or_whole(certmint: Run) -> None:
    """--limit shows a part and how to go on; --all shows the rest."""
    _, first, _ = certmint("device", "list", "--limit", "2")
    last = first.splitlines()[-1]

    assert [line.split()[0] for line in first.splitlines()[1:-1]] == ["R1", "R2"]
    assert last == "more: --after R2"
    rest = lines(certmint, "device", "list", *last.split()[1:], "--all")
    assert [each["serial"] for each in rest] == ["R3", "R4", "R5"]
    assert "more" not in certmint("device", "list", "--limit", "5")[1]
    issued = lines(certmint, "certificate", "list", "--profile", "service", "--limit", "1", "--all")
    assert len(issued) == 5


def test_lists_are_narrowed(certmint: Run) -> None:
    """By name, as people know products, owners and authorities; an unknown one is said to be."""
    assert certmint("device", "claim", "R1", "jo")[0] == 0

    assert [each["serial"] for each in lines(certmint, "device", "list", "--owner", "jo")] == ["R1"]
    assert len(lines(certmint, "device", "list", "--product", "router")) == 5
    assert len(lines(certmint, "device", "list", "--prefix", "R2")) == 1
    assert len(lines(certmint, "certificate", "list", "--authority", "tls")) == 5
    assert lines(certmint, "certificate", "list", "--revoked", "--profile", "identity") == []
    assert certmint("device", "list", "--owner", "nobody")[0] == 4
    assert certmint("certificate", "list", "--ending", "9d", "--revoked")[0] == 2


def test_what_ends_soon_comes_by_its_end(certmint: Run) -> None:
    """Service certificates end within a year, identities never; parts fit together."""
    whole = lines(certmint, "certificate", "list", "--ending", "1y")
    first = lines(certmint, "certificate", "list", "--ending", "1y", "--limit", "2")
    rest = lines(
        certmint, "certificate", "list", "--ending", "1y", "--after", first[-1]["certificate"]
    )

    assert {each["profile"] for each in whole} == {"service"}
    assert first + rest == whole
    assert [each["not_after"] for each in whole] == sorted(each["not_after"] for each in whole)
    assert lines(certmint, "certificate", "list", "--ending", "1d") == []


def test_a_device_from_all_sides(certmint: Run) -> None:
    """Handed on, its certificates and its history are shown."""
    certmint("device", "claim", "R2", "jo")

    assert certmint("device", "transfer", "R2", "ann")[:2] == (0, "R2 belongs to ann\n")
    held = lines(certmint, "device", "certificates", "R2")
    told = lines(certmint, "device", "history", "R2")
    assert [each["state"] for each in held] == ["good", "good"]
    assert told[-1]["what"] == "Named in a manifest"
    assert "Owner changed" in {each["what"] for each in told}


def test_many_devices_at_once(
    certmint: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is refused is told, the others go on, and the exit code is not zero."""
    names = tmp_path / "names"
    names.write_text("R3\n\nR4\nnobody\nR3\n")

    code, out, err = certmint("device", "change", "suspend", "--from", str(names))

    assert (code, out.split()) == (3, ["changed:", "2", "refused:", "1"])
    assert err.startswith("nobody: ")
    assert err.endswith("[device-unknown]\n")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"R3\nR4\n")))
    assert certmint("device", "change", "resume", "--from", "-")[0] == 0
    states = {each["state"] for each in lines(certmint, "device", "list", "--prefix", "R")}
    assert "suspended" not in states
    names.write_text("\n")
    assert "[list-empty]" in certmint("device", "change", "resume", "--from", str(names))[2]


def test_many_certificates_are_revoked_or_none(certmint: Run, tmp_path: Path) -> None:
    """An unknown serial refuses them all; a command that was cut off can be given again."""
    mine = [each["certificate"] for each in lines(certmint, "device", "certificates", "R5")]
    names = tmp_path / "serials"
    root_ca = lines(certmint, "authority", "show", "root")[0]["serial"]
    for stranger, code in (("0123456789", 4), (root_ca, 3)):
        names.write_text("\n".join([*mine, stranger]))
        assert certmint("certificate", "revoke", "--from", str(names))[0] == code
    assert lines(certmint, "certificate", "list", "--revoked") == []

    names.write_text("\n".join(mine))
    assert len(lines(certmint, "certificate", "revoke", mine[0], "--reason", "superseded")) == 1
    again = lines(certmint, "certificate", "revoke", "--from", str(names))

    assert [each["serial"] for each in again] == mine[1:]
    assert certmint("certificate", "revoke", mine[0])[0] == 5
    assert certmint("certificate", "revoke")[0] == 2
    assert "all of them" in certmint("certificate", "revoke", "--from", str(names))[1]


def test_things_are_shown(certmint: Run) -> None:
    """Each noun that can be listed can be shown, by the name that people use."""
    for words in (
        ("manufacturer", "show", "acme"), ("operator", "show", "boss"), ("owner", "show", "jo"),
        ("profile", "show", "service"), ("product", "show", "router"), ("authority", "show", "id"),
    ):  # fmt: skip
        (shown,) = lines(certmint, *words)
        assert words[2] in shown.values(), words
    assert [each["username"] for each in lines(certmint, "owner", "list")] == ["ann", "jo"]
    (shown,) = lines(certmint, "operator", "show", "boss")
    assert "create_authority" in shown["operations"]
    assert "create_manufacturer" not in shown["operations"]
    assert lines(certmint, "operator", "sessions", "close", "boss") == [
        {"name": "boss", "ended": 0}
    ]
    (proof,) = lines(certmint, "domain", "list", "--domain", "lan")
    assert lines(certmint, "domain", "show", proof["id"])[0]["domain"] == "lan"
    assert lines(certmint, "domain", "list", "--domain", "elsewhere") == []


def test_catalogue_is_changed(certmint: Run) -> None:
    """A profile's lifetime makes a version; a product's grace is changed under either name."""
    (changed,) = lines(certmint, "profile", "change", "service", "--lifetime", "60d")
    assert (changed["version"], changed["days"]) == (2, 60)
    assert lines(certmint, "profile", "show", "service", "--version", "1")[0]["days"] != 60
    assert [each["name"] for each in lines(certmint, "profile", "list")].count("service") == 1
    for lifetime in ("10s", "500y"):
        code, _, err = certmint("profile", "change", "service", "--lifetime", lifetime)
        assert (code, "lifetime" in err) == (2, True)
    for verb, days in (("change", 7), ("accept", 8)):
        (product,) = lines(certmint, "product", verb, "router", "--grace", f"{days}d")
        assert product["grace_days"] == days


def test_a_batch_waits_to_be_minted(certmint: Run, folder: Path, tmp_path: Path) -> None:
    """Submitted twice it is one; packages that are not here are not made up."""
    manifest = tmp_path / "manifest.ndjson"
    manifest.write_text('{"serial": "Z1"}\n')
    words = ("batch", "submit", str(manifest), "--product", "router")
    (first,), (second,) = lines(certmint, *words), lines(certmint, *words)
    out = tmp_path / "packages.jsonl"

    assert first == second
    assert first["devices"] == 1
    code, _, err = certmint("batch", "packages", first["id"], "--out", str(out))
    assert (code, "[packages-missing]" in err, out.exists()) == (5, True, False)
    minted = folder / "packages" / first["id"]
    minted.mkdir(parents=True)
    (minted / "packages.jsonl").write_text("a package\n")
    assert certmint("batch", "packages", first["id"], "--out", str(out))[0] == 0
    assert out.read_text() == "a package\n"
    assert out.stat().st_mode & 0o077 == 0
    assert certmint("batch", "drop-packages", first["id"], "--yes")[0] == 0
    assert not (minted / "packages.jsonl").exists()


def test_jobs_and_approvals_of_operators(certmint: Run, folder: Path) -> None:
    """What operators asked for is seen from the console, and a job can be stopped there."""
    here = wiring.open_installation(config.load(folder / "certmint.toml"))
    tenant = manufacturers.manufacturer(here.db, "acme")
    boss = operators.operator_named(here.db, tenant.id, "boss")
    token = operators.add_token(
        here.db, tenant.id, boss.id, "t", operators.MOST_LIFE, scopes=None,
        by="test", now=here.clock(), random_bytes=os.urandom,
    )  # fmt: skip
    me = access.enter(here.db, token.secret, Operation.REVOKE_CERTIFICATES, here.clock())
    asked = approvals.request(here.db, me, "revoke", {"serials": []}, here.clock(), os.urandom)
    made = work.order(here.db, me, JobKind.VERIFY_AUDIT, {}, 0, here.clock(), os.urandom)
    here.close()

    assert [each["id"] for each in lines(certmint, "job", "list", "--state", "queued")] == [made.id]
    assert lines(certmint, "job", "cancel", made.id)[0]["state"] == "cancelled"
    assert lines(certmint, "job", "show", made.id, "--follow")[0]["state"] == "cancelled"
    assert certmint("job", "cancel", made.id)[0] == 5
    assert [each["id"] for each in lines(certmint, "approval", "list")] == [asked.id]
    assert lines(certmint, "approval", "show", asked.id)[0]["document"] == {"serials": []}
    assert certmint("approval", "show", "apr_x")[0] == 4


def test_a_campaign_says_what_it_chooses_now(certmint: Run) -> None:
    """A draft's selection is looked at again, and the draft is in the list."""
    (draft,) = lines(
        certmint, "campaign", "preview", "c", "--kind", "replace", "--product", "router",
        "--deadline", "7d",
    )  # fmt: skip
    (plain,) = lines(certmint, "campaign", "show", draft["id"])
    (seen,) = lines(certmint, "campaign", "show", draft["id"], "--preview")

    assert "devices" not in plain
    assert seen["devices"] == draft["devices"]
    assert [each["id"] for each in lines(certmint, "campaign", "list")] == [draft["id"]]


def test_the_log_is_counted(certmint: Run) -> None:
    """The report counts by action; nothing is younger than no time at all."""
    counted = {each["action"]: each["events"] for each in lines(certmint, "audit", "report")}

    assert counted["owner.added"] == 2
    assert sum(counted.values()) == len(lines(certmint, "audit", "list", "--all"))
    assert lines(certmint, "audit", "report", "--since", "0s") == []
    assert lines(certmint, "audit", "list", "--after", "2", "--limit", "1")[0]["number"] > 2
    assert "[after-syntax]" in certmint("audit", "list", "--after", "x")[2]
