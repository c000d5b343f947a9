"""Service keys of a TPM 2.0: swtpm, by tpm2-tools."""

import base64
import json
import subprocess
from pathlib import Path

import pytest
from cryptography import x509

from certmint_agent import tss2

from .hardware import running_tpm
from .test_agent_power_cut import deaths, tidy


def test_the_key_is_the_tpms_and_the_folder_keeps_it(device, run_agent, tpm) -> None:
    """A key file that signs with this TPM, for the live leaf; two renewals, two keys."""
    leaves = []
    for _ in range(2):
        done = run_agent("enrol", key_store=tpm.key_store)
        assert (done.returncode, done.stderr) == (0, "")
        leaves.append(tpm.signs_for(device.folder / "live"))
    assert leaves[0].public_key() != leaves[1].public_key()
    assert (device.folder / "live/key.pem").stat().st_mode & 0o77 == 0
    facts = json.loads(run_agent("status", "--json", key_store=tpm.key_store).stdout)
    assert facts["valid"]
    assert facts["key"] == "tpm:"


def test_nothing_stays_in_the_tpm(run_agent, tpm) -> None:
    """No persistent key, which a TPM has room for a few of, and none left loaded."""
    assert run_agent("enrol", key_store=tpm.key_store).returncode == 0
    assert tpm.tool("getcap", "handles-persistent") == ""
    assert tpm.tool("getcap", "handles-transient") == ""


def test_rsa_where_old_clients_need_it(device, run_agent, tpm) -> None:
    """The server checks the request's signature, and the certificate has the TPM's key."""
    assert run_agent("enrol", key_store=tpm.key_store, key_kind="rsa-2048").returncode == 0
    pem = (device.folder / "live/key.pem").read_bytes()
    leaf = x509.load_pem_x509_certificate((device.folder / "live/chain.pem").read_bytes())
    assert leaf.public_key() == tss2.public_key(tss2.decode(pem)[0])
    assert leaf.public_key().key_size == 2048


def test_another_tpm_cannot_use_the_key(world, device, run_agent, tpm, require) -> None:
    """A stolen folder is useless; a device whose TPM was exchanged asks for a new certificate."""
    assert run_agent("enrol", key_store=tpm.key_store).returncode == 0
    with running_tpm(require("swtpm", package="swtpm"), tpm.folder.with_name("tpm2")) as other:
        with pytest.raises(subprocess.CalledProcessError):
            other.signs_for(device.folder / "live")
        done = run_agent("renew", key_store=other.key_store)
        assert done.returncode == 0
        assert "does not hold tpm:" in done.stdout
        other.signs_for(device.folder / "live")
    assert len(world.by_csr) == 2


def test_an_answer_that_was_lost_is_asked_for_with_the_same_key(
    world, device, run_agent, tpm
) -> None:
    """The pending key file is loaded by a process that did not make it."""
    world.faults += [lambda _: False, lambda handler: handler.problem(503, "b", "l") or True]
    assert run_agent("enrol", key_store=tpm.key_store).returncode == 3
    assert run_agent("enrol", key_store=tpm.key_store).returncode == 0
    assert len({request["csr"] for _, request, _ in world.requests}) == 1
    tpm.signs_for(device.folder / "live")


def test_a_tpm_that_does_not_answer_is_said(device, run_agent, tpm) -> None:
    """Exit code 9 and one sentence; what is live stays."""
    assert run_agent("enrol", key_store=tpm.key_store).returncode == 0
    done = run_agent("enrol", key_store="tpm:cmd:false")
    assert (done.returncode, done.stderr.count("\n")) == (9, 1)
    assert "the TPM declines tpm2_createprimary" in done.stderr
    tpm.signs_for(device.folder / "live")


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["first", "again"])
def test_it_dies_after_each_step(device, run_agent, tpm, tmp_path: Path, mode: str) -> None:
    """Each time the live key signs for the live leaf."""
    if mode == "again":
        assert run_agent("enrol", key_store=tpm.key_store).returncode == 0
    for line in deaths(device.toml(key_store=tpm.key_store), mode, tmp_path / "report"):
        assert line["survived"] == 0, line
        assert tidy(line["after"]["entries"]), line
    tpm.signs_for(device.folder / "live")


@pytest.mark.parametrize("kind", ["nothing", "short", "strange"])
def test_a_damaged_key_file_is_no_key(kind: str) -> None:
    """Bits rot: what cannot be read is a ValueError, and so no version."""
    pem = {
        "nothing": b"",
        "short": tss2.HEADER + tss2.FOOTER,
        "strange": tss2.HEADER + base64.b64encode(b"0\x03\x02\x01\x01") + b"\n" + tss2.FOOTER,
    }[kind]
    with pytest.raises(ValueError, match=r"."):
        tss2.decode(pem)
    for public in (b"", bytes(8), b"\x00\x10\x00\x23" + bytes(16)):
        with pytest.raises(ValueError, match=r"."):
            tss2.public_key(public)


def test_long_and_short_structures_are_written_as_they_are_read() -> None:
    """The lengths of DER change their form at 128 and 256 bytes."""
    for size in (1, 127, 128, 255, 256, 700):
        assert tss2.decode(tss2.encode(b"p" * size, b"q" * size)) == (b"p" * size, b"q" * size)
