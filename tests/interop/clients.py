"""Six ACME clients that we did not write, each asked in its own words for the same things.

`issue` and `renew` return the file with the chain, leaf first. A client that fails raises `Failed`
with everything it said. Each keeps its state in a folder of its own; none touches the system's.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from .lab import LOOPBACK, Lab, web_server

Challenge = Literal["http-01", "dns-01"]
KeyType = Literal["ecdsa", "rsa"]

MAIL = "owner@lab.test"
PATIENCE_S = 60

# How each client tells its hook about a TXT record: dehydrated, uacme, lego, and certbot, which
# uses the environment. uacme's hook also answers http-01, under the root of the web server.
HOOK = """\
#!/bin/sh
set -eu
case "${{1:-certbot}}" in
    deploy_challenge) name=$2 value=$4 ;;
    begin) name=$3 value=$5
        case "$2" in
            {http}) mkdir -p "{web}"; printf %s "$5" >"{web}/$4"; exit 0 ;;
            {dns}) ;;
            *) exit 1 ;;
        esac ;;
    present) name=${{2#_acme-challenge.}} name=${{name%.}} value=$3 ;;
    certbot) name=$CERTBOT_DOMAIN value=$CERTBOT_VALIDATION ;;
    *) exit 0 ;;
esac
exec curl --fail --silent --show-error --output /dev/null \\
    --data "{{\\"host\\":\\"_acme-challenge.$name.\\",\\"value\\":\\"$value\\"}}" {txt}
"""


class Failed(Exception):
    """The client said no; the text is all of its output."""


class Client(Protocol):
    """What every client can do."""

    def issue(
        self, names: tuple[str, ...], challenge: Challenge = "http-01", key: KeyType = "ecdsa"
    ) -> Path: ...

    def renew(self, name: str) -> Path: ...

    def revoke(self, name: str) -> None: ...


def run(command: list[str], environment: Mapping[str, str] | None = None) -> str:
    """What a program printed, both streams. Raises Failed unless it exits with 0."""
    # The caller's proxies and locale are not the client's: it only meets the lab.
    base = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8", "HOME": "/nonexistent"}
    done = subprocess.run(
        command, env=base | dict(environment or {}), stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    said = done.stdout.decode(errors="replace")
    if done.returncode != 0:
        raise Failed(f"{command[0]} exits with {done.returncode}: {said}")
    return said


@dataclass(frozen=True)
class Home:
    """Where one client keeps its state, the lab that it talks to, and whether it knows the EAB."""

    folder: Path
    lab: Lab
    bound: bool

    @property
    def web(self) -> Path:
        """The folder that is /.well-known/acme-challenge/ of the domain's web server."""
        return self.folder / "web/.well-known/acme-challenge"

    def hook(self, challenge: Challenge) -> Path:
        """The script that answers this challenge, written now."""
        offered = {"http": "http-01", "dns": "never"}
        if challenge == "dns-01":
            offered = {"http": "never", "dns": "dns-01"}
        path = self.folder / f"hook-{challenge}.sh"
        path.write_text(HOOK.format(web=self.web, txt=self.lab.txt, **offered))
        path.chmod(0o700)
        return path

    def web_server(self, challenge: Challenge) -> AbstractContextManager[None]:
        """A web server for http-01; nothing for dns-01."""
        if challenge == "dns-01":
            return nullcontext()
        self.web.mkdir(parents=True, exist_ok=True)
        return web_server(self.folder / "web", self.lab.http01)


@dataclass(frozen=True)
class Certbot:
    """certbot, with a web server of its own or a manual hook."""

    program: str
    home: Home

    def issue(
        self, names: tuple[str, ...], challenge: Challenge = "http-01", key: KeyType = "ecdsa"
    ) -> Path:
        how = ["--standalone", "--http-01-port", str(self.home.lab.http01)]
        how += ["--http-01-address", LOOPBACK]
        if challenge == "dns-01":
            how = ["--manual", "--preferred-challenges", "dns"]
            how += ["--manual-auth-hook", str(self.home.hook(challenge))]
        if self.home.bound:
            how += ["--eab-kid", self.home.lab.kid, "--eab-hmac-key", self.home.lab.hmac_key]
        how += ["--key-type", key, *(["--rsa-key-size", "2048"] if key == "rsa" else [])]
        domains = [word for name in names for word in ("-d", name)]
        self._say("certonly", *how, *domains, "--agree-tos", "-m", MAIL, "--no-eff-email")
        return self._live(names[0]) / "fullchain.pem"

    def renew(self, name: str) -> Path:
        self._say("renew", "--force-renewal", "--cert-name", name, "--no-random-sleep-on-renew")
        return self._live(name) / "fullchain.pem"

    def revoke(self, name: str) -> None:
        self._say(
            "revoke", "--cert-path", str(self._live(name) / "cert.pem"),
            "--no-delete-after-revoke", "--reason", "superseded",
        )  # fmt: skip

    def revoke_with_key(self, certificate: Path, key: Path) -> None:
        """Revoke without an account, by the certificate's own key (RFC 8555 7.6)."""
        self._say(
            "revoke", "--cert-path", str(certificate), "--key-path", str(key),
            "--no-delete-after-revoke",
        )  # fmt: skip

    def _live(self, name: str) -> Path:
        return self.home.folder / "certbot/live" / name

    def _say(self, verb: str, *words: str) -> None:
        folder = self.home.folder
        run(
            [
                self.program, verb, "--non-interactive", "--server", self.home.lab.directory,
                "--config-dir", str(folder / "certbot"), "--work-dir", str(folder / "work"),
                "--logs-dir", str(folder / "logs"), *words,
            ],
            {"REQUESTS_CA_BUNDLE": str(self.home.lab.ca_file)},
        )  # fmt: skip


@dataclass(frozen=True)
class Lego:
    """lego, with a web server of its own, a TLS server of its own, or an exec hook."""

    program: str
    home: Home

    def issue(
        self,
        names: tuple[str, ...],
        challenge: Challenge | Literal["tls-alpn-01"] = "http-01",
        key: KeyType = "ecdsa",
    ) -> Path:
        how = ["--http", "--http.port", f"{LOOPBACK}:{self.home.lab.http01}"]
        if challenge == "tls-alpn-01":
            how = ["--tls", "--tls.port", f"{LOOPBACK}:{self.home.lab.tlsalpn01}"]
        elif challenge == "dns-01":
            how = ["--dns", "exec", "--dns.disable-cp"]
        if self.home.bound:
            how += ["--eab", "--kid", self.home.lab.kid, "--hmac", self.home.lab.hmac_key]
        how += ["--key-type", "rsa2048" if key == "rsa" else "ec256"]
        domains = [word for name in names for word in ("-d", name)]
        self._say(*domains, *how, "run")
        return self._certificate(names[0])

    def renew(self, name: str) -> Path:
        how = ("--http", "--http.port", f"{LOOPBACK}:{self.home.lab.http01}")
        self._say("-d", name, *how, "renew", "--days", "9999", "--no-random-sleep")
        return self._certificate(name)

    def revoke(self, name: str) -> None:
        self._say("-d", name, "revoke", "--keep", "--reason", "4")

    def _certificate(self, name: str) -> Path:
        return self.home.folder / "lego/certificates" / f"{name}.crt"

    def _say(self, *words: str) -> None:
        environment = {
            "LEGO_CA_CERTIFICATES": str(self.home.lab.ca_file),
            "EXEC_PATH": str(self.home.hook("dns-01")),
            "EXEC_SEQUENCE_INTERVAL": "1",  # s between two challenges; 60 unless told
        }
        common = ["--server", self.home.lab.directory, "--path", str(self.home.folder / "lego")]
        run([self.program, *common, "--accept-tos", "--email", MAIL, *words], environment)


@dataclass(frozen=True)
class Dehydrated:
    """dehydrated, behind the domain's web server or with a hook."""

    program: str
    home: Home

    def issue(
        self, names: tuple[str, ...], challenge: Challenge = "http-01", key: KeyType = "ecdsa"
    ) -> Path:
        self._configure(challenge, key)
        self._say("--register", "--accept-terms")
        (self.home.folder / "domains.txt").write_text(" ".join(names) + "\n")
        with self.home.web_server(challenge):
            self._say("--cron")
        return self._certs(names[0]) / "fullchain.pem"

    def renew(self, name: str) -> Path:
        with self.home.web_server("http-01"):
            self._say("--cron", "--force")
        return self._certs(name) / "fullchain.pem"

    def revoke(self, name: str) -> None:
        self._say("--revoke", str(self._certs(name) / "cert.pem"))

    def _certs(self, name: str) -> Path:
        return self.home.folder / "certs" / name

    def _configure(self, challenge: Challenge, key: KeyType) -> None:
        settings = {
            "CA": self.home.lab.directory,
            "CURL_OPTS": f"--cacert {self.home.lab.ca_file}",
            "BASEDIR": self.home.folder,
            "WELLKNOWN": self.home.web,
            "CHALLENGETYPE": challenge,
            "HOOK": self.home.hook(challenge) if challenge == "dns-01" else "",
            "CONTACT_EMAIL": MAIL,
            "KEY_ALGO": "rsa" if key == "rsa" else "prime256v1",
            "KEYSIZE": 2048,
            "ACCOUNT_KEYSIZE": 2048,
        }
        if self.home.bound:
            settings |= {"EAB_KID": self.home.lab.kid, "EAB_HMAC_KEY": self.home.lab.hmac_key}
        text = "".join(f'{name}="{value}"\n' for name, value in settings.items())
        (self.home.folder / "config").write_text(text)

    def _say(self, *words: str) -> None:
        run([self.program, "--config", str(self.home.folder / "config"), *words])


@dataclass(frozen=True)
class Uacme:
    """uacme, with a hook for everything.

    Its TLS trusts the system's bundle and nothing else, so it runs in a mount namespace of its own
    in which that file is the lab's root; the system's file stays as it is.
    """

    program: str
    home: Home

    def issue(
        self, names: tuple[str, ...], challenge: Challenge = "http-01", key: KeyType = "ecdsa"
    ) -> Path:
        if not self.account_key.exists():
            binding = f"{self.home.lab.kid}:{self.home.lab.hmac_key}"
            self._say("--yes", *(("--eab", binding) if self.home.bound else ()), "new", MAIL)
        return self._issue(names, challenge, "--type", "RSA" if key == "rsa" else "EC")

    def renew(self, name: str) -> Path:
        return self._issue((name,), "http-01", "--force")

    def revoke(self, name: str) -> None:
        self._say("--reason", "4", "revoke", str(self._certificate(name)))

    def revoke_with_key(self, certificate: Path, key: Path) -> None:
        """Revoke without an account, by the certificate's own key (RFC 8555 7.6)."""
        self._say("revoke", str(certificate), str(key))

    def roll_key(self) -> None:
        """Replace the account's key (RFC 8555 7.3.5)."""
        self._say("newkey")

    @property
    def account_key(self) -> Path:
        """The account's present key."""
        return self.home.folder / "uacme/private/key.pem"

    def _issue(self, names: tuple[str, ...], challenge: Challenge, *words: str) -> Path:
        hook = str(self.home.hook(challenge))
        with self.home.web_server(challenge):
            self._say(*words, "--no-ocsp", "--hook", hook, "issue", *names)
        return self._certificate(names[0])

    def _certificate(self, name: str) -> Path:
        return self.home.folder / "uacme" / name / "cert.pem"

    def _say(self, *words: str) -> None:
        client = [self.program, "--acme-url", self.home.lab.directory]
        client += ["--confdir", str(self.home.folder / "uacme"), *words]
        run(in_place_of_the_bundle(self.home.lab.ca_file, client))


@dataclass(frozen=True)
class PythonACME:
    """Python's `acme` library, by the system's Python; see `python_acme.py`."""

    program: str
    home: Home

    def issue(
        self, names: tuple[str, ...], challenge: Challenge = "http-01", key: KeyType = "ecdsa"
    ) -> Path:
        self._say("issue", names=names, challenge=challenge, key=key)
        return self._folder / "chain.pem"

    def renew(self, name: str) -> Path:
        return self.issue((name,))

    def revoke(self, name: str) -> None:
        self._say("revoke")

    def roll_key(self, key: KeyType = "ecdsa") -> None:
        """Replace the account's key by one of this kind (RFC 8555 7.3.5)."""
        self._say("newkey", key=key)

    @property
    def account_key(self) -> Path:
        """The account's present key."""
        return self._folder / "account.pem"

    @property
    def _folder(self) -> Path:
        return self.home.folder / "python-acme"

    def _say(self, verb: str, **asked: object) -> None:
        lab = self.home.lab
        common = {
            "kid": lab.kid if self.home.bound else "", "hmac_key": lab.hmac_key, "mail": MAIL,
            "http01": lab.http01, "txt": lab.txt, "key": "ecdsa",
        }  # fmt: skip
        environment = {
            "ASKED": json.dumps(common | asked), "REQUESTS_CA_BUNDLE": str(lab.ca_file),
        }  # fmt: skip
        script = str(Path(__file__).with_name("python_acme.py"))
        run([self.program, "-W", "ignore", script, verb, str(self._folder), lab.directory],
            environment)  # fmt: skip


@dataclass(frozen=True)
class RubyACME:
    """Ruby's `acme-client` gem, by the system's ruby; see `ruby_acme.rb`. It is never bound."""

    program: str
    home: Home

    def issue(
        self, names: tuple[str, ...], challenge: Challenge = "http-01", key: KeyType = "ecdsa"
    ) -> Path:
        with self.home.web_server(challenge):
            self._say("issue", names=names, challenge=challenge, key=key)
        return self._folder / "chain.pem"

    def renew(self, name: str) -> Path:
        return self.issue((name,))

    def revoke(self, name: str) -> None:
        self._say("revoke")

    def roll_key(self) -> None:
        """Replace the account's key (RFC 8555 7.3.5)."""
        self._say("newkey")

    @property
    def account_key(self) -> Path:
        """The account's present key."""
        return self._folder / "account.pem"

    @property
    def _folder(self) -> Path:
        return self.home.folder / "ruby-acme"

    def _say(self, verb: str, **asked: object) -> None:
        lab = self.home.lab
        common = {
            "mail": MAIL, "web": str(self.home.web), "txt": lab.txt, "ca_file": str(lab.ca_file),
            "key": "ecdsa",
        }  # fmt: skip
        script = str(Path(__file__).with_name("ruby_acme.rb"))
        command = [self.program, "-W0", script, verb, str(self._folder), lab.directory]
        run(command, {"ASKED": json.dumps(common | asked)})


BUNDLE = "/etc/ssl/certs/ca-certificates.crt"


def in_place_of_the_bundle(ca_file: Path, command: list[str]) -> list[str]:
    """The command, in a mount namespace where the system's trusted roots are `ca_file`."""
    script = 'mount --bind "$0" "$1" && shift && exec "$@"'
    unshare = shutil.which("unshare") or "unshare"
    private = [unshare, "--map-root-user", "--mount", "sh", "-c", script]
    return [*private, str(ca_file), BUNDLE, *command]
