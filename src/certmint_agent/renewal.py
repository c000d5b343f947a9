"""Getting a certificate and putting it to use: the one way for enrol, renew and run.

1. Finish what a power cut interrupted: a live version that was never proved is proved now.
2. Ask the server for our names and its renewal window; draw the time of renewal once a window.
3. If it is due: a key (made in `key_store`, or sent encrypted), a certificate, and its checks.
4. Write the version, switch `live`, reload the router's server, look at what it serves.
5. Proved: the older versions go, the newest of them stays. Not proved: `live` goes back to the
   previous version, the server is reloaded again, and the failed version is set aside; it is
   tried again at the next attempt, without asking the server for another one.

If the power fails: before the switch the old pair is live, and the pending key gets its
certificate on the next attempt; after the switch the new pair is live, unproved, and step 1 follows
it up. `certmint_agent.store` says why no third state exists. A key from the server that is lost
before its version is complete is lost for good: another is asked for.
"""

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass, replace

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from certmint_agent import BUILD_DATE, cms, credential, key_store, schedule, server, service, signed
from certmint_agent.config import Config
from certmint_agent.credential import Credential, PrivateKey
from certmint_agent.errors import (
    CheckFailed,
    KeyStoreFailed,
    Misconfigured,
    Refused,
    Unacceptable,
    Unreachable,
)
from certmint_agent.key_store import KeyStore
from certmint_agent.schedule import Random, Window
from certmint_agent.server import Device, Issued
from certmint_agent.store import State, Store, Version
from certmint_agent.transport import Transport


@dataclass(frozen=True)
class Agent:
    """One device: its configuration and folder, a clock (UTC), dice, and an ear for remarks."""

    config: Config
    store: Store
    now: Callable[[], dt.datetime]
    random: Random
    say: Callable[[str], None]


@dataclass(frozen=True)
class Outcome:
    """`renewed` or not due; `now` is the judged time, `renew_at` the next renewal."""

    renewed: bool
    now: dt.datetime
    not_after: dt.datetime
    renew_at: dt.datetime


def renew(agent: Agent, *, force: bool = False, key_from_server: bool = False) -> Outcome:
    """Renew if it is due (or `force`), else say when. Raises AgentError; see the module."""
    if key_from_server and agent.config.key_store != "file:":
        raise Misconfigured("a key from the server has been outside of any hardware: use file:")
    with agent.store.locked(), key_store.opened(agent.config.key_store) as keys:
        transport, now = _reach(agent)
        _mention_identity(agent, now)
        live = _usable(agent, keys, agent.store.live())
        if live and not live.state.proved and not force and now < live.leaf.not_valid_after_utc:
            live = _prove(agent, keys, live)
        due = force or live is None or now >= live.state.renew_at
        device = _ask(agent, transport, due)
        live = _follow_window(agent, live, device, now)
        names = _wanted_names(agent.config, device, live)
        if live and not force and now < live.state.renew_at and credential.covers(live.leaf, names):
            return _outcome(live, now, renewed=False)
        version = None if force else _second_chance(agent, keys, names, now)
        if version is None:
            if key_from_server:
                good, window = _fetch_key(agent, transport, names, now)
            else:
                good, window = _certify(agent, keys, transport, names, now)
            version = agent.store.add(good, _draw(agent, good.leaf, window, now), now)
        agent.store.point(version)
        return _outcome(_prove(agent, keys, version), now, renewed=True)


def _outcome(version: Version, now: dt.datetime, *, renewed: bool) -> Outcome:
    return Outcome(renewed, now, version.leaf.not_valid_after_utc, version.state.renew_at)


def _reach(agent: Agent) -> tuple[Transport, dt.datetime]:
    """The way to the server, and what time it is. The system's clock is never set."""
    system = agent.now()
    if system >= BUILD_DATE:
        return server.connect(agent.config, clock_is_right=True), system
    transport = server.connect(agent.config, clock_is_right=False)
    stated = server.time_of(transport)
    if stated is None:
        raise Unreachable("the clock of this device is lost, and the server states no time")
    agent.say(
        f"the clock shows {system.isoformat()}, which cannot be; "
        f"judging by the server's, {stated.isoformat()}"
    )
    return transport, stated


def _mention_identity(agent: Agent, now: dt.datetime) -> None:
    """An expired identity is shown all the same: within bounds the server may excuse it."""
    config = agent.config
    if config.identity_certificate is None or config.identity_key is None:
        return
    end = credential.load_identity(config.identity_certificate, config.identity_key)[0]
    if now > end.not_valid_after_utc:
        agent.say(
            f"the identity certificate expired at {end.not_valid_after_utc.isoformat()}; "
            "the server decides whether that is excused"
        )


def _ask(agent: Agent, transport: Transport, due: bool) -> Device | None:
    """What the server knows of us; None if nobody can say, and nothing is urgent."""
    if transport.identity is None:
        return None
    try:
        return server.device(transport)
    except Unreachable as problem:
        # A server that says "later" is not asked twice in a row: what is due fails here.
        if due:
            raise
        agent.say(f"{problem}; the time of renewal stays as it is")
        return None


def _wanted_names(config: Config, device: Device | None, live: Version | None) -> tuple[str, ...]:
    names = config.names or (device.names if device else ())
    if not names and live:
        names = credential.names_in(live.leaf)
    if not names:
        raise Misconfigured("neither the configuration nor the server has a name for this device")
    return names


def _follow_window(
    agent: Agent, live: Version | None, device: Device | None, now: dt.datetime
) -> Version | None:
    """Draw again only if the server has moved the window of the certificate in use."""
    if live is None or device is None or device.serial != live.leaf.serial_number:
        return live
    if device.window is None or device.window == live.state.window:
        return live
    state = _draw(agent, live.leaf, device.window, now)
    return agent.store.remember(live, replace(state, proved=live.state.proved))


def _draw(agent: Agent, leaf: x509.Certificate, window: Window | None, now: dt.datetime) -> State:
    start, end = leaf.not_valid_before_utc, leaf.not_valid_after_utc
    return State(window, schedule.next_attempt(now, start, end, window, agent.random))


def _usable(agent: Agent, keys: KeyStore, version: Version | None) -> Version | None:
    """The version, unless its key is gone: a token was initialised anew, or a TPM cleared."""
    if version is None or version.key.home != keys.home or keys.open(version.key) is not None:
        return version
    agent.say(
        f"key_store does not hold {version.key.where} of {version.path.name}: a new one is due"
    )
    return None


def _second_chance(
    agent: Agent, keys: KeyStore, names: tuple[str, ...], now: dt.datetime
) -> Version | None:
    """The version that failed its check before, if it is still worth a try."""
    failed = _usable(agent, keys, agent.store.failed())
    if failed is None or now >= failed.state.renew_at or not credential.covers(failed.leaf, names):
        return None
    return agent.store.readopt(failed, now)


def _request(
    agent: Agent, keys: KeyStore, names: tuple[str, ...]
) -> tuple[PrivateKey, x509.CertificateSigningRequest]:
    """The request under way, if it still is what we want, or a new one."""
    pending = agent.store.pending()
    if pending is not None and set(credential.names_in(pending[1])) == set(names):
        key = keys.open(pending[0])
        if key is not None and credential.kind_of(key) == agent.config.key_kind:
            return key, pending[1]
    # The folder goes before its key, and a key comes before its folder: if the power fails between
    # the two, the token holds a key that no folder names, and the next sweep finds it.
    agent.store.drop_pending()
    _sweep(agent, keys)
    key = keys.generate(agent.config.key_kind)
    agent.store.step("key made")
    request = credential.make_csr(key, names)
    agent.store.put_pending(key, request)
    return key, request


def _sweep(agent: Agent, keys: KeyStore) -> None:
    """Destroy the keys that no folder names; what cannot be destroyed is no reason to stop."""
    try:
        keys.sweep(agent.store.keys())
    except KeyStoreFailed as problem:
        agent.say(f"old keys stay for now: {problem}")
    agent.store.step("old keys destroyed")


def _certify(
    agent: Agent,
    keys: KeyStore,
    transport: Transport,
    names: tuple[str, ...],
    now: dt.datetime,
) -> tuple[Credential, Window | None]:
    key, request = _request(agent, keys, names)
    try:
        text = request.public_bytes(Encoding.PEM).decode()
        issued = server.certify(transport, text, agent.config.device_serial_number)
        agent.store.step("answer received")
        good = credential.accept(key, issued.leaf_pem, issued.chain_pem, names, now)
    except credential.NotYetValid:
        raise  # the same certificate will do when the clocks agree
    except (Refused, Unacceptable):
        agent.store.drop_pending()  # the same CSR would get the same answer for ever
        raise
    return good, issued.window


def _fetch_key(
    agent: Agent, transport: Transport, names: tuple[str, ...], now: dt.datetime
) -> tuple[Credential, Window | None]:
    config = agent.config
    if config.identity_certificate is None or config.identity_key is None:
        raise Misconfigured("a key from the server is encrypted to identity_certificate: set it")
    identity = credential.load_identity(config.identity_certificate, config.identity_key)
    issued: Issued = server.deliver_key(transport, config.key_kind)
    anchors, host = server.vouchers(config)
    content = cms.open_envelope(
        issued.envelope or b"",
        *identity,
        verify=lambda data: signed.vouched_key(data, anchors, host, now),
    )
    try:
        key = credential.load_key(content)
    except ValueError:
        raise Unacceptable("the envelope that the server sent holds no private key") from None
    good = credential.accept(key, issued.leaf_pem, issued.chain_pem, names, now)
    return good, issued.window


def _prove(agent: Agent, keys: KeyStore, version: Version) -> Version:
    """Reload and look; the version comes back proved, or `live` goes back and CheckFailed rises."""
    try:
        _put_to_use(agent.config, version)
    except CheckFailed as problem:
        previous = agent.store.previous(version)
        if previous is None:
            raise CheckFailed(
                f"{problem}; there is no older certificate, so the new one stays and is checked "
                "again at the next attempt"
            ) from None
        agent.store.point(previous)
        outcome = "the previous certificate is back"
        try:
            service.reload(agent.config.reload_command)
        except CheckFailed as again:
            outcome = f"the previous certificate is back, but {again}"
        agent.store.set_aside(version)
        raise CheckFailed(f"{problem}; {outcome}") from None
    # In this order: if the power fails between the two, the version is proved and the rest is
    # dropped once more. A request left pending beside a proved version would be sent at the next
    # renewal, and get the old certificate again.
    agent.store.retire(version)
    _sweep(agent, keys)
    return agent.store.remember(version, replace(version.state, proved=True))


def _put_to_use(config: Config, version: Version) -> None:
    service.reload(config.reload_command)
    if config.check_address is not None:
        name = config.check_name or _first_name(version)
        service.check(config.check_address, name, version.leaf, config.check_timeout_s)


def _first_name(version: Version) -> str:
    names = credential.names_in(version.leaf)
    return next((name for name in names if not name.startswith("*.")), "")
