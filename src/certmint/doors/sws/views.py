"""Orders in the words of SWS."""

import base64
import datetime as dt
import json
from collections.abc import Mapping, Sequence
from typing import Any

from certmint.doors.sws import bundles
from certmint.enrolment.chains import pem
from certmint.enrolment.proving import Todo
from certmint.enrolment.sws.controls import Hashes, Ways
from certmint.model.entities import Certificate, DomainValidation
from certmint.model.sws import Order, OrderState, product_of

STATUS: Mapping[OrderState, str] = {
    OrderState.WAITING_CSR: "unused. waiting on certificate signing request (csr)",
    OrderState.WAITING_REGISTRANT: "waiting on registrant information from customer",
    OrderState.WAITING_VALIDATION: "waiting on validation from customer",
    OrderState.VALIDATING: "validating, please wait",
    OrderState.ISSUED: "issued",
    OrderState.REVOKED: "revoked",
    OrderState.CANCELLED: "cancelled",
}


def status_of(order: Order, newest: Certificate | None) -> str:
    """The prose of an order's status; a certificate may be revoked without the order."""
    if order.state is OrderState.ISSUED and newest is not None and newest.revocation is not None:
        return STATUS[OrderState.REVOKED]
    return STATUS[order.state]


def summary(base: str, order: Order, newest: Certificate | None) -> dict[str, Any]:
    """A line of the list, and the beginning of everything else that is said of an order."""
    return {
        "ref": order.id,
        "order_status": status_of(order, newest),
        "external_order_number": order.external_order_number,
        "product": order.product,
        "product_name": product_of(order.product).name,
        "period": order.period,
        "order_date": order.created_at.isoformat(),
        "certificate_url": f"{base}/certificate/{order.id}",
        "receipt_url": f"{base}/certificate/{order.id}",
        "validation_url": f"{base}/certificate/{order.id}/validations/methods",
        "subject_alternative_names": list(order.names),
        "effective_date": newest.not_before.isoformat() if newest else None,
        "expiration_date": newest.not_after.isoformat() if newest else None,
    }


def order_view(
    base: str, order: Order, newest: Certificate | None, missing: Sequence[str]
) -> dict[str, Any]:
    """What an order is answered with when it is placed, changed or looked at."""
    return summary(base, order, newest) | {
        "validations": _validations(order, missing),
        "registrant": json.loads(order.registrant),
        "contacts": json.loads(order.contacts),
        "server_software": order.server_software,
        "reason": order.failure,
    }


def certificate_view(
    order: Order, newest: Certificate | None, everything: Sequence[Certificate]
) -> dict[str, Any]:
    """What more is said of an order that bought something; times are those of the newest."""
    if newest is None:
        return {"common_name": order.names[0] if order.names else ""}
    return {
        "common_name": newest.names[0],
        "subscription_ends": order.ends_at.isoformat() if order.ends_at else None,
        "serial": newest.serial,
        "serials": [
            {
                "serial": each.serial,
                "expiration_date": each.not_after.isoformat(),
                "status": "issued" if each.revocation is None else "revoked",
            }
            for each in everything
        ],
    }


def certificates_of(kind: str, chain: Sequence[bytes]) -> list[str] | str:
    """The member `certificates`: PEM texts, leaf first, or one file in base64."""
    if kind == "individually":
        return list(map(pem, chain))
    return base64.b64encode(bundles.bundle(kind, chain)).decode()


def _validations(order: Order, missing: Sequence[str]) -> dict[str, Any]:
    behind = {name.removeprefix("*.") for name in missing}
    return {
        each.domain: {
            "dcv_method": each.dcv,
            "status": "satisfied" if each.domain not in behind else _awaited(each.said),
            "attempted_on": _time(each.attempted_at),
        }
        for each in order.controls
    }


def _awaited(said: str) -> str:
    return f"awaiting: {said}" if said else "awaiting"


def _time(moment: dt.datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def methods_view(
    hashes: Hashes | None, found: Sequence[Ways], begun: Mapping[str, DomainValidation]
) -> dict[str, Any]:
    """What may be done for each domain, and what was begun."""
    view: dict[str, Any] = {"dcv_methods": {each.domain: _ways(each) for each in found}}
    if hashes is not None:
        view |= {"md5_hash": hashes.md5.upper(), "sha2_hash": hashes.sha256}
    for domain, attempt in begun.items():
        if domain in view["dcv_methods"]:
            view["dcv_methods"][domain]["begun"] = attempt.method.value
            view["dcv_methods"][domain]["until"] = attempt.expires_at.isoformat()
    return view


def _ways(found: Ways) -> dict[str, Any]:
    view: dict[str, Any] = {"email_addresses": list(found.addresses)}
    if found.file is not None:
        view["http_csr_hash"] = {
            "http": found.file.place,
            "allow_https": "by redirect",
            "contents": found.file.value,
        }
    if found.record is not None:
        view["cname_csr_hash"] = _record(found.record)
    return view


def _record(todo: Todo) -> dict[str, str]:
    return {
        "cname": f"{todo.place}. CNAME {todo.value}.",
        "name": f"{todo.place}.",
        "value": f"{todo.value}.",
    }
