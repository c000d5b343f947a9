"""Rows of SWS orders from and to values."""

import json
from dataclasses import replace

from certmint.model.serial import Serial
from certmint.model.sws import Control, Order, OrderState
from certmint.registry.columns import moment, to_number
from certmint.registry.documents import canonical, list_of, list_text
from certmint.registry.rows import Row, Values


def order_row(order: Order) -> Values:
    return {
        **vars(order),
        "state": order.state.value,
        "names": list_text(order.names),
        "serials": list_text(order.serials),
        "controls": canonical(
            [
                [each.domain, each.dcv, each.attempt_id, to_number(each.attempted_at), each.said]
                for each in order.controls
            ]
        ),
    }


def order_of(row: Row) -> Order:
    values = dict(row._mapping)  # noqa: SLF001 - the public name of a row's mapping
    return Order(
        **values
        | {
            "state": OrderState(row.state),
            "names": list_of(row.names),
            "serials": tuple(map(Serial, list_of(row.serials))),
            "controls": tuple(
                Control(domain, dcv, attempt, None if at is None else moment(at), said)
                for domain, dcv, attempt, at, said in json.loads(row.controls)
            ),
        }
    )


def moved(order: Order, state: OrderState, version: int) -> Order:
    """The order as the registry has it after a move."""
    return replace(order, state=state, version=version)
