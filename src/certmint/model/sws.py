"""Orders as SWS clients place them: a product for a period, a CSR, names, certificates.

Laws: what moves an order is in ORDER; every change is one compare-and-set on `version`, so of two
nodes one issues. What products promise beyond the control of domains is kept and shown, and never
certified.
"""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from certmint.model.entities import ValidationMethod
from certmint.model.errors import BadInput
from certmint.model.serial import Serial

LONGEST_PERIOD = 1826
REF = "co-"  # how an order's id begins, as SWS clients know it


class OrderState(StrEnum):
    """Where an order stands; the first three wait for the customer."""

    WAITING_CSR = "waiting-for-csr"  # a voucher
    WAITING_REGISTRANT = "waiting-for-registrant"
    WAITING_VALIDATION = "waiting-for-validation"
    VALIDATING = "validating"  # a node is at it, until the order's `due_at`
    ISSUED = "issued"
    REVOKED = "revoked"
    CANCELLED = "cancelled"  # before anything was issued


class OrderEvent(StrEnum):
    """What happens to an order."""

    SUPPLIED = "supplied"  # with everything that the customer has to give, also for a reissue
    INCOMPLETE = "incomplete"  # the registrant is missing
    CLAIMED = "claimed"
    POSTPONED = "postponed"
    ISSUED = "issued"
    REVOKED = "revoked"
    CANCELLED = "cancelled"


_S, _E = OrderState, OrderEvent
_GIVEN = {_E.SUPPLIED: _S.WAITING_VALIDATION, _E.INCOMPLETE: _S.WAITING_REGISTRANT}
_ENDED = {_E.REVOKED: _S.REVOKED, _E.CANCELLED: _S.CANCELLED}
ORDER: Mapping[OrderState, Mapping[OrderEvent, OrderState]] = {
    _S.WAITING_CSR: {**_GIVEN, _E.CANCELLED: _S.CANCELLED},
    _S.WAITING_REGISTRANT: {**_GIVEN, **_ENDED},
    _S.WAITING_VALIDATION: {**_GIVEN, _E.CLAIMED: _S.VALIDATING, **_ENDED},
    _S.VALIDATING: {
        _E.CLAIMED: _S.VALIDATING,  # the node that was at it died
        _E.POSTPONED: _S.WAITING_VALIDATION,
        _E.ISSUED: _S.ISSUED,
        **_ENDED,  # the node that is at it finds the version changed, and releases nothing
    },
    _S.ISSUED: {**_GIVEN, _E.REVOKED: _S.REVOKED},
    _S.REVOKED: {},
    _S.CANCELLED: {},
}


@dataclass(frozen=True)
class SWSProduct:
    """What SSL.com sells under a number; `wants_registrant` for what it calls OV and EV."""

    code: str
    name: str
    wants_registrant: bool


PRODUCTS: Mapping[str, SWSProduct] = {
    each.code: each
    for each in (
        SWSProduct("100", "EV UCC", True),
        SWSProduct("101", "UCC", True),
        SWSProduct("102", "EV", True),
        SWSProduct("103", "OV", True),
        SWSProduct("104", "Free", False),
        SWSProduct("105", "Wildcard", False),
        SWSProduct("106", "Basic DV", False),
        SWSProduct("107", "Premium", True),
    )
}
REGISTRANT = (
    "organization", "organization_unit", "street_address_1", "street_address_2",
    "street_address_3", "post_office_box", "locality", "state_or_province", "postal_code",
    "country", "duns_number", "company_number", "joi", "ci", "assumed_name", "business_category",
)  # fmt: skip
REQUIRED_OF_REGISTRANT = (
    "organization", "street_address_1", "locality", "state_or_province", "postal_code", "country",
)  # fmt: skip
_METHODS: Mapping[str, ValidationMethod] = {
    "HTTP_CSR_HASH": ValidationMethod.HTTP_CSR_HASH,
    "HTTPS_CSR_HASH": ValidationMethod.HTTP_CSR_HASH,
    "CNAME_CSR_HASH": ValidationMethod.CNAME_CSR_HASH,
}


def product_of(code: str) -> SWSProduct:
    """Raises BadInput `product-code`."""
    try:
        return PRODUCTS[code]
    except KeyError:
        known = ", ".join(f"{each.code} ({each.name})" for each in PRODUCTS.values())
        raise BadInput("product-code", f"there is no product {code!r}: use {known}") from None


def method_of(dcv: str) -> ValidationMethod:
    """What a `dcv` member chooses; an address chooses mail to it. Raises BadInput `dcv-method`."""
    if "@" in dcv:
        return ValidationMethod.EMAIL
    try:
        return _METHODS[dcv.upper()]
    except KeyError:
        raise BadInput(
            "dcv-method", f"{dcv!r} is no way to show control: use {', '.join(_METHODS)}, or the "
            "address of a contact of the domain",
        ) from None  # fmt: skip


@dataclass(frozen=True)
class Control:
    """How control of one domain is to be shown: the wish, the attempt, the last look at it.

    `dcv` is "" until the customer chooses; `said` is the code of what the last look found missing.
    """

    domain: str
    dcv: str = ""
    attempt_id: str = ""
    attempted_at: dt.datetime | None = None
    said: str = ""


@dataclass(frozen=True)
class Order:
    """One order. `csr` is DER, empty for a voucher; `period` is in days from `begun_at`.

    `registrant` and `contacts` are JSON as it came; `serials` are its certificates, oldest first.
    The job looks again at `due_at`, and never if that is None. `failure` says what stood in the way
    at the last look. The operator is the one on whose word the next certificate is issued.
    """

    id: str
    tenant_id: str
    operator_id: str
    product: str
    period: int
    authority_id: str
    state: OrderState
    created_at: dt.datetime
    version: int = 1
    csr: bytes = field(default=b"", repr=False)
    unique_value: str = ""
    names: tuple[str, ...] = ()
    controls: tuple[Control, ...] = ()
    registrant: str = field(default="{}", repr=False)
    contacts: str = field(default="{}", repr=False)
    external_order_number: str = ""
    server_software: str = ""
    serials: tuple[Serial, ...] = ()
    begun_at: dt.datetime | None = None
    due_at: dt.datetime | None = None
    tries: int = 0
    failure: str = ""

    def __post_init__(self) -> None:
        product_of(self.product)
        if not 1 <= self.period <= LONGEST_PERIOD:
            raise BadInput(
                "order-period", f"a period of {self.period} days is not 1 to {LONGEST_PERIOD}"
            )

    @property
    def ends_at(self) -> dt.datetime | None:
        """When the subscription is over; None before its first certificate."""
        return self.begun_at and self.begun_at + dt.timedelta(days=self.period)
