"""A real OpenID provider, Glewlwyd from Debian, on loopback: set up by its own REST API.

Its browser part is a JavaScript application over that API, so a user here is somebody who calls
what the application calls: log in, grant the client, follow the redirect.
"""

import contextlib
import gzip
import http.client
import http.cookies
import json
import socket
import sqlite3
import subprocess
import time
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from certmint.model.openid import Provider

CLIENT, SECRET, USER, PASSWORD = "certmint", "the-client-s-secret", "jo", "jo's good password"
_SCHEMA = "/usr/share/doc/glewlwyd/database/init.sqlite3.sql.gz"
_ADMINISTRATOR = {"username": "admin", "password": "password"}  # Glewlwyd's default

_CONFIGURATION = """\
port={port}
bind_address="127.0.0.1"
external_url="http://127.0.0.1:{port}"
login_url="login.html"
api_prefix="api"
static_files_path="/usr/share/glewlwyd/webapp/"
log_mode="file"
log_level="ERROR"
log_file="{folder}/glewlwyd.log"
cookie_domain=""
cookie_secure=0
session_expiration=2419200
session_key="GLEWLWYD2_SESSION_ID"
admin_scope="g_admin"
profile_scope="g_profile"
user_module_path="/usr/lib/glewlwyd/user"
client_module_path="/usr/lib/glewlwyd/client"
user_auth_scheme_module_path="/usr/lib/glewlwyd/scheme"
plugin_module_path="/usr/lib/glewlwyd/plugin"
use_secure_connection=false
secure_connection_key_file="unused"
secure_connection_pem_file="unused"
secure_connection_ca_file="unused"
hash_algorithm="SHA512"
database = {{ type = "sqlite3" path = "{folder}/glewlwyd.db" }};
"""


@dataclass
class Person:
    """Somebody at the provider, with a session cookie once they are logged in."""

    port: int
    cookies: dict[str, str] = field(default_factory=dict)

    def call(self, method: str, path: str, body: Any = None) -> tuple[int, str, Any]:
        """Status, Location and JSON of one call."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        headers = {"Cookie": "; ".join(f"{k}={v}" for k, v in self.cookies.items())}
        if body is not None:
            headers["Content-Type"] = "application/json"
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        content = answer.read()
        for name, value in answer.getheaders():
            if name.lower() == "set-cookie":
                for each in http.cookies.SimpleCookie(value).values():
                    self.cookies[each.key] = each.value
        connection.close()
        try:
            said = json.loads(content)
        except ValueError:
            said = content.decode("utf-8", "replace")
        return answer.status, answer.getheader("Location", "") or "", said

    def do(self, method: str, path: str, body: Any = None) -> Any:
        status, _, said = self.call(method, path, body)
        assert status == 200, (method, path, status, said)
        return said

    def grant(self) -> None:
        """Log in, and let the client know who that is."""
        self.do("POST", "/api/auth/", {"username": USER, "password": PASSWORD})
        self.do("PUT", f"/api/auth/grant/{CLIENT}", {"scope": "openid"})

    def follow(self, url: str) -> str:
        """Where the provider sends the browser that comes to this URL."""
        parts = urllib.parse.urlsplit(url)
        status, location, said = self.call("GET", f"{parts.path}?{parts.query}")
        assert status == 302, (status, said)
        return location


@dataclass
class Glewlwyd:
    """The running provider."""

    port: int

    @property
    def issuer(self) -> str:
        return f"http://127.0.0.1:{self.port}/api/oidc"

    def settings(self, **changes: Any) -> Provider:
        wanted = {
            "manufacturer": "acme", "issuer": self.issuer, "client_id": CLIENT,
            "client_secret": SECRET, "audience": "openid", "algorithms": ("ES256",),
        }  # fmt: skip
        return Provider(**(wanted | changes))


@contextlib.contextmanager
def glewlwyd(program: str, folder: Path, redirect_uri: str) -> Iterator[Glewlwyd]:
    """Glewlwyd with one client and one user, who logs in by a password."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    database = sqlite3.connect(folder / "glewlwyd.db")
    database.executescript(gzip.decompress(Path(_SCHEMA).read_bytes()).decode())
    database.close()
    configuration = folder / "glewlwyd.conf"
    configuration.write_text(_CONFIGURATION.format(port=port, folder=folder))
    process = subprocess.Popen(
        [program, "--config-file", str(configuration)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        _wait(port, process)
        _set_up(port, redirect_uri)
        yield Glewlwyd(port)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def _wait(port: int, process: subprocess.Popen[bytes]) -> None:
    ends = time.monotonic() + 20
    while time.monotonic() < ends and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise AssertionError("Glewlwyd does not start")


def _set_up(port: int, redirect_uri: str) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    admin = Person(port)
    admin.do("POST", "/api/auth/", _ADMINISTRATOR)
    plugin = {
        "iss": f"http://127.0.0.1:{port}/api/oidc",
        "jwt-type": "ecdsa", "jwt-key-size": "256", "key": private, "cert": public.decode(),
        "access-token-duration": 3600, "refresh-token-duration": 1209600, "code-duration": 600,
        "allow-non-oidc": True, "auth-type-code-enabled": True, "auth-type-device-enabled": True,
        "auth-type-refresh-enabled": True, "subject-type": "public", "jwks-show": True,
        "pkce-allowed": True, "pkce-required": True, "pkce-method-plain-allowed": False,
        "device-authorization-expiration": 600, "device-authorization-interval": 5,
        "oauth-as-iss-id": True,
    }  # fmt: skip
    admin.do("POST", "/api/mod/plugin/", {
        "module": "oidc", "name": "oidc", "display_name": "OIDC", "parameters": plugin,
    })  # fmt: skip
    admin.do("POST", "/api/client/", {
        "client_id": CLIENT, "name": CLIENT, "confidential": True, "password": SECRET,
        "client_secret": SECRET, "enabled": True, "scope": ["openid"],
        "redirect_uri": [redirect_uri], "token_endpoint_auth_method": ["client_secret_basic"],
        "authorization_type": ["code", "device_authorization", "refresh_token"],
    })  # fmt: skip
    admin.do("POST", "/api/user/", {
        "username": USER, "password": PASSWORD, "enabled": True, "scope": ["g_profile", "openid"],
    })  # fmt: skip
