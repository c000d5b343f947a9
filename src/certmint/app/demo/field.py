"""Steps 5 to 7: first boot, who asks, and life."""

import base64
import json
import shutil
import threading
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from certmint.app.chart import spark, svg
from certmint.app.demo import clients
from certmint.app.demo.ground import NAME, OPERATOR, PASSPHRASE
from certmint.app.demo.narrator import NotProved
from certmint.app.demo.world import World, free_port, wait_for
from certmint.app.simulation import Plan, simulate
from certmint.enrolment import chains, devices
from certmint.enrolment.authorities import authority_named
from certmint.enrolment.facts import authority_chain
from certmint.model.entities import Authority
from certmint.model.profile import SERVICE, Purpose
from certmint.model.serial import Serial
from certmint.registry import reads
from certmint.validation.dns import Nameserver, NetworkResolver

OWNER, PASSWORD = "jo", "correct horse battery"


@dataclass
class Router:
    """One router on the LAN (of loopback): its folder, its web server, its agent."""

    world: World
    serial: str
    folder: Path
    port: int
    process: object = field(default=None, repr=False)

    @property
    def own_name(self) -> str:
        return f"{self.serial.lower()}.dev.example.com"

    def agent(self, *words: str, check: bool = True) -> int:
        """Run the device's agent; its exit code."""
        done = self.world.run(
            "certmint-agent", *words, "--config", str(self.folder / "agent.toml"), check=check
        )
        return done.returncode

    def visit(self, name: str) -> clients.Visit:
        """Open the router's page by DNS, trusting only the maker's root."""
        resolver = NetworkResolver((Nameserver("127.0.0.1", self.world.dns.port),))
        (address, *_) = resolver.addresses(name).values
        return clients.visit(name, address, self.port, _root_pem(self.world))

    @property
    def identity(self) -> tuple[Path, Path]:
        return self.folder / "identity.pem", self.folder / "identity.key"


def flash(world: World, packages: Path, serial: str, *, boot: bool = True) -> Router:
    """Put a factory package onto a router, as the line does, and switch it on."""
    package, folder = packages / serial, world.folder / "routers" / serial
    tls = folder / "tls"
    first = tls / "versions" / "20260101T000000Z-1"
    first.mkdir(parents=True)
    key = serialization.load_pem_private_key(
        (package / "key.pem").read_bytes(), PASSPHRASE.encode()
    )
    plain = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    for path in (first / "key.pem", folder / "identity.key"):
        path.touch(0o600)
        path.write_bytes(plain)
    shutil.copy(package / "identity.pem", folder / "identity.pem")
    if (package / "service.pem").exists():
        shutil.copy(package / "service.pem", first / "chain.pem")
        (tls / "live").symlink_to("versions/20260101T000000Z-1")
    router = Router(world, serial, folder, free_port())
    if boot:
        _boot(world, router, tls)
    return router


def _boot(world: World, router: Router, tls: Path) -> None:
    server = world.start(
        "python", "-m", "certmint.app.demo.router", str(tls), str(router.port), log="routers.log"
    )
    wait_for(router.port, server)
    (router.folder / "agent.toml").write_text(
        f'server = "{world.https}"\n'
        f'ca_file = "{world.trust}"\n'
        'service_folder = "tls"\n'
        'identity_certificate = "identity.pem"\n'
        'identity_key = "identity.key"\n'
        f'reload_command = ["kill", "-HUP", "{server.pid}"]\n'
        f'check_address = "127.0.0.1:{router.port}"\n'
        "check_timeout_s = 5\n"
    )


def _root_pem(world: World) -> str:
    with world.here.db.read() as tx:
        return chains.pem(authority_named(tx, world.maker.id, "maker-root").der)


def first_boot(world: World) -> list[Router]:
    """Step 5. The routers that steps 6 and 7 go on with."""
    say = world.say
    say.step("5", "First boot: the owner opens the router's page")
    server = world.start("certmint", "serve", log="server.log")
    wait_for(int(world.https.rpartition(":")[2]), server)
    fresh = flash(world, world.folder / "packages", "R000001")
    for name in (NAME, fresh.own_name):
        seen = fresh.visit(name)
        say.proved(
            f"https://{name}/ opens with the factory certificate; trusted: the root only", seen.ok
        )
    boxed = flash(world, world.folder / "warehouse-W", "W000001")
    seen = boxed.visit(NAME)
    say.proved(
        f"a router from the warehouse: refused by the client ({seen.detail})",
        "expired" in seen.detail,
    )
    boxed.agent("enrol")
    say.proved(
        "2.1: its agent makes a new key and a CSR, is certified, and the page opens again",
        boxed.visit(NAME).ok,
    )
    kept = flash(world, world.folder / "warehouse-W", "W000002")
    kept.agent("enrol", "--key-from-server")
    say.proved(
        "2.2: another gets a key made by key management, encrypted to it; its page opens",
        kept.visit(NAME).ok,
    )
    _only_that_device(world, kept, fresh)
    public = flash(world, world.folder / "warehouse-P", "P000001", boot=False)
    status, problem = clients.call(
        world.https,
        "/api/v1/device/keys",
        world.trust,
        identity=public.identity,
        body={"kind": "ec-p256"},
    )
    say.proved(
        f"a key made for a public profile is refused: {status} {problem.get('code')}",
        problem.get("code") == "key-origin",
    )
    return [fresh, boxed, kept]


def _only_that_device(world: World, mine: Router, other: Router) -> None:
    if clients.OPENSSL is None:
        world.say.absent("openssl", "openssl cms -decrypt of the delivered key")
        return
    _, answer = clients.call(
        world.https,
        "/api/v1/device/keys",
        world.trust,
        identity=mine.identity,
        body={"kind": "ec-p256"},
    )
    envelope = mine.folder / "envelope.der"
    envelope.write_bytes(base64.b64decode(str(answer.get("encrypted_key", ""))))
    opened = [
        clients.openssl(
            "cms",
            "-decrypt",
            "-inform",
            "DER",
            "-in",
            str(envelope),
            "-inkey",
            str(each.identity[1]),
            "-recip",
            str(mine.identity[0]),
            "-out",
            str(each.folder / "delivered.key"),
        ).returncode
        == 0
        for each in (mine, other)
    ]
    world.say.proved(
        "openssl cms opens the envelope with that router's key, and with no other",
        opened == [True, False],
    )


def who_asks(world: World, routers: list[Router]) -> None:
    """Step 6."""
    say, here = world.say, world.here
    say.step("6", "Who asks? Each is evidence at the same gate")
    router = routers[1]
    body = {"csr": _csr()}
    path = "/api/v1/device/certificates"
    status, answer = clients.call(
        world.https, path, world.trust, identity=router.identity, body=body
    )
    say.proved(
        f"the device, by its identity certificate over mTLS: {_evidence(world, answer)}",
        status == 201,
    )
    status, answer = clients.call(world.https, path, world.trust, body=body)
    say.proved(f"nobody: {status} {answer['code']}", status == 401)
    devices.add_owner(
        here.db,
        world.maker,
        OWNER,
        PASSWORD,
        by=OPERATOR,
        now=here.clock(),
        random_bytes=here.random_bytes,
    )
    devices.claim(here.db, world.maker, router.serial, OWNER, by=OPERATOR, now=here.clock())
    login = clients.basic(f"example/{OWNER}", PASSWORD)
    path = f"/api/v1/owner/devices/{router.serial}/certificates"
    status, answer = clients.call(
        world.https, path, world.trust, headers=login, body={"csr": _csr()}
    )
    say.proved(f"the owner, by the login at the maker: {_evidence(world, answer)}", status == 201)
    other = f"/api/v1/owner/devices/{routers[0].serial}/certificates"
    status, answer = clients.call(
        world.https, other, world.trust, headers=login, body={"csr": _csr()}
    )
    say.proved(
        f"the same login for somebody else's router: {status} {answer['code']}", status == 403
    )
    taken = {"csr": body["csr"]}
    status, answer = clients.call(
        world.https,
        "/api/v1/device/certificates",
        world.trust,
        identity=routers[0].identity,
        body=taken,
    )
    say.proved(
        f"a key that is certified for another router: {status} {answer['code']}",
        answer["code"] == "key-reused",
    )


def _evidence(world: World, answer: dict[str, object]) -> str:
    with world.here.db.read() as tx:
        intent = reads.issuance(tx, world.maker.id, Serial(str(answer["serial"])))
    if intent is None:
        raise NotProved("demo-failed", "a certificate without its intent")
    kinds = ", ".join(piece["kind"] for piece in json.loads(intent.evidence))
    return f"{kinds} from {intent.requester.partition(':')[0]}"


def _csr() -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return request.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def life(world: World, routers: list[Router]) -> None:
    """Step 7."""
    say = world.say
    say.step("7", "For life: renewal, revocation, and ten years of a fleet")
    fresh, boxed, _ = routers
    before = fresh.visit(NAME).serial
    with _Watcher(fresh) as watched:
        fresh.agent("renew", "--force")
    after = fresh.visit(NAME).serial
    say.proved(
        f"certmint-agent renewed with a new key while a client looked {watched.visits} times: "
        f"no failure",
        before != after and watched.visits > 0 and not watched.failures,
    )
    _roll_back(world, fresh, after)
    _revoke(world, boxed)
    plan = Plan(1000, world.here.clock().replace(microsecond=0), 10, SERVICE, 2 / 3)
    result = simulate(plan)
    picture = world.folder / "renewals.svg"
    share = f"{result.renewals} renewals, valid {result.valid_share:.4f} of the time"
    subtitle = f"1000 devices, 10 years: {share}"
    picture.write_text(svg("Renewals per week", subtitle, result.per_week, plan.start.date(), 7))
    say.did(f"renewals over ten years  {spark(result.per_week, 48)}  (drawn in {picture})")
    say.proved(
        f"1000 devices, 10 years: {share}; "
        f"peak {result.peak_per_hour} an hour, mean {result.mean_per_hour:.2f}",
        result.valid_share == 1.0,
    )


class _Watcher:
    """A client that opens the page again and again while something happens."""

    def __init__(self, router: Router) -> None:
        self._router = router
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.visits = self.failures = 0

    def _run(self) -> None:
        while not self._stop.is_set():
            self.visits += 1
            self.failures += not self._router.visit(NAME).ok
            time.sleep(0.02)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def _roll_back(world: World, router: Router, serving: str) -> None:
    config = router.folder / "agent.toml"
    good = config.read_text()
    lines = [
        'reload_command = ["false"]' if "reload" in line else line for line in good.splitlines()
    ]
    config.write_text("\n".join(lines).replace("check_timeout_s = 5", "check_timeout_s = 1") + "\n")
    code = router.agent("renew", "--force", check=False)
    config.write_text(good)
    seen = router.visit(NAME)
    world.say.proved(
        f"a reload that fails: the agent goes back to the old pair (exit {code}), the page is up",
        code != 0 and seen.ok and seen.serial == serving,
    )


def _revoke(world: World, router: Router) -> None:
    say, here = world.say, world.here
    device = devices.view_by_serial_number(here.db, world.maker.id, router.serial).device
    with here.db.read() as tx:
        identity = reads.latest_certificate(tx, world.maker.id, device.id, Purpose.IDENTITY)
        service = reads.latest_certificate(tx, world.maker.id, device.id, Purpose.SERVICE)
        if identity is None or service is None:
            raise NotProved("demo-failed", "the router has no certificates")
        links = authority_chain(tx, world.maker.id, service.authority_id)
    for each in (identity, service):
        world.run(
            "certmint",
            "certificate",
            "revoke",
            each.serial,
            "--reason",
            "key-compromise",
            "-m",
            "example",
        )
    _status(world, service.der, links)
    code = router.agent("renew", "--force", check=False)
    status, answer = clients.call(
        world.https,
        "/api/v1/device/certificates",
        world.trust,
        identity=router.identity,
        body={"csr": _csr()},
    )
    say.proved(
        f"the revoked router can renew no more: {status} {answer['code']} (agent exit {code})",
        answer["code"] == "evidence-revoked" and code != 0,
    )


def _status(world: World, leaf: bytes, links: list[Authority]) -> None:
    """CRL and OCSP of the revoked service certificate, as openssl sees them over HTTP."""
    if clients.OPENSSL is None:
        world.say.absent("openssl", "openssl verify -crl_check and openssl ocsp")
        return
    issuer, root = links[0], links[-1]
    above = [link.der for link in links[:-1]]
    folder = world.folder / "status"
    folder.mkdir()
    crl = urllib.request.urlopen(issuer.crl_url(0), timeout=10).read()  # noqa: S310 (our own URL)
    (folder / "crl.pem").write_text(pem_of(crl, "X509 CRL"))
    seen = clients.openssl_verify(
        leaf, above, root.der, "-crl_check", "-CRLfile", str(folder / "crl.pem")
    )
    world.say.proved(
        f"openssl verify -crl_check: {seen.partition(': ')[2] or seen}", "revoked" in seen
    )
    (folder / "issuer.pem").write_text(chains.pem(issuer.der))
    (folder / "leaf.pem").write_text(chains.pem(leaf))
    (folder / "root.pem").write_text(chains.pem(root.der))
    (folder / "above.pem").write_text("".join(map(chains.pem, above)))
    answer = clients.openssl(
        "ocsp",
        "-issuer",
        str(folder / "issuer.pem"),
        "-cert",
        str(folder / "leaf.pem"),
        "-url",
        issuer.ocsp_url,
        "-CAfile",
        str(folder / "root.pem"),
        "-verify_other",
        str(folder / "above.pem"),
    )
    lines = [line.strip() for line in (answer.stdout + answer.stderr).splitlines()]
    said = [line for line in lines if "revoked" in line or "Reason" in line]
    verified = any("Response verify OK" in line for line in lines)
    world.say.proved(
        f"openssl ocsp, response verified: {'; '.join(said)[-60:]}", verified and bool(said)
    )


def pem_of(der: bytes, kind: str) -> str:
    """DER as PEM under another label."""
    return chains.pem(der).replace("CERTIFICATE", kind)
