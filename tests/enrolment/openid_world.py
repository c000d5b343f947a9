"""What the tests of OpenID logins share: a provider of the house's manufacturer, and its owners."""

from collections.abc import Callable
from typing import Any

from openid_provider import OpenIDProvider

from certmint.enrolment import oidc
from certmint.enrolment.oidc import OIDC
from certmint.model.entities import Owner
from certmint.model.errors import CertmintError
from certmint.registry import writes
from certmint.validation.oidc import RemoteProvider

from .house import OPERATOR, House

REDIRECT = "https://pki.example/api/v1/owner/callback"


def seconds_of(house: House) -> Callable[[], float]:
    """The house's clock, for its provider."""

    def read() -> float:
        return house.clock.now.timestamp()  # looked up each time: a test moves it

    return read


def trusting(idp: OpenIDProvider, **changes: Any) -> OIDC:
    settings = idp.settings(**{"manufacturer": "example"} | changes)
    return OIDC((RemoteProvider(settings, deadline_s=2.0),), REDIRECT)


def account(house: House, name: str) -> Owner:
    owner = Owner(f"own_{name}", house.tenant.id, name, house.clock.now)
    house.db.write(lambda tx: writes.add_owner(tx, owner, "none", by=OPERATOR, at=house.clock()))
    return owner


def answer(call: Callable[[], object]) -> str:
    try:
        call()
    except CertmintError as refusal:
        return refusal.code
    return "ok"


def linked(house: House, idp: OpenIDProvider) -> Owner:
    """The owner grace, whom the provider calls jo-at-home."""
    owner = account(house, "grace")
    oidc.link(
        house.db, house.tenant, "grace", idp.issuer, "jo-at-home", by=OPERATOR, now=house.clock()
    )
    return owner
