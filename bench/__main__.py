"""Runs the workloads and prints a table."""

import argparse
import statistics
from collections.abc import Callable
from dataclasses import dataclass

from bench import acme, est, lists, workloads


@dataclass(frozen=True)
class Row:
    """One line of the table: our rate, the limit's, and their ratio."""

    name: str
    unit: str
    ours: float
    limit: float
    limit_name: str


def turns(
    ours: Callable[[], float], limit: Callable[[], float], rounds: int
) -> tuple[float, float]:
    """Medians of both rates, measured in alternation."""
    pairs = [(ours(), limit()) for _ in range(rounds)]
    return statistics.median(a for a, _ in pairs), statistics.median(b for _, b in pairs)


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--devices", type=int, default=2000, help="devices of a factory batch")
    parser.add_argument(
        "--orders", type=int, default=1000, help="orders, or enrolments, of a round"
    )
    parser.add_argument("--rows", type=int, default=1_000_000, help="devices of the lists")
    parser.add_argument("--only", choices=["acme", "est", "lists"], help="one workload")
    given = parser.parse_args()
    if given.only == "acme":
        acme_rows(given.orders, given.rounds)
        return
    if given.only == "est":
        est_rows(given.orders, given.rounds)
        return
    if given.only == "lists":
        lists.table(given.rows, given.rounds)
        return
    rows = []
    with workloads.Stage() as stage:
        for name, unit, ours, limit, limit_name in (
            ("sign, keys given (G1)", "certs/cpu-s", stage.prepare_and_sign, stage.bare_sign,
             "private_key.sign"),
            ("sign, keys given (G1)", "certs/cpu-s", stage.prepare_and_sign, stage.builder,
             "pyca builder + sign"),
            ("decide", "requests/cpu-s", stage.decide, stage.bare_sign, "private_key.sign"),
            ("gate, durable, 1,000 a call (G2)", "certs/s", stage.gate, stage.bare_sign_wall,
             "private_key.sign"),
            ("factory batch, jsonl (G4)", "devices/s", lambda: stage.batch(given.devices, "jsonl"),
             stage.keygen_and_two_signs, "keygen + 2 signatures"),
            ("factory batch, pem folders (G4)", "devices/s",
             lambda: stage.batch(given.devices, "pem"), stage.keygen_and_two_signs,
             "keygen + 2 signatures"),
        ):  # fmt: skip
            ours_rate, limit_rate = turns(ours, limit, given.rounds)
            rows.append(Row(name, unit, ours_rate, limit_rate, limit_name))
            row = rows[-1]
            print(
                f"{row.name:34} {row.ours:9.0f} {row.unit:15} "
                f"{row.ours / row.limit:5.2f} of {row.limit_name} ({row.limit:.0f})",
                flush=True,
            )
    acme_rows(given.orders, given.rounds)
    est_rows(given.orders, given.rounds)
    lists.table(given.rows, given.rounds)


def acme_rows(orders: int, rounds: int) -> None:
    """Whole orders, and how latency and memory behave."""
    with acme.certmint() as server:
        runs, rate, cpu, limit = measured(server, orders, rounds, acme.SIGNED_REQUESTS)
    slow = statistics.median(run.tally.quantile(0.99) for run in runs)
    growth = (runs[-1].memory - runs[0].memory) / max(1, orders * (rounds - 1))
    print(
        f"ACME, http-01 fetched (G6)         {rate:9.0f} orders/s       "
        f" {1 / cpu / limit:5.2f} of the signatures alone ({limit:.0f}); {cpu * 1e3:.2f} ms of CPU"
    )
    print(
        f"ACME latency and memory (G8)       p99 {slow * 1e3:.0f} ms; "
        f"{runs[-1].memory / 1e6:.0f} MB, {growth:.0f} octets more with each order",
        flush=True,
    )
    with acme.certmint_of_a_maker() as server:
        runs, rate, cpu, limit = measured(server, orders, rounds, 3)
    each = statistics.median(run.tally.requests / orders for run in runs)
    slow = statistics.median(run.tally.quantile(0.99) for run in runs)
    print(
        f"ACME, pre-authorized (G7)          {rate:9.0f} orders/s       "
        f" {1 / cpu / limit:5.2f} of the signatures alone ({limit:.0f}); {cpu * 1e3:.2f} ms of CPU,"
        f" {each:.0f} requests, p99 {slow * 1e3:.0f} ms",
        flush=True,
    )


def est_rows(enrolments: int, rounds: int) -> None:
    """Enrolments over kept connections and over new ones."""
    with est.certmint() as server:
        server.enrolments(200, keeps=True)  # warm
        kept, fresh, bare, limits = [], [], [], []
        for _ in range(rounds):
            kept.append(server.enrolments(enrolments, keeps=True))
            fresh.append(server.enrolments(enrolments // 4, keeps=False))
            bare.append(server.handshakes(enrolments // 4))
            limits.append(est.floor())
    limit = statistics.median(limits)
    rate, cpu = (statistics.median(getattr(run, each) for run in kept) for each in ("rate", "cpu"))
    print(
        f"EST, connections kept (G9)         {rate:9.0f} enrolments/s   "
        f" {1 / cpu / limit:5.2f} of verify + sign ({limit:.0f}); {cpu * 1e3:.2f} ms of CPU"
    )
    rate, cpu = (statistics.median(getattr(run, each) for run in fresh) for each in ("rate", "cpu"))
    handshake = statistics.median(run.cpu for run in bare)
    print(
        f"EST, a connection each (G10)       {rate:9.0f} enrolments/s   "
        f" {handshake / cpu:5.2f} of it the handshake; {cpu * 1e3:.2f} ms of CPU",
        flush=True,
    )


def measured(
    server: acme.Server, orders: int, rounds: int, requests: int
) -> tuple[list[acme.Run], float, float, float]:
    """The runs, and medians: orders a second, CPU seconds an order, what the arithmetic allows."""
    server.orders(200, 0)  # warm
    runs, limits = [], []
    for turn in range(rounds):
        runs.append(server.orders(orders, 1000 + turn * orders))
        limits.append(acme.floor(requests))
    rate = statistics.median(run.tally.rate for run in runs)
    cpu = statistics.median(run.cpu for run in runs)
    return runs, rate, cpu, statistics.median(limits)


if __name__ == "__main__":
    main()
