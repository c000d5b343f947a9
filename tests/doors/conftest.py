"""One house a module: building it takes a second."""

from collections.abc import Iterator

import pytest
from backstage import House, build


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Two manufacturers, a hierarchy, minted devices, an owner, operators of every role."""
    built = build(tmp_path_factory.mktemp("house"))
    yield built
    built.here.close()
