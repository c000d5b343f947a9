"""One house a module: building it takes a second."""

from collections.abc import Iterator

import pytest
from backstage import ACMEHouse, House, acme_house, build


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Two manufacturers, a hierarchy, minted devices, an owner, operators of every role."""
    built = build(tmp_path_factory.mktemp("house"))
    yield built
    built.here.close()


@pytest.fixture(scope="module")
def acme(house: House) -> Iterator[ACMEHouse]:
    """The house's ACME door, and the world on loopback that its validators look at."""
    with acme_house(house) as opened:
        yield opened
