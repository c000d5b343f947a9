"""Steps 1 to 4: DNS, domain validation, authorities, the factory."""

import csv
import os
import signal
import sys
import time
from pathlib import Path

from certmint.app.demo import clients
from certmint.app.demo.narrator import NotProved
from certmint.app.demo.thief import forge
from certmint.app.demo.world import TSIG_NAME, World
from certmint.app.wiring import utc_now
from certmint.enrolment import authorities, chains, domains, manufacturers, products
from certmint.enrolment.batches import submit
from certmint.enrolment.facts import authority_chain
from certmint.enrolment.keygen import make_key
from certmint.enrolment.minting import mint_into
from certmint.enrolment.packages import PackageFormat
from certmint.model.constraints import named_subordinate, technically_constrained
from certmint.model.entities import Authority, ValidationMethod
from certmint.model.errors import Refused
from certmint.model.evidence import OperatorGrant
from certmint.model.keys import KeyKind, KeyOrigin, public_key_of
from certmint.model.manifest import parse_manifest
from certmint.model.names import DNSName
from certmint.model.profile import IDENTITY, SERVICE, SERVICE_PUBLIC, Profile
from certmint.model.request import CertificateRequest, HeldKey, Requester, RequesterKind
from certmint.model.states import DeviceState
from certmint.model.subject import DistinguishedName
from certmint.registry import reads
from certmint.validation.dns import Nameserver
from certmint.validation.dnsupdate import TSIGKey

OPERATOR = "console:demo"
NAME = "router.example.com"
DEVICES = 1000
WAREHOUSE_DAYS = 120
PASSPHRASE = "demo-line-passphrase"  # noqa: S105 (of a demo's throw-away packages)


def dns(world: World) -> None:
    """Step 1."""
    say = world.say
    say.step("1", "DNS: tie the router's name to its address on the LAN")
    records = domains.address_records(NAME, "127.0.0.1")
    for record in records:
        say.did(str(record))
    server = Nameserver("127.0.0.1", world.dns.port)
    good = TSIGKey(TSIG_NAME, "hmac-sha256", world.tsig)
    proof = domains.apply_records(server, "example.com", records, good)
    say.proved(f"written by RFC 2136 with TSIG, and answered: {proof[1]}")
    try:
        bad = TSIGKey(TSIG_NAME, "hmac-sha256", os.urandom(32))
        domains.apply_records(server, "example.com", records, bad)
    except Refused as refusal:
        say.proved(f"a wrong TSIG key is refused [{refusal.code}]")
    else:
        raise NotProved("demo-failed", "the DNS server took a wrong TSIG key")
    devices = domains.address_records("dev.example.com", "127.0.0.1")
    domains.apply_records(server, "example.com", devices, good)
    say.did("the same for *.dev.example.com, where each device has a name of its own")


def validate(world: World) -> None:
    """Step 2."""
    say, here = world.say, world.here
    say.step("2", "Domain validation: the maker controls example.com")
    world.past.days = WAREHOUSE_DAYS + 1
    subject = DistinguishedName.of(C="US", O="Example Router Inc")
    world.tenant = manufacturers.add_manufacturer(
        here.db, "example", subject, by=OPERATOR, now=here.clock(), random_bytes=here.random_bytes
    )
    server = Nameserver("127.0.0.1", world.dns.port)
    key = TSIGKey(TSIG_NAME, "hmac-sha256", world.tsig)
    for method in (ValidationMethod.DNS_TXT, ValidationMethod.DNS_CNAME):
        attempt = domains.begin_validation(
            here.db, world.tenant, "example.com", method,
            by=OPERATOR, now=here.clock(), random_bytes=here.random_bytes,
        )  # fmt: skip
        early = _refused(world, attempt.id)
        record = domains.challenge_record(attempt)
        domains.apply_records(server, "example.com", [record], key)
        done = domains.verify_domain(
            here.db,
            world.tenant,
            attempt.id,
            domains.World(here.resolver),
            by=OPERATOR,
            now=here.clock(),
        )
        say.did(str(record))
        say.proved(
            f"{record.kind}: refused before it was published [{early}], found after; the value "
            f"dies on {attempt.expires_at.date()}"
        )
        say.did(f"evidence kept: {done.evidence}")


def _refused(world: World, attempt_id: str) -> str:
    try:
        domains.verify_domain(
            world.here.db, world.maker, attempt_id, domains.World(world.here.resolver),
            by=OPERATOR, now=world.here.clock(),
        )  # fmt: skip
    except Refused as refusal:
        return refusal.code
    raise NotProved("demo-failed", "a domain was validated without its record")


def certify(world: World) -> None:
    """Step 3."""
    say, here = world.say, world.here
    say.step("3", "A root, an issuing CA, and SubCAs that cannot leave example.com")
    for name, profile, parent in (
        ("maker-root", "root", None),
        ("maker-issuing", "issuing", "maker-root"),
        ("identity-root", "identity-root", None),
        ("identity-ca", "identity-issuing", "identity-root"),
    ):
        _authority(world, name, profile, parent, None)
    scope = DistinguishedName.of(C="US", O="Example Router Inc")
    kinds = {
        "tls-7.1.2.5": technically_constrained(("example.com",), scope),
        "tls-7.1.2.6": named_subordinate(("example.com",)),
    }
    for name, constraints in kinds.items():
        subca = _authority(world, name, "subordinate", "maker-issuing", constraints)
        until = f"until {subca.not_after:%Y-%m-%d}"
        say.did(f"{subca.name}: {subca.subject}, path length {subca.path_length}, {until}")
        _constraints_hold(world, subca)
    products.add_product(
        here.db, world.maker, "router",
        identity=(IDENTITY.name, "identity-ca"), service=(SERVICE.name, "tls-7.1.2.5"),
        patterns=("{id}.dev.example.com",), shared_names=(NAME,), renew_at=2 / 3,
        by=OPERATOR, now=here.clock(), random_bytes=here.random_bytes,
    )  # fmt: skip
    products.add_product(
        here.db, world.maker, "router-public",
        identity=(IDENTITY.name, "identity-ca"), service=(SERVICE_PUBLIC.name, "tls-7.1.2.5"),
        patterns=("{id}.dev.example.com",), shared_names=(), renew_at=2 / 3,
        by=OPERATOR, now=here.clock(), random_bytes=here.random_bytes,
    )  # fmt: skip


def _authority(
    world: World, name: str, profile: str, parent: str | None, constraints: object
) -> Authority:
    here, settings = world.here, world.here.config.settings
    return authorities.create_authority(
        here.db, here.gate, here.keys, world.maker,
        authorities.NewAuthority(
            name=name,
            subject=DistinguishedName.of(C="US", O="Example Router Inc", CN=name),
            profile=profile,
            key_uri=f"file:{settings.keys.folder}/{{id}}.pem",
            key_kind=KeyKind.P256,
            status_url=settings.status.url,
            parent=parent,
            constraints=constraints,  # type: ignore[arg-type]  # None or NameConstraints
        ),
        operator_id=OPERATOR, now=here.clock(), random_bytes=here.random_bytes,
    )  # fmt: skip


def _constraints_hold(world: World, subca: Authority) -> None:
    """A leaf inside is issued and verified; one outside is refused, and would not verify."""
    say, here = world.say, world.here
    now = here.clock()
    inside = here.gate.issue_one(_leaf(world, subca, "gateway.example.com", SERVICE), now).der
    with here.db.read() as tx:
        above = [link.der for link in authority_chain(tx, world.maker.id, subca.id)]
        before = reads.count_certificates(tx, world.maker.id)
    root, links = above[-1], above[:-1]
    try:
        here.gate.issue_one(_leaf(world, subca, "gateway.example.net", SERVICE), now)
    except Refused as refusal:
        code = refusal.code
    else:
        raise NotProved("demo-failed", "certmint issued a name outside the constraints")
    with here.db.read() as tx:
        same = reads.count_certificates(tx, world.maker.id) == before
    say.proved(f"{subca.name}: gateway.example.net is refused [{code}]; nothing stored", same)
    accepted = clients.pyca_accepts(inside, links, root, "gateway.example.com", now)
    say.proved(f"{subca.name}: pyca's verifier accepts a leaf inside", accepted)
    if clients.OPENSSL is None:
        say.absent("openssl", "verifying, and refusing a leaf forged with the SubCA's own key")
        return
    secret = here.config.resolve(here.config.settings.keys.passphrase_file).read_bytes()
    key_file = here.config.resolve(subca.key_uri.removeprefix("file:"))
    forged = forge(key_file, secret.strip(), subca.der, "gateway.example.net")
    refused = not clients.pyca_accepts(forged, links, root, "gateway.example.net", utc_now())
    good = clients.openssl_verify(inside, links, root, "-attime", str(int(now.timestamp())))
    bad = clients.openssl_verify(forged, links, root)
    say.proved(
        f"{subca.name}: openssl verify accepts it too; a leaf outside, forged with the SubCA's "
        f"own key, is refused by both ({bad.partition(': ')[2] or bad})",
        refused and good.endswith("OK") and "permitted subtree violation" in bad,
    )


def _leaf(world: World, issuer: Authority, name: str, profile: Profile) -> CertificateRequest:
    return CertificateRequest(
        tenant_id=world.maker.id,
        authority_id=issuer.id,
        profile=profile,
        key=HeldKey(public_key_of(make_key(KeyKind.P256)), KeyOrigin.KEY_MANAGEMENT),
        requester=Requester(RequesterKind.OPERATOR, OPERATOR),
        evidence=(OperatorGrant(OPERATOR, world.here.clock()),),
        names=(DNSName(name),),
    )


def factory(world: World) -> None:
    """Step 4."""
    say, here = world.say, world.here
    say.step("4", f"The factory: {DEVICES} routers, each with a key and two certificates")
    passphrase = world.folder / "line.passphrase"
    passphrase.write_text(PASSPHRASE)
    passphrase.chmod(0o600)
    for product, stock, count in (("router", "W", 4), ("router-public", "P", 1)):
        _manifest(world.folder / f"{stock}.csv", stock, count)
        _mint_in_the_past(world, product, stock)
    say.did(f"4 routers were minted {WAREHOUSE_DAYS} days ago and have been in a warehouse since")
    world.past.days = 0
    _manifest(world.folder / "manifest.csv", "R", DEVICES)
    out = world.folder / "packages"
    words = ("certmint", "batch", "mint", str(world.folder / "manifest.csv"), "--product",
             "router", "--out", str(out), "--passphrase-file", str(passphrase), "-m", "example",
             "--json")  # fmt: skip
    line = world.start(*words, log="batch.log")
    while line.poll() is None and _packages(out) < DEVICES * 2 // 5:
        time.sleep(0.005)
    line.send_signal(signal.SIGKILL)
    line.wait()
    killed_at = _packages(out)
    say.did(f"killed the line (SIGKILL) when {killed_at} of {DEVICES} packages were written")
    began = time.monotonic()
    world.run(*words, show=sys.stderr.isatty())
    say.did(f"the same command again: resumed and finished in {time.monotonic() - began:.1f} s")
    _exactly_once(world, out, killed_at)
    _result_is_signed(world, out)
    with here.db.read() as tx:
        batch = reads.batches(tx, world.maker.id)[-1]
        made = reads.count_devices_by_state(tx, world.maker.id, batch.id)
    say.proved(f"the registry agrees: {made[DeviceState.PROVISIONED]} devices provisioned",
               made == {DeviceState.PROVISIONED: DEVICES})  # fmt: skip


def _mint_in_the_past(world: World, product: str, stock: str) -> None:
    here = world.here
    world.past.days = WAREHOUSE_DAYS
    submitted = submit(
        here.db, world.maker, products.product_named(here.db, world.maker, product),
        parse_manifest((world.folder / f"{stock}.csv").read_bytes()),
        by=OPERATOR, now=here.clock(), random_bytes=here.random_bytes,
    )  # fmt: skip
    mint_into(
        here.db, here.gate, world.maker, submitted, world.folder / f"warehouse-{stock}",
        PackageFormat.PEM, PASSPHRASE.encode(),
        clock=here.clock, random_bytes=here.random_bytes, progress=lambda _: None,
    )  # fmt: skip


def _manifest(path: Path, stock: str, count: int) -> None:
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(("serial", "mac"))
        for n in range(1, count + 1):
            mac = f"02:00:{ord(stock):02x}:00:{n >> 8:02x}:{n & 255:02x}"
            table.writerow((f"{stock}{n:06d}", mac))


def _packages(out: Path) -> int:
    return sum(not path.name.startswith(".") for path in out.iterdir()) if out.exists() else 0


def _exactly_once(world: World, out: Path, killed_at: int) -> None:
    with (out / "result.csv").open() as file:
        rows = list(csv.DictReader(file))
    serials = [row["serial"] for row in rows]
    certificates = {row[f"{kind}_serial"] for row in rows for kind in ("identity", "service")}
    folders = {path.name for path in out.iterdir() if path.is_dir() and path.name[0] != "."}
    keys = {(out / name / "key.pem").read_bytes() for name in folders}
    once = (
        len(serials) == len(set(serials)) == DEVICES
        and folders == set(serials)
        and len(certificates) == 2 * DEVICES
        and len(keys) == DEVICES
    )
    with world.here.db.read() as tx:
        held = reads.batch_certificates(
            tx, world.maker.id,
            [each.id for each in reads.devices(tx, world.maker.id, limit=2000)
             if each.serial_number.startswith("R")],
        )  # fmt: skip
    two = {len([c for c in each if c.revocation is None]) for each in held.values()} == {2}
    world.say.proved(
        f"every serial exactly once, across the kill at {killed_at}: {len(serials)} devices, "
        f"{len(keys)} keys, {len(certificates)} certificates, none twice",
        once and two,
    )


def _result_is_signed(world: World, out: Path) -> None:
    if clients.OPENSSL is None:
        world.say.absent("openssl", "openssl cms -verify of the result manifest")
        return
    root = world.folder / "identity-root.pem"
    with world.here.db.read() as tx:
        anchor = authorities.authority_named(tx, world.maker.id, "identity-root")
    root.write_text(chains.pem(anchor.der))
    words = ("cms", "-verify", "-binary", "-inform", "DER", "-in", str(out / "result.csv.p7s"),
             "-CAfile", str(root), "-purpose", "any", "-out", os.devnull, "-content")  # fmt: skip
    good = clients.openssl(*words, str(out / "result.csv"))
    changed = out.parent / "changed.csv"
    changed.write_bytes((out / "result.csv").read_bytes().replace(b"R000001", b"R009999"))
    bad = clients.openssl(*words, str(changed))
    world.say.proved(
        "openssl cms -verify accepts the signed result, and refuses one with a changed serial",
        good.returncode == 0 and bad.returncode != 0,
    )
