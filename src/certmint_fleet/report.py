"""What a fleet came to: counts by kind of agent and outcome, times, and who is left without."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from certmint_fleet.agents import DONE, KILLED, WAITING, Attempt

_SHOWN = 10
_COLUMNS = (WAITING, "Refused", "Unreachable")


@dataclass
class Tally:
    """What the agents of one kind did. `issued` are first certificates, `renewed` the others."""

    agents: int = 0
    issued: int = 0
    renewed: int = 0
    killed: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)

    def count(self, attempt: Attempt, *, is_first: bool) -> None:
        """One attempt more."""
        if attempt.outcome == DONE:
            self.issued += is_first
            self.renewed += not is_first
            self.seconds.append(attempt.seconds)
        elif attempt.outcome == KILLED:
            self.killed += 1
        else:
            self.failures[attempt.outcome] += 1

    def row(self) -> dict[str, object]:
        """As a table and JSON have it; times in milliseconds."""
        return {
            "agents": self.agents,
            "issued": self.issued,
            "renewed": self.renewed,
            "waiting": self.failures[WAITING],
            "refused": self.failures["Refused"],
            "unreachable": self.failures["Unreachable"],
            "other": sum(n for each, n in self.failures.items() if each not in _COLUMNS),
            "killed": self.killed,
            "p50_ms": percentile(self.seconds, 50),
            "p99_ms": percentile(self.seconds, 99),
        }


@dataclass(frozen=True)
class Summary:
    """The end of a run. `unfinished` names devices that an attempt was left to fail of."""

    tallies: Mapping[str, Tally]
    seconds: float
    without: Sequence[str]
    unfinished: Mapping[str, str]
    interrupted: bool

    @property
    def is_good(self) -> bool:
        """Every device has a valid pair, and every attempt ended well, or was repeated until so."""
        return not self.without and not self.unfinished

    def as_dict(self) -> dict[str, object]:
        """For programs."""
        certificates = sum(each.issued + each.renewed for each in self.tallies.values())
        return {
            "seconds": round(self.seconds, 3),
            "certificates": certificates,
            "certificates_per_second": round(certificates / self.seconds, 2) if self.seconds else 0,
            "agents": {kind: tally.row() for kind, tally in self.tallies.items()},
            "without_valid_pair": list(self.without),
            "unfinished": dict(self.unfinished),
            "interrupted": self.interrupted,
        }

    def lines(self) -> list[str]:
        """For people."""
        rows = {kind: tally.row() for kind, tally in self.tallies.items() if tally.agents}
        columns = list(Tally().row())
        cells = [["", *(column.replace("_", " ") for column in columns)]]
        cells += [[kind, *(_cell(row[column]) for column in columns)] for kind, row in rows.items()]
        widths = [max(len(line[place]) for line in cells) for place in range(len(cells[0]))]
        table = [
            "  ".join(cell.rjust(w) for cell, w in zip(line, widths, strict=True)) for line in cells
        ]
        said = self.as_dict()
        table.append(
            f"{said['certificates']} certificates in {self.seconds:.1f} s, "
            f"{said['certificates_per_second']}/s; "
            f"{len(self.without)} agents without a valid pair" + _some(self.without)
        )
        table += [f"{name}: {why}" for name, why in list(self.unfinished.items())[:_SHOWN]]
        if len(self.unfinished) > _SHOWN:
            table.append(f"… and {len(self.unfinished) - _SHOWN} more that failed")
        return table


def percentile(values: Sequence[float], percent: int) -> float | None:
    """The value that so many per cent do not exceed, in milliseconds; None of nothing."""
    if not values:
        return None
    ordered = sorted(values)
    place = max(0, -(-len(ordered) * percent // 100) - 1)
    return round(ordered[place] * 1000, 1)


def _cell(value: object) -> str:
    return "-" if value is None else str(value)


def _some(names: Sequence[str]) -> str:
    return ": " + ", ".join(names[:_SHOWN]) if names else ""
