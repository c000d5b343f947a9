"""The configuration: the commented example is itself a test, and mistakes are named."""

from pathlib import Path

import pytest

from certmint.app import config
from certmint.model.errors import Misconfigured


def write(folder: Path, text: str) -> Path:
    """A configuration file."""
    path = folder / config.FILE_NAME
    path.write_text(text)
    return path


def test_example_is_the_default(tmp_path: Path) -> None:
    """The file that `init` writes loads, and says what the defaults say anyway."""
    loaded = config.load(write(tmp_path, config.example()))

    assert loaded.settings == config.Settings()
    assert loaded.database_url == f"sqlite:{tmp_path.resolve() / 'certmint.db'}"


def test_example_names_every_setting(tmp_path: Path) -> None:
    """A person who reads the example knows everything that can be set."""
    for section, field in config.Settings.model_fields.items():
        assert f"[{section}" in config.EXAMPLE
        for name in field.annotation.model_fields:  # type: ignore[union-attr]
            assert name in config.EXAMPLE


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[server]\nhtps = '127.0.0.1:1'\n", "there is no setting 'server.htps'"),
        ("[sever]\n", "there is no setting 'sever'"),
        ("[server]\nhttps = 'localhost'\n", "server.https"),
        ("[server]\nhttps = '127.0.0.1:1'\nhttp = '127.0.0.1:1'\n", "both 127.0.0.1:1"),
        ("[status]\nurl = 'https://pki.example'\n", "must start with http://"),
        ("[status]\nurl = 'http://pki.example/'\n", "not end in a slash"),
        ("[database]\nurl = 'mysql://x'\n", "sqlite: or postgresql://"),
        ("[dns]\nresolvers = ['dns.example']\n", "is not an IP address"),
        ("[log]\nlevel = 'loud'\n", "log.level"),
        ("x = [\n", config.FILE_NAME),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, says: str) -> None:
    """A wrong key or value is one sentence with its place."""
    with pytest.raises(Misconfigured) as refusal:
        config.load(write(tmp_path, text))

    assert says in refusal.value.detail
    assert "\n" not in refusal.value.detail


def test_missing_file_says_what_to_do(tmp_path: Path) -> None:
    """Without a configuration, the next step is named."""
    with pytest.raises(Misconfigured, match="certmint init"):
        config.load(tmp_path / "nothing.toml")
