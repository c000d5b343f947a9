"""The one place that builds everything: constructors, called by hand, from top to bottom."""

import datetime as dt
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from certmint.app.config import PASSPHRASE_VARIABLE, Config, ProviderSection
from certmint.doors.acme.app import ACMEDoor, Services
from certmint.doors.console.desk import Desk
from certmint.doors.est.app import ESTDoor
from certmint.doors.est.app import Services as ESTServices
from certmint.doors.rest.callers import Services as RESTServices
from certmint.doors.sws.app import Services as SWSServices
from certmint.enrolment.acme.challenges import Network
from certmint.enrolment.acme.limits import Limit, Limits
from certmint.enrolment.acme.nonces import Nonces
from certmint.enrolment.deeds import Hands
from certmint.enrolment.delivery import Delivery
from certmint.enrolment.domains import Account
from certmint.enrolment.emailing import Post
from certmint.enrolment.issue import Gate
from certmint.enrolment.oidc import OIDC
from certmint.enrolment.overview import Counts
from certmint.enrolment.proofs import World
from certmint.enrolment.proving import Proofs
from certmint.enrolment.revalidation import Means
from certmint.enrolment.signing import SigningKeys
from certmint.enrolment.sws.fulfilling import Counter
from certmint.enrolment.vault import Vault
from certmint.enrolment.work import Workshop
from certmint.issuance.keys import create_key, open_key
from certmint.model.cms import Signer
from certmint.model.errors import Misconfigured
from certmint.model.openid import Provider
from certmint.model.serial import RandomBytes
from certmint.registry.engine import Database, open_database
from certmint.validation.dns import Nameserver, NetworkResolver
from certmint.validation.email import SMTPServer
from certmint.validation.oidc import RemoteProvider
from certmint.validation.reach import PrivateNetwork, Reach

Clock = Callable[[], dt.datetime]
TRANSPORT = "transport keys"  # the purpose of the secret behind the keys that devices share
SECRETS = "label secrets"  # the purpose of the key under which labels and nonces are known


def utc_now() -> dt.datetime:
    """The system's clock."""
    return dt.datetime.now(dt.UTC)


@dataclass(frozen=True)
class Installation:
    """A running certmint, without its doors."""

    config: Config
    db: Database
    keys: SigningKeys
    gate: Gate
    resolver: NetworkResolver
    clock: Clock
    random_bytes: RandomBytes

    def close(self) -> None:
        self.db.close()


def open_installation(
    config: Config, *, clock: Clock = utc_now, random_bytes: RandomBytes = os.urandom
) -> Installation:
    """Open the registry and the key store that `config` names.

    Raises Misconfigured `database-schema` when the registry is not at this version's revision.
    """
    db = open_database(config.database_url)
    if not db.is_current():
        raise Misconfigured(
            "database-schema",
            f"the database is at revision {db.schema_revision()}, this certmint needs "
            f"{db.head_revision()}: run `certmint database migrate`",
        )
    keys = key_store(config)
    gate = Gate(db, keys, random_bytes)
    resolver = NetworkResolver(tuple(map(Nameserver.parse, config.settings.dns.resolvers)))
    return Installation(config, db, keys, gate, resolver, clock, random_bytes)


def key_store(config: Config) -> SigningKeys:
    """The authorities' keys, with their secrets read when they are needed."""
    secrets = secret_reader(config)
    return SigningKeys(
        lambda uri: open_key(uri, secrets, config.folder),
        lambda uri, kind: create_key(uri, kind, secrets, config.folder),
    )


def secret_reader(config: Config) -> Callable[[str], bytes]:
    """Secrets by purpose: `keys`, or `pin:<token>`. Raises Misconfigured `secret-missing`."""

    def read(purpose: str) -> bytes:
        if purpose == "keys":
            given = os.environb.get(PASSPHRASE_VARIABLE.encode())
            return given or _read(config.resolve(config.settings.keys.passphrase_file))
        token = purpose.removeprefix("pin:")
        name = config.settings.keys.pin_files.get(token)
        if name is None:
            raise Misconfigured(
                "secret-missing", f"keys.pin_files names no file for the token {token!r}"
            )
        return _read(config.resolve(name))

    return read


def _read(path: Path) -> bytes:
    try:
        content = path.read_bytes().rstrip(b"\r\n")
    except OSError as error:
        raise Misconfigured(
            "secret-missing", f"the secret in {path} cannot be read: {error.strerror}"
        ) from None
    if not content:
        raise Misconfigured("secret-missing", f"the secret file {path} is empty")
    return content


def derived_key(config: Config, purpose: str) -> bytes:
    """A secret of 32 octets that every node of the installation derives for itself."""
    secret = secret_reader(config)("keys")
    return HKDF(hashes.SHA256(), 32, None, f"certmint {purpose}".encode()).derive(secret)


def vault(config: Config) -> Vault:
    """Seals the MAC keys of external account bindings."""
    return Vault(derived_key(config, "account bindings"))


def acme_network(here: Installation) -> Network:
    """How ACME's validators reach the world, as the configuration says."""
    settings = here.config.settings.validation
    private = tuple(map(PrivateNetwork.parse, settings.private_networks))
    return Network(here.resolver, Reach(settings.http_port, settings.tls_port, private))


def world(here: Installation) -> World:
    """How proofs of control of domains are looked for."""
    return World(here.resolver, acme_network(here).reach)


def own_domain(config: Config) -> str:
    """The domain by which this installation names itself in DNS records and tokens."""
    return urlsplit(config.base_url).hostname or "localhost"


def maker_account(config: Config, slug: str) -> Account:
    """What a persistent DNS record of this manufacturer says (BR 3.2.2.4.22)."""
    return Account(own_domain(config), f"{config.base_url}/manufacturers/{slug}")


def post(config: Config) -> Post | None:
    """How mail leaves, as [mail] says; None without it. Raises Misconfigured `secret-missing`."""
    said = config.settings.mail
    if not said.host:
        return None
    password = _read(config.resolve(said.password_file)).decode() if said.password_file else ""
    server = SMTPServer(
        said.host,
        said.port,
        said.tls,
        own_domain(config),
        said.username,
        password,
        str(config.resolve(said.ca_file)) if said.ca_file else "",
    )
    sealed = Vault(derived_key(config, "mail to domain contacts"))
    return Post(server.send, said.sender, config.base_url, sealed)


def means(here: Installation) -> Means:
    """What it takes to prove domains again before they lapse."""
    return Means(world(here), post(here.config), here.random_bytes)


def acme_limits(here: Installation) -> Limits:
    """ACME's rate limits, as the configuration says."""
    said = here.config.settings.acme
    return Limits(
        window=dt.timedelta(minutes=said.window_minutes),
        orders=Limit(said.orders_account, said.orders_device, said.orders_manufacturer),
        failures=Limit(said.failures_account, said.failures_device, said.failures_manufacturer),
        accounts=Limit(1, said.accounts_device, said.accounts_manufacturer),
        open_orders=said.open_orders,
        wrong_macs=said.wrong_macs,
    )


def openid(config: Config, *, for_operators: bool = False) -> OIDC:
    """The manufacturers' OpenID providers, for owners or for operators.

    Raises Misconfigured `secret-missing` …
    """

    def remote(said: ProviderSection) -> RemoteProvider:
        secret = _read(config.resolve(said.client_secret_file)) if said.client_secret_file else b""
        wanted = said.model_dump(exclude={"client_secret_file", "ca_file"})
        ca_file = str(config.resolve(said.ca_file)) if said.ca_file else ""
        return RemoteProvider(
            Provider(**wanted, client_secret=secret.decode("utf-8", "replace"), ca_file=ca_file)
        )

    said = config.settings.oidc.operators if for_operators else config.settings.oidc.providers
    path = "/console/callback" if for_operators else "/api/v1/owner/callback"
    return OIDC(tuple(map(remote, said)), f"{config.base_url}{path}")


def hands(here: Installation) -> Hands:
    """What carries out the operations that need a second operator."""
    settings = here.config.settings
    return Hands(
        db=here.db,
        gate=here.gate,
        keys=here.keys,
        key_folder=settings.keys.folder,
        status_url=settings.status.url,
        clock=here.clock,
        random_bytes=here.random_bytes,
    )


def console_desk(here: Installation, counts: Counts | None = None) -> Desk:
    """What the console's pages of an installation call into."""
    counted = counts or Counts(here.db)
    return Desk(
        here.db, here.clock, here.random_bytes, hands(here).deeds, counted,
        openid(here.config, for_operators=True), derived_key(here.config, "operator logins"),
    )  # fmt: skip


def proofs(here: Installation) -> Proofs:
    """What proving a domain takes in this installation."""
    config = here.config
    return Proofs(
        here.db, world(here), partial(maker_account, config), own_domain(config), post(config),
        here.random_bytes,
    )  # fmt: skip


def rest_services(here: Installation, metrics: Callable[[], bytes] = lambda: b"") -> RESTServices:
    """What the REST door of an installation calls into; `metrics` are those of the process."""
    settings = here.config.settings
    return RESTServices(
        db=here.db,
        gate=here.gate,
        keys=here.keys,
        clock=here.clock,
        random_bytes=here.random_bytes,
        secret_key=derived_key(here.config, SECRETS),
        vault=desk_vault(here.config),
        hands=hands(here),
        proofs=proofs(here),
        packages=here.config.resolve(settings.rest.packages),
        requests_minute=settings.rest.requests_minute,
        four_eyes_above=settings.campaigns.four_eyes_above,
        metrics=metrics,
        oidc=openid(here.config),
    )


def sws_counter(here: Installation) -> Counter:
    """What serving SWS clients takes in this installation."""
    said = here.config.settings.sws
    return Counter(
        here.db, here.gate, here.keys, proofs(here), said.authority, said.profile,
        here.random_bytes,
    )  # fmt: skip


def sws_services(here: Installation) -> SWSServices:
    """What the SWS door of an installation calls into."""
    quota = here.config.settings.rest.requests_minute
    return SWSServices(sws_counter(here), here.clock, quota, here.config.base_url)


def desk_vault(config: Config) -> Vault:
    """Seals what operators' requests leave behind: answers, and passphrases of jobs."""
    return Vault(derived_key(config, "operators' desk"))


def workshop(here: Installation, holder: str) -> Workshop:
    """What an installation's jobs need."""
    return Workshop(
        db=here.db,
        gate=here.gate,
        keys=here.keys,
        vault=desk_vault(here.config),
        folder=here.config.resolve(here.config.settings.rest.packages),
        holder=holder,
        clock=here.clock,
        random_bytes=here.random_bytes,
    )


def acme_door(here: Installation) -> ACMEDoor:
    """The ACME door of an installation."""
    return ACMEDoor(
        Services(
            db=here.db,
            gate=here.gate,
            keys=here.keys,
            nonces=Nonces(here.db, derived_key(here.config, "nonces")),
            vault=vault(here.config),
            network=acme_network(here),
            clock=here.clock,
            random_bytes=here.random_bytes,
            base_url=here.config.base_url,
            limits=acme_limits(here),
        )
    )


def est_door(here: Installation, signer: Callable[[], Signer]) -> ESTDoor:
    """The EST door of an installation; `signer` signs the keys that it delivers."""
    secret = derived_key(here.config, TRANSPORT)
    return ESTDoor(
        ESTServices(
            db=here.db,
            gate=here.gate,
            clock=here.clock,
            delivery=Delivery(signer, secret, here.random_bytes),
            secret_key=derived_key(here.config, SECRETS),
            oidc=openid(here.config),
        )
    )
