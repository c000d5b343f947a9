"""Charts as SVG that the server draws: no script, no style of their own, words for who cannot see.

Numbers become rectangles here; colours are classes of the style sheet.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

_BAR_HEIGHT, _GAP, _LABEL, _WIDTH, _NUMBER = 26, 10, 118, 520, 74


@dataclass(frozen=True)
class Bar:
    """One line of a chart: its words, its number, and the class of its colour."""

    label: str
    number: int
    colour: str = "plain"


def bars(title: str, lines: Sequence[Bar]) -> Markup:
    """Horizontal bars with their numbers; the longest fills the width."""
    most = max((bar.number for bar in lines), default=0) or 1
    room = _WIDTH - _LABEL - _NUMBER
    height = len(lines) * (_BAR_HEIGHT + _GAP)
    drawn = [
        Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">').format(
            _WIDTH, height, f"{title}: " + ", ".join(f"{bar.label} {bar.number}" for bar in lines)
        )
    ]
    for place, bar in enumerate(lines):
        top = place * (_BAR_HEIGHT + _GAP)
        middle = top + _BAR_HEIGHT / 2 + 5
        # A number above zero is never invisible.
        length = max(3.0, room * bar.number / most) if bar.number else 0
        drawn.append(
            Markup(
                '<text x="0" y="{y}" class="label">{label}</text>'
                '<rect x="{x}" y="{top}" width="{length:.1f}" height="{h}" rx="4" class="{c}"/>'
                '<text x="{end:.1f}" y="{y}" class="number">{number:,}</text>'
            ).format(
                y=middle, label=bar.label, x=_LABEL, top=top, length=length, h=_BAR_HEIGHT,
                c=bar.colour, end=_LABEL + length + 8, number=bar.number,
            )
        )  # fmt: skip
    return Markup("").join([*drawn, Markup("</svg>")])


def progress(done: int, total: int) -> Markup:
    """How far something is."""
    share = 100 * done / total if total else 0
    return Markup(
        '<svg class="progress" viewBox="0 0 100 6" preserveAspectRatio="none" role="img" '
        'aria-label="{done} of {total}"><rect class="track" width="100" height="6" rx="3"/>'
        '<rect class="good" width="{share:.2f}" height="6" rx="3"/></svg>'
    ).format(done=done, total=total, share=share)
