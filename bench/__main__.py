"""Runs the workloads and prints a table."""

import argparse
import statistics
from collections.abc import Callable
from dataclasses import dataclass

from bench import workloads


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
    given = parser.parse_args()
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


if __name__ == "__main__":
    main()
