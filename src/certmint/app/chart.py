"""Bars over time, as an SVG of our own and as a line for terminals."""

import datetime as dt
from collections.abc import Sequence

_LEVELS = " ▁▂▃▄▅▆▇█"


def spark(values: Sequence[int], width: int = 60) -> str:
    """The values as one line of blocks, averaged into at most `width` columns."""
    if not values:
        return ""
    columns = _pooled(values, width)
    top = max(columns) or 1
    return "".join(_LEVELS[round(value / top * (len(_LEVELS) - 1))] for value in columns)


def svg(title: str, subtitle: str, values: Sequence[int], start: dt.date, step_days: int) -> str:
    """A bar chart: one bar a value, `step_days` apart, with years below and counts at the left."""
    width, height, left, bottom, head = 960, 300, 56, 32, 64
    plot_w, plot_h = width - left - 16, height - bottom - head
    top = _round_up(max(values, default=1))
    bar = plot_w / max(1, len(values))
    bars = "".join(
        f'<rect x="{left + i * bar:.2f}" y="{head + plot_h * (1 - v / top):.2f}" '
        f'width="{max(bar * 0.86, 0.4):.2f}" height="{plot_h * v / top:.2f}"/>'
        for i, v in enumerate(values)
        if v
    )
    grid = "".join(
        f'<line x1="{left}" x2="{width - 16}" y1="{head + plot_h * (1 - share):.1f}" '
        f'y2="{head + plot_h * (1 - share):.1f}"/>'
        f'<text x="{left - 8}" y="{head + plot_h * (1 - share) + 4:.1f}" text-anchor="end">'
        f"{round(top * share)}</text>"
        for share in (0, 0.5, 1)
    )
    years = "".join(
        f'<text x="{left + (day / step_days) * bar:.1f}" y="{height - 10}">{year}</text>'
        for day, year in _new_years(start, len(values) * step_days)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{title}" font-family="system-ui, sans-serif" font-size="12">'
        f'<rect width="{width}" height="{height}" fill="#fff"/>'
        f'<text x="16" y="26" font-size="17" font-weight="600" fill="#1c2733">{title}</text>'
        f'<text x="16" y="46" fill="#4b5a68">{subtitle}</text>'
        f'<g stroke="#dfe5ea" fill="#4b5a68" stroke-width="1"><g>{grid}</g></g>'
        f'<g fill="#2f6f9f">{bars}</g><g fill="#4b5a68">{years}</g></svg>\n'
    ).replace("<text", '<text stroke="none"')


def _pooled(values: Sequence[int], width: int) -> list[float]:
    if len(values) <= width:
        return [float(value) for value in values]
    pooled = []
    for column in range(width):
        part = values[column * len(values) // width : (column + 1) * len(values) // width]
        pooled.append(sum(part) / max(1, len(part)))
    return pooled


def _round_up(value: int) -> int:
    scale = 1
    while scale * 10 <= value:
        scale *= 10
    for step in (1, 2, 5, 10):
        if scale * step >= value:
            return scale * step
    return scale * 10


def _new_years(start: dt.date, days: int) -> list[tuple[int, int]]:
    last = (start + dt.timedelta(days=days)).year
    return [((dt.date(year, 1, 1) - start).days, year) for year in range(start.year + 1, last + 1)]
