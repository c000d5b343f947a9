"""A hundred Python agents and five shell agents, all real, renew at one real server."""

from pathlib import Path

import pytest
from cryptography import x509

from .fleet import python_agents, serving, shell_agents
from .shell import pair_is_whole


@pytest.mark.slow
def test_every_agent_of_a_fleet_renews(tmp_path: Path) -> None:
    """No failure, and 105 routers with a pair of their own; the figures are printed."""
    python = [f"PY-{n:04}" for n in range(100)]
    shell = [f"SH-{n:04}" for n in range(5)]
    server, home = tmp_path / "server", tmp_path / "devices"
    server.mkdir()
    home.mkdir()
    with serving(server, python + shell) as fleet:
        rounds = python_agents(fleet, python, home) + shell_agents(fleet, shell, home)
    for figures in rounds:
        print(figures)
        assert figures.failures == (), figures
    folders = [home / each for each in python] + [home / each / "tls" for each in shell]
    assert all(map(pair_is_whole, folders))
    chains = [(folder / "live/chain.pem").read_bytes() for folder in folders]
    leaves = [x509.load_pem_x509_certificates(chain)[0] for chain in chains]
    assert len({leaf.serial_number for leaf in leaves}) == len(folders)
