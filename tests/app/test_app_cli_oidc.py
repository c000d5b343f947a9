"""OpenID providers as an operator sets them up: the section `[oidc]`, and `certmint owner link`."""

import json
import re
import sys
from pathlib import Path

import pytest

from certmint.app import config, wiring
from certmint.app.cli import root
from certmint.app.cli.common import Failing
from certmint.model.errors import Misconfigured

PROVIDER = """
[[oidc.providers]]
manufacturer = "{maker}"
issuer = "{issuer}"
client_id = "certmint"
client_secret_file = "secrets/oidc.secret"
audience = "{audience}"
"""


def provider(
    maker: str = "acme", issuer: str = "https://login.example", audience: str = "api"
) -> str:
    return PROVIDER.format(maker=maker, issuer=issuer, audience=audience)


def ends(*words: str) -> object:
    before, sys.argv = sys.argv, ["certmint", *words]
    try:
        with pytest.raises(SystemExit) as end:
            Failing(root).run()
    finally:
        sys.argv = before
    return end.value.code


def write(folder: Path, text: str) -> Path:
    path = folder / config.FILE_NAME
    path.write_text(text)
    return path


def test_the_example_s_provider_can_be_uncommented(tmp_path: Path) -> None:
    """Every commented setting of a provider is one that there is, and says the default."""
    _, _, section = config.EXAMPLE.partition("# [[oidc.providers]]\n")
    lines = re.split(r"\n(?:# \[)?\[", section)[0].splitlines()
    settings = [line.removeprefix("# ") for line in lines if " = " in line]
    path = write(tmp_path, "\n".join(["[[oidc.providers]]", *settings]))
    (found,) = config.load(path).settings.oidc.providers
    assert found.issuer == "https://login.example.com"
    assert set(found.model_fields_set) == set(config.ProviderSection.model_fields)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (provider(issuer="http://login.example"), "must be an https:// URL"),
        (provider() + 'algorithms = ["HS256"]', "oidc.providers.0.algorithms"),
        (provider() + 'algorithms = ["none"]', "oidc.providers.0.algorithms"),
        (provider() + "algorithms = []", "algorithms one at least"),
        (provider() + 'scopes = ["email"]', "need 'openid'"),
        (provider() + 'client_secret = "x"', "there is no setting"),
        (provider() + provider(), "has a provider already"),
        (provider() + provider("other"), "is another manufacturer's"),
        (provider(audience="certmint"), "would let ID tokens in"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, says: str) -> None:
    """No algorithm without a key pair, no secret in the file, no token for two manufacturers."""
    with pytest.raises(Misconfigured, match="oidc") as refusal:
        config.load(write(tmp_path, text))
    assert says in refusal.value.detail


def test_a_provider_s_secret_comes_from_its_file(tmp_path: Path) -> None:
    """It is in no text that could be logged; without the file nothing starts."""
    path = write(tmp_path, provider())
    with pytest.raises(Misconfigured, match="cannot be read"):
        wiring.openid(config.load(path))
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets/oidc.secret").write_text("hush hush\n")
    found = wiring.openid(config.load(path))
    assert found.of("acme").provider.client_secret == "hush hush"
    assert "hush" not in repr(found) + repr(found.of("acme").provider)
    assert found.redirect_uri == "https://localhost:8443/api/v1/owner/callback"


def test_links_are_made_listed_and_ended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The issuer is that of the configured provider, if none is named."""
    folder = tmp_path / "pki"
    assert ends("init", str(folder)) == 0
    path = folder / config.FILE_NAME
    there = ("--config", str(path))
    (tmp_path / "password").write_text("a good long password")
    assert ends("manufacturer", "add", "acme", "--subject", "C=US, O=Acme", *there) == 0
    assert ends("owner", "add", "jo", "--password-file", str(tmp_path / "password"), *there) == 0
    assert ends("owner", "link", "jo", "--subject", "4711", *there) == 4
    assert "provider-unknown" in capsys.readouterr().err
    path.write_text(path.read_text() + provider())
    assert ends("owner", "link", "jo", "--subject", "4711", *there) == 0
    assert ends("owner", "link", "jo", "--subject", "4711", *there) == 5
    capsys.readouterr()
    assert ends("owner", "identities", "--json", *there) == 0
    listed = json.loads(capsys.readouterr().out)
    assert (listed["issuer"], listed["subject"], listed["username"]) == (
        "https://login.example", "4711", "jo",
    )  # fmt: skip
    assert ends("owner", "identities", "--after", "https://login.example", "4711", *there) == 0
    assert "nobody is linked" in capsys.readouterr().out
    assert ends("owner", "unlink", "jo", "--subject", "4711", *there) == 0
    assert ends("owner", "unlink", "jo", "--subject", "4711", *there) == 4
