"""How long a proof of control counts, and for whom."""

import dataclasses
import datetime as dt
import json

import pytest

from certmint.model.entities import DomainValidation, ValidationMethod
from certmint.model.profile import Trust
from certmint.policy.domains import usable_until

NOW = dt.datetime(2026, 11, 24, tzinfo=dt.UTC)
PROOF = DomainValidation(
    "val", "mfr", "example.com", ValidationMethod.HTTP_CSR_HASH, "token", "http://example.com/x",
    NOW, NOW + dt.timedelta(days=30), NOW, "{}",
)  # fmt: skip


@pytest.mark.parametrize(("reach", "public"), [(None, True), ("private", False)])
def test_what_was_fetched_in_a_private_network_counts_in_private(
    reach: str | None, public: bool
) -> None:
    """A file that only a lab can see proves nothing to browsers, whatever is made public later."""
    evidence = {"method": "BR 3.2.2.4.18"} | ({"reach": reach} if reach else {})
    proof = dataclasses.replace(PROOF, evidence=json.dumps(evidence))
    assert (usable_until(proof, Trust.PUBLIC) is not None) is public
    assert usable_until(proof, Trust.PRIVATE) is not None
