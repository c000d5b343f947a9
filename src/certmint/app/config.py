"""Configuration: one TOML file, parsed once into a frozen tree.

Unknown keys are refused, with their place. Paths are relative to the file. Secrets are never in
it: it names the files (or environment variables) that hold them.
"""

import ipaddress
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from certmint.model.errors import CertmintError, Misconfigured
from certmint.validation.dns import Nameserver
from certmint.validation.email import is_local
from certmint.validation.oidc import is_provider_url
from certmint.validation.reach import PrivateNetwork

FILE_NAME = "certmint.toml"
PASSPHRASE_VARIABLE = "CERTMINT_KEYS_PASSPHRASE"  # noqa: S105 (the variable's name)

Address = Annotated[str, Field(pattern=r"^(\[[0-9a-fA-F:.]+\]|[0-9.]+):[0-9]{1,5}$")]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DatabaseSection(_Section):
    """`sqlite:<path>` or `postgresql://…`."""

    url: str = "sqlite:certmint.db"


class KeysSection(_Section):
    """Where new authority keys go, and the file with the passphrase that encrypts them."""

    folder: str = "keys"
    passphrase_file: str = "secrets/keys.passphrase"  # noqa: S105 (a path)
    pin_files: dict[str, str] = Field(default_factory=dict)


class ServerSection(_Section):
    """The two listeners. TLS for REST, plain HTTP for CRL, OCSP and issuers' certificates."""

    https: Address = "127.0.0.1:8443"
    http: Address = "127.0.0.1:8080"
    names: tuple[str, ...] = ("localhost", "127.0.0.1")
    certificate: str = "tls/server.pem"
    key: str = "tls/server.key"
    url: str = ""
    trusted_proxies: tuple[str, ...] = ()


class StatusSection(_Section):
    """The public base URL of the status listener, as new authorities write it into certificates."""

    url: str = "http://127.0.0.1:8080"


class DNSSection(_Section):
    """The resolvers that domain validation asks."""

    resolvers: tuple[str, ...] = ("127.0.0.1",)


class ValidationSection(_Section):
    """Where validators of private authorities may connect to; public ones use the defaults."""

    http_port: Annotated[int, Field(gt=0, lt=65536)] = 80
    tls_port: Annotated[int, Field(gt=0, lt=65536)] = 443
    private_networks: tuple[str, ...] = ()


Count = Annotated[int, Field(gt=0)]


class ACMESection(_Section):
    """ACME's rate limits: how often in one window. A device is one by its account binding."""

    window_minutes: Count = 60
    orders_account: Count = 100_000
    orders_device: Count = 100
    orders_manufacturer: Count = 1_000_000
    failures_account: Count = 1_000
    failures_device: Count = 50
    failures_manufacturer: Count = 100_000
    accounts_device: Count = 20
    accounts_manufacturer: Count = 1_000_000
    open_orders: Count = 300
    wrong_macs: Count = 20


class RESTSection(_Section):
    """The operators' API: how often a manufacturer may ask, and where batches leave packages."""

    requests_minute: Count = 6_000
    packages: str = "packages"


class SWSSection(_Section):
    """The SWS door: which authority and profile an order is issued by if it does not say."""

    authority: str = ""
    profile: str = "service"


class ProviderSection(_Section):
    """The OpenID provider of one manufacturer."""

    manufacturer: str
    issuer: str
    client_id: str
    client_secret_file: str = ""
    audience: str = ""
    scopes: tuple[str, ...] = ("openid",)
    algorithms: tuple[Literal["RS256", "ES256", "EdDSA"], ...] = ("RS256", "ES256")
    creates_owners: bool = False
    ca_file: str = ""


class OIDCSection(_Section):
    """Where owners log in beside local accounts."""

    providers: tuple[ProviderSection, ...] = ()
    operators: tuple[ProviderSection, ...] = ()


MailAddress = Annotated[str, Field(pattern=r"^([A-Za-z0-9._+-]+@[A-Za-z0-9.-]+)?$", max_length=254)]


class MailSection(_Section):
    """The server that mail to domain contacts is handed to; without a host there is no mail."""

    host: str = ""
    port: Annotated[int, Field(gt=0, lt=65536)] = 587
    tls: Literal["starttls", "tls", "none"] = "starttls"
    sender: MailAddress = ""
    username: str = ""
    password_file: str = ""
    ca_file: str = ""


class CampaignsSection(_Section):
    """Above how many devices a campaign needs a second person; what revokes always does."""

    four_eyes_above: Annotated[int, Field(ge=0)] = 100


class LogSection(_Section):
    level: Literal["debug", "info", "warning", "error"] = "info"


class Settings(_Section):
    """The whole file."""

    database: DatabaseSection = DatabaseSection()
    keys: KeysSection = KeysSection()
    server: ServerSection = ServerSection()
    status: StatusSection = StatusSection()
    dns: DNSSection = DNSSection()
    validation: ValidationSection = ValidationSection()
    acme: ACMESection = ACMESection()
    rest: RESTSection = RESTSection()
    sws: SWSSection = SWSSection()
    oidc: OIDCSection = OIDCSection()
    mail: MailSection = MailSection()
    campaigns: CampaignsSection = CampaignsSection()
    log: LogSection = LogSection()


@dataclass(frozen=True)
class Config:
    """Settings, and the folder that their paths are relative to."""

    path: Path
    settings: Settings

    @property
    def folder(self) -> Path:
        return self.path.parent

    def resolve(self, relative: str) -> Path:
        """A path of the file, absolute."""
        return (self.folder / relative).resolve()

    @property
    def database_url(self) -> str:
        """The database URL with a SQLite path made absolute."""
        url = self.settings.database.url
        if url.startswith("sqlite:"):
            return f"sqlite:{self.resolve(url.removeprefix('sqlite:'))}"
        return url

    @property
    def base_url(self) -> str:
        """The https:// base that the world reaches the server by; never from a Host header."""
        server = self.settings.server
        port = server.https.rpartition(":")[2]
        return server.url or f"https://{server.names[0]}:{port}"


def load(path: Path) -> Config:
    """Read and cross-check a configuration. Raises Misconfigured `config-*`."""
    try:
        data = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise Misconfigured(
            "config-missing", f"there is no {path}: run `certmint init`, or name it with --config"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Misconfigured("config-syntax", f"{path}: {error}") from None
    except OSError as error:
        raise Misconfigured("config-missing", f"{path}: {error.strerror}") from None
    try:
        settings = Settings.model_validate(data)
    except ValidationError as error:
        raise Misconfigured("config-syntax", f"{path}: {_first(error)}") from None
    config = Config(path.resolve(), settings)
    _cross_check(config)
    return config


def _first(error: ValidationError) -> str:
    first = error.errors(include_input=False, include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"there is no setting {place!r}: see `certmint config example`"
    return f"{place}: {first['msg']}"


def _cross_check(config: Config) -> None:
    settings = config.settings
    if settings.server.https == settings.server.http:
        raise Misconfigured(
            "config-syntax", f"server.https and server.http are both {settings.server.https}"
        )
    url = settings.status.url
    if not url.startswith("http://") or url.endswith("/"):
        raise Misconfigured(
            "config-syntax", f"status.url {url!r} must start with http:// and not end in a slash"
        )
    base = settings.server.url
    if base and (not base.startswith("https://") or base.endswith("/")):
        raise Misconfigured(
            "config-syntax", f"server.url {base!r} must start with https:// and not end in a slash"
        )
    for proxy in settings.server.trusted_proxies:
        try:
            ipaddress.ip_address(proxy)
        except ValueError:
            raise Misconfigured(
                "config-syntax", f"server.trusted_proxies: {proxy!r} is not an IP address"
            ) from None
    for network in settings.validation.private_networks:
        try:
            PrivateNetwork.parse(network)
        except CertmintError as error:
            raise Misconfigured("config-syntax", f"validation.private_networks: {error}") from None
    if not settings.database.url.startswith(("sqlite:", "postgresql://")):
        raise Misconfigured(
            "config-syntax", "database.url must start with sqlite: or postgresql://"
        )
    for resolver in settings.dns.resolvers:
        try:
            Nameserver.parse(resolver)
        except CertmintError as error:
            raise Misconfigured("config-syntax", f"dns.resolvers: {error}") from None
    _check_providers(settings.oidc.providers)
    _check_providers(settings.oidc.operators)
    _check_mail(settings.mail)


def _check_mail(mail: MailSection) -> None:
    wrong = ""
    if mail.host and not mail.sender:
        wrong = "sender is missing: whom shall the mail be from?"
    elif mail.host and mail.tls == "none" and not is_local(mail.host):
        wrong = f"tls 'none' is for a server on this machine, and {mail.host} is not"
    elif bool(mail.username) != bool(mail.password_file):
        wrong = "username and password_file come together"
    if wrong:
        raise Misconfigured("config-syntax", f"mail: {wrong}")


def _check_providers(providers: tuple[ProviderSection, ...]) -> None:
    """One provider for each manufacturer; who shares an issuer tells its tokens by audience."""
    for place, each in enumerate(providers):
        wrong = ""
        others = providers[:place]
        if not is_provider_url(each.issuer) or "?" in each.issuer:
            wrong = f"issuer {each.issuer!r} must be an https:// URL"
        elif "openid" not in each.scopes or not each.algorithms:
            wrong = "scopes need 'openid', and algorithms one at least"
        elif any(each.manufacturer == other.manufacturer for other in others):
            wrong = f"the manufacturer {each.manufacturer!r} has a provider already"
        elif each.audience and any(
            (each.issuer, each.audience) == (other.issuer, other.audience) for other in others
        ):
            wrong = f"the audience {each.audience!r} of this issuer is another manufacturer's"
        elif each.audience and each.audience == each.client_id:
            wrong = "an audience that is the client_id would let ID tokens in: name the service"
        if wrong:
            raise Misconfigured("config-syntax", f"oidc.providers.{place}: {wrong}")


EXAMPLE = """\
# certmint's configuration. Paths are relative to this file. Unknown keys are refused.

[database]
# "sqlite:<path>" for one node, "postgresql://user@host/name" to scale out.
url = "{database}"

[keys]
# New authority keys: encrypted PKCS#8 files in this folder …
folder = "keys"
# … under the passphrase in this file (or in the variable CERTMINT_KEYS_PASSPHRASE).
passphrase_file = "secrets/keys.passphrase"

# PINs of PKCS#11 tokens, by token label: the files that hold them.
[keys.pin_files]
# factory-hsm = "secrets/factory-hsm.pin"

[server]
# TLS for devices, owners and operators (REST, /api/v1) …
https = "{https}"
# … and plain HTTP for CRLs, OCSP and issuers' certificates.
http = "{http}"
# The names in the server's own certificate, which certmint issues and renews itself …
names = {names}
# … into these files.
certificate = "tls/server.pem"
key = "tls/server.key"
# How the world reaches server.https; "" makes it from the first name and the port.
url = ""
# Proxies whose Client-Cert field (RFC 9440) is believed: exact addresses. Whoever can connect
# from one of them can claim to be any device.
trusted_proxies = []

[status]
# The base of CRL, OCSP and AIA URLs in certificates, as the world reaches server.http.
# An authority keeps the URL that it was made with.
url = "{status}"

[dns]
# Resolvers that domain validation asks: address, or address:port. Best a validating one.
resolvers = {resolvers}

[validation]
# For a lab: the ports of http-01 and tls-alpn-01, and private networks with the exact ports that
# validators may reach there, such as "127.0.0.0/8:5002,5001". Public authorities ignore these.
http_port = {http_port}
tls_port = {tls_port}
private_networks = {private_networks}

[acme]
# Rate limits: in a window of this length an account, a device (that an external account binding
# names) and a manufacturer may do so much. Clients that go too far are told when to come again.
window_minutes = 60
orders_account = 100000
orders_device = 100
orders_manufacturer = 1000000
# Validations that failed.
failures_account = 1000
failures_device = 50
failures_manufacturer = 100000
# New accounts.
accounts_device = 20
accounts_manufacturer = 1000000
# Orders of one account that wait for their authorizations, at any time.
open_orders = 300
# Wrong MACs for one binding, before the audit log has it and the answer is "come again later".
wrong_macs = 20

[rest]
# How often a manufacturer's operators may ask in a minute; each node counts for itself.
requests_minute = 6000
# Where batches that were asked for over the network leave their packages, on this node.
packages = "packages"

[sws]
# For clients of SSL.com's API, at https://<this server>/sws. Orders without a ca_certificate_id are
# issued by this authority (its name); "" is the manufacturer's only one that issues for servers.
authority = ""
profile = "service"

[oidc]
# Where owners log in beside local accounts: at most one OpenID provider for each manufacturer.
# The client needs https://<this server>/api/v1/owner/callback as its redirect URI.
# [[oidc.providers]]
# manufacturer = "acme"
# issuer = "https://login.example.com"
# client_id = "certmint"
# A file with the client's secret; none for a public client.
# client_secret_file = "secrets/oidc.secret"
# What bearer tokens of the maker's app name as their audience; "" takes no bearer tokens.
# audience = "https://pki.example.com"
# scopes = ["openid"]
# Of RS256, ES256, EdDSA.
# algorithms = ["RS256", "ES256"]
# Whether whoever the provider knows gets an account; else operators link them.
# creates_owners = false
# CA certificates to trust instead of the system's.
# ca_file = ""
# Where a manufacturer's operators log in at the console, beside API tokens: the same members. The
# client needs https://<this server>/console/callback as its redirect URI; people are linked by
# `certmint operator link`.
# [[oidc.operators]]
# manufacturer = "acme"
# issuer = "https://login.example.com"
# client_id = "certmint-console"

[mail]
# The server that mail to the contacts of a domain is handed to; "" for none.
host = ""
port = 587
# "starttls", "tls" (port 465), or "none" for a server on this very machine.
tls = "starttls"
# Whom it is from, such as "certificates@example.com".
sender = ""
# The login, and the file with its password; "" for none.
username = ""
password_file = ""
# CA certificates to trust instead of the system's.
ca_file = ""

[campaigns]
# A campaign over more devices than this needs a second person's word; one that revokes always does.
four_eyes_above = 100

[log]
level = "info"
"""


def example(
    *,
    database: str = "sqlite:certmint.db",
    https: str = "127.0.0.1:8443",
    http: str = "127.0.0.1:8080",
    names: tuple[str, ...] = ("localhost", "127.0.0.1"),
    status: str = "http://127.0.0.1:8080",
    resolvers: tuple[str, ...] = ("127.0.0.1",),
    http_port: int = 80,
    tls_port: int = 443,
    private_networks: tuple[str, ...] = (),
) -> str:
    """The commented configuration file that `certmint init` writes; a test loads it."""
    return EXAMPLE.format(
        database=database,
        https=https,
        http=http,
        names=_toml_list(names),
        status=status,
        resolvers=_toml_list(resolvers),
        http_port=http_port,
        tls_port=tls_port,
        private_networks=_toml_list(private_networks),
    )


def system_resolvers(path: Path = Path("/etc/resolv.conf")) -> tuple[str, ...]:
    """The nameservers of resolv.conf that certmint can ask, or 127.0.0.1."""
    try:
        words = [line.split() for line in path.read_text("ascii", "replace").splitlines()]
    except OSError:
        words = []
    found = []
    for line in words:
        if len(line) >= 2 and line[0] == "nameserver" and "%" not in line[1]:
            try:
                found.append(Nameserver.parse(line[1]).address)
            except CertmintError:
                continue
    return tuple(found) or ("127.0.0.1",)


def _toml_list(values: tuple[str, ...]) -> str:
    return "[" + ", ".join(f'"{value}"' for value in values) + "]"
