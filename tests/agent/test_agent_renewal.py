"""The life of a device's certificate: asked for, judged, installed, proved, rolled back."""

import datetime as dt
import stat
from collections.abc import Callable

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from certmint_agent.errors import (
    CheckFailed,
    Locked,
    Misconfigured,
    Refused,
    StorageFailed,
    Unacceptable,
    Unreachable,
)
from certmint_agent.renewal import renew

DAY = dt.timedelta(days=1)


def problem(status: int, code: str, detail: str, headers=()) -> Callable:
    def fault(handler) -> bool:
        handler.problem(status, code, detail, headers)
        return True

    return fault


def no_fault(_) -> bool:
    return False


def later(world, days: float) -> Callable[[], dt.datetime]:
    """Move everybody's clock."""
    then = world.now() + dt.timedelta(days=days)
    world.now = lambda: then
    return world.now


def test_an_expired_identity_is_shown_and_said(world, device) -> None:
    """The server decides about it; whoever reads the agent's log learns why it may say no."""
    key = ec.generate_private_key(ec.SECP256R1())
    expired = world.root.issue(key.public_key(), subject="RT-0001", end=world.now() - DAY / 2)
    (world.folder / "idevid.pem").write_bytes(expired.public_bytes(serialization.Encoding.PEM))
    (world.folder / "idevid.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    with pytest.raises(Unreachable):  # this server excuses nothing, and ends the handshake
        renew(device.agent())
    assert "the identity certificate expired at" in device.said[0]


def posts(world) -> list[str]:
    return [content["csr"] for path, content, _ in world.requests if path.endswith("certificates")]


def test_the_first_certificate(world, device) -> None:
    """A device with an identity and nothing else ends up with a key and a chain to serve."""
    outcome = renew(device.agent())
    assert outcome.renewed
    _, leaf = device.live()
    assert f"{leaf.serial_number:040x}" == world.newest["serial"]
    chain = x509.load_pem_x509_certificates((device.folder / "live/chain.pem").read_bytes())
    assert chain == [leaf, world.issuing.certificate]
    assert stat.S_IMODE((device.folder / "live/key.pem").stat().st_mode) == 0o600
    assert len(device.entries()) == 1


def test_not_due_means_no_request(world, device) -> None:
    """A look costs one GET; the certificate and the chosen time stay."""
    first = renew(device.agent())
    second = renew(device.agent(random=lambda: 0.0))
    assert not second.renewed
    assert second.renew_at == first.renew_at
    assert len(posts(world)) == 1


def test_due_inside_the_window(world, device) -> None:
    """Past the time that was drawn, a new key gets a new certificate, and the old one is kept."""
    first = renew(device.agent())
    old = device.live()[1]
    later(world, (first.renew_at - world.now()) / DAY - 0.01)
    assert not renew(device.agent()).renewed
    later(world, 0.02)
    assert renew(device.agent()).renewed
    new = device.live()[1]
    assert new.public_key() != old.public_key()
    assert new.not_valid_after_utc > old.not_valid_after_utc
    assert len(device.entries()) == 2


def test_at_most_one_old_version_is_kept(world, device) -> None:
    """Flash memory does not fill up over the years."""
    for _ in range(4):
        renew(device.agent(), force=True)
    assert len(device.entries()) == 2
    assert device.live()[1].serial_number == int(world.newest["serial"], 16)


def test_an_expired_certificate_is_replaced(world, device) -> None:
    """A router that comes out of the box after a year gets a fresh certificate at once."""
    renew(device.agent())
    later(world, 365)
    assert renew(device.agent()).renewed
    assert device.live()[1].not_valid_after_utc > world.now()


def test_the_server_calls_a_certificate_in(world, device) -> None:
    """A window that moves into the past makes the device renew at its next look."""
    renew(device.agent())
    early = (world.now() - 2 * DAY).isoformat(), (world.now() - DAY).isoformat()
    world.newest = {**world.newest, "renewal": {"start": early[0], "end": early[1]}}
    assert renew(device.agent()).renewed


def test_the_window_of_another_certificate_is_not_ours(world, device) -> None:
    """If the server has meanwhile issued another one, its window says nothing about this."""
    renew(device.agent())
    past = {"start": (world.now() - 2 * DAY).isoformat(), "end": world.now().isoformat()}
    world.newest = {"serial": "0123", "renewal": past}
    assert not renew(device.agent()).renewed


def test_names_that_changed_make_it_due(world, device) -> None:
    """A device that was given another name does not wait for the renewal."""
    renew(device.agent())
    world.names = ("new.dev.example.com", "*.new.dev.example.com", "192.168.1.1")
    assert renew(device.agent()).renewed
    san = device.live()[1].extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert {str(name.value) for name in san} == set(world.names)


def test_the_configured_names_and_key_kind_are_asked_for(world, device) -> None:
    """What agent.toml says goes before what the server proposes."""
    renew(device.agent(names=("a.example.com",), key_kind="rsa-2048"))
    key, leaf = device.live()
    assert isinstance(key, rsa.RSAPrivateKey)
    san = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert san.get_values_for_type(x509.DNSName) == ["a.example.com"]


def test_the_owner_asks_with_a_login(world, device, tmp_path) -> None:
    """The other way of the story: no identity certificate, but the owner's login."""
    (tmp_path / "password").write_text("correct horse\n")
    owner = {
        "identity_certificate": None,
        "identity_key": None,
        "owner_username": "jo",
        "owner_password_file": tmp_path / "password",
        "device_serial_number": "RT/1",
        "names": ("a.example.com",),
    }
    assert renew(device.agent(**owner)).renewed
    device.live()
    (tmp_path / "password").write_text("wrong")
    with pytest.raises(Refused, match="login-wrong") as refusal:
        renew(device.agent(**owner), force=True)
    assert "wrong" not in str(refusal.value).replace("login-wrong", "").replace("is wrong", "")


def test_a_key_from_the_server(world, device) -> None:
    """The maker's key management makes the key; it arrives encrypted, matches, and is installed."""
    renew(device.agent(), key_from_server=True)
    assert isinstance(device.live()[0], ec.EllipticCurvePrivateKey)
    assert posts(world) == []


def test_a_key_for_another_device_is_not_installed(world, device) -> None:
    """An envelope that was sealed to somebody else leaves everything as it was."""
    stranger = ec.generate_private_key(ec.SECP256R1())
    theirs = world.root.issue(stranger.public_key(), subject="RT-0002")
    deliver = world.deliver
    world.deliver = lambda kind, _: deliver(kind, theirs.public_bytes(serialization.Encoding.DER))
    with pytest.raises(Unacceptable, match="does not open"):
        renew(device.agent(), key_from_server=True)
    assert device.live() is None


def test_a_lost_answer_is_asked_for_again_with_the_same_csr(world, device) -> None:
    """The server certified, the connection broke: no second key, no second certificate."""

    def lose(handler) -> bool:
        world.certify(world.requests[-1][1]["csr"])
        handler.close_connection = True
        return True

    world.faults += [no_fault, lose]
    with pytest.raises(Unreachable):
        renew(device.agent())
    assert device.live() is None
    assert renew(device.agent()).renewed
    assert len(set(posts(world))) == 1
    assert len(world.by_csr) == 1


def test_a_busy_server_is_not_asked_twice(world, device) -> None:
    """503 with Retry-After ends the attempt, and the wish is passed on to the schedule."""
    world.faults.append(problem(503, "busy", "later", [("Retry-After", "77")]))
    with pytest.raises(Unreachable) as refusal:
        renew(device.agent())
    assert refusal.value.retry_after == 77
    assert world.requests == []


def test_an_outage_while_nothing_is_due_is_no_failure(world, device) -> None:
    """The device goes by the time that it remembers, and says so."""
    first = renew(device.agent())
    world.faults.append(problem(503, "busy", "later"))
    assert renew(device.agent()).renew_at == first.renew_at
    assert any("stays as it is" in line for line in device.said)


def test_a_refused_csr_is_not_repeated_for_ever(world, device) -> None:
    """After a refusal the next attempt comes with a new key."""
    world.faults += [no_fault, problem(409, "key-known", "the key is another device's")]
    with pytest.raises(Refused, match="key-known"):
        renew(device.agent())
    assert renew(device.agent()).renewed
    assert len(set(posts(world))) == 2


@pytest.mark.parametrize("flaw", ["key", "names", "chain", "expired", "garbage"])
def test_a_wrong_certificate_is_never_installed(world, device, flaw: str) -> None:
    """What is not ours, not for our names, broken or expired stays out; the old one serves."""
    renew(device.agent())
    serial = device.live()[1].serial_number
    certify = world.certify
    stranger = ec.generate_private_key(ec.SECP256R1()).public_key()

    def wrong(csr_pem: str) -> dict:
        public = x509.load_pem_x509_csr(csr_pem.encode()).public_key()
        if flaw == "key":
            return world.issue(stranger, world.names)
        if flaw == "names":
            return world.issue(public, ["elsewhere.example.org"])
        if flaw == "chain":
            pem = world.root.below("Other Issuing").certificate.public_bytes(
                serialization.Encoding.PEM
            )
            return {**certify(csr_pem), "chain": pem.decode()}
        if flaw == "expired":
            world.lifetime = dt.timedelta(minutes=5)
            return world.issue(public, world.names)
        return {**certify(csr_pem), "certificate": "-----BEGIN CERTIFICATE-----\nAAAA\ud800"}

    world.certify = wrong
    with pytest.raises(Unacceptable):
        renew(device.agent(), force=True)
    assert device.live()[1].serial_number == serial
    assert "pending" not in device.entries()


def test_a_certificate_of_tomorrow_waits(world, device) -> None:
    """If the clocks disagree, the request is kept: the same certificate is right later."""
    server_time = world.now
    world.now = lambda: server_time() + 2 * dt.timedelta(hours=1)
    with pytest.raises(Unacceptable, match="starts at"):
        renew(device.agent(now=server_time))
    assert renew(device.agent(now=world.now)).renewed
    assert len(world.by_csr) == 1


def test_a_device_without_a_clock_uses_the_servers(world, device) -> None:
    """In 1970 nothing is valid; the agent judges by the server's time, and says so."""
    outcome = renew(device.agent(now=lambda: dt.datetime(1970, 1, 1, tzinfo=dt.UTC)))
    assert outcome.renewed
    assert outcome.renew_at > world.now()
    assert any("1970" in line for line in device.said)


def test_the_router_serves_the_new_certificate(world, device, router_for) -> None:
    """After the reload the router presents exactly the new leaf, and the version is proved."""
    renew(device.agent())
    router = router_for(device)
    check = {"check_address": router.address, "reload_command": router.reload_command}
    assert renew(device.agent(**check), force=True).renewed
    assert router.presented() == device.live()[1]
    assert device.agent().store.live().state.proved


@pytest.mark.parametrize("how", ["ignore", "die"])
def test_a_reload_that_fails_is_rolled_back(world, device, router_for, how: str) -> None:
    """The old certificate is live again, the new one is kept and used at the next attempt."""
    renew(device.agent())
    old = device.live()[1]
    router = router_for(device)
    check = {
        "check_address": router.address,
        "reload_command": router.reload_command,
        "check_timeout_s": 0.6,
    }
    router.break_reload(how)
    with pytest.raises(CheckFailed, match="the previous certificate is back"):
        renew(device.agent(**check), force=True)
    assert device.live()[1] == old
    assert "failed" in device.entries()
    if how == "ignore":
        assert router.presented() == old


def test_the_set_aside_certificate_gets_a_second_chance(world, device, router_for) -> None:
    """A router that was down for a moment costs no second certificate."""
    renew(device.agent())
    later(world, 80)
    router = router_for(device)
    check = {
        "check_address": router.address,
        "reload_command": router.reload_command,
        "check_timeout_s": 0.6,
    }
    router.break_reload("ignore")
    with pytest.raises(CheckFailed):
        renew(device.agent(**check))
    router.break_reload("")
    assert renew(device.agent(**check)).renewed
    assert router.presented() == device.live()[1]
    assert len(posts(world)) == 2
    assert not {"failed", "pending"} & set(device.entries())


def test_a_first_certificate_that_is_not_served_stays(world, device, router_for) -> None:
    """With nothing to go back to, the new pair stays, and is proved later without a new request."""
    check = {"check_address": ("127.0.0.1", 1), "check_timeout_s": 0.3}
    with pytest.raises(CheckFailed, match="no older certificate"):
        renew(device.agent(**check))
    device.live()
    assert not device.agent().store.live().state.proved
    router = router_for(device)
    check |= {"check_address": router.address}
    assert not renew(device.agent(**check)).renewed
    assert device.agent().store.live().state.proved
    assert len(posts(world)) == 1


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (("/nonexistent/reload",), "does not start"),
        (("false",), "ended with 1"),
        (("sh", "-c", "kill -9 $$"), "ended with -9"),
    ],
)
def test_a_reload_command_that_fails(world, device, command, says: str) -> None:
    """Its failure is a failed check: the previous certificate comes back."""
    renew(device.agent())
    old = device.live()[1]
    with pytest.raises(CheckFailed, match=says):
        renew(device.agent(reload_command=command), force=True)
    assert device.live()[1] == old


def test_no_word_of_the_configuration_meets_a_shell(world, device, tmp_path) -> None:
    """Quotes and semicolons in the command are letters."""
    renew(device.agent(reload_command=("true", f"; touch {tmp_path}/owned", "$(id)")))
    assert not (tmp_path / "owned").exists()


def test_a_second_agent_is_kept_out(world, device) -> None:
    """Two agents never work in one folder."""
    first = device.agent()
    with first.store.locked(), pytest.raises(Locked):
        renew(device.agent())


def test_a_folder_that_cannot_be_written(world, device) -> None:
    """A broken disk is one sentence, and the live pair is untouched."""
    renew(device.agent())
    old = device.live()[1]

    def full(_: str) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(StorageFailed, match="No space left"):
        renew(device.agent(step=full), force=True)
    assert device.live()[1] == old
    assert renew(device.agent(), force=True).renewed


def test_no_names_at_all(world, device) -> None:
    """If nobody knows a name, the sentence says where one could come from."""
    world.names = ()
    with pytest.raises(Misconfigured, match="a name for this device"):
        renew(device.agent())


def test_a_damaged_version_is_no_version(world, device) -> None:
    """A chain that bit-rot destroyed counts as missing: a new certificate is fetched."""
    renew(device.agent())
    (device.folder / "live" / "chain.pem").write_text("rotten")
    assert renew(device.agent()).renewed
    device.live()


def test_a_damaged_state_is_drawn_anew(world, device) -> None:
    """state.json holds nothing that cannot be had again."""
    renew(device.agent())
    (device.folder / "live" / "state.json").write_text("{")
    outcome = renew(device.agent())
    assert not outcome.renewed
    assert outcome.renew_at < outcome.not_after
