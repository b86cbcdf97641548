"""A year of an application's restore tests as a small drawing that a black-and-white printer keeps.

Inline SVG, shapes only, no colour, no script, nothing loaded: a full bar is a test that the site's own
checks passed, an empty bar one that was only opened or told of, a cross a failure, a dot no test. The
height of a bar is the test's duration, against the longest of the year.
"""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup, escape

from backupguard.reports.outlook import MonthMark

_STEP, _BAR, _HEIGHT, _FLOOR = 8, 5, 20, 18
_LEAST, _MOST = 5, 16
_INK = "#222"
#: From this level on, the site's own checks proved the content.
_CHECKED = 3


def drawing(marks: Sequence[MonthMark], label: str) -> Markup:
    """Return the drawing of these months, oldest first; `label` says it to who cannot see it."""
    longest = max((mark.duration_ms or 0 for mark in marks), default=0)
    shapes = "".join(_shape(place, mark, longest) for place, mark in enumerate(marks))
    width = max(1, len(marks)) * _STEP
    return Markup(  # noqa: S704 - numbers and our own shapes; the label is escaped
        f'<svg class="trend" role="img" aria-label="{escape(label)}" width="{width}" '
        f'height="{_HEIGHT}" viewBox="0 0 {width} {_HEIGHT}">'
        f'<path d="M0 {_FLOOR + 1}H{width}" stroke="#999" stroke-width=".5"/>{shapes}</svg>'
    )


def _shape(place: int, mark: MonthMark, longest: int) -> str:
    left = place * _STEP + 1.5
    if mark.outcome == "none":
        return f'<circle cx="{left + _BAR / 2}" cy="{_FLOOR - 1}" r=".9" fill="{_INK}"/>'
    if mark.outcome == "failed":
        peak, right = _FLOOR - 9, left + _BAR
        return (
            f'<path d="M{left} {peak}L{right} {_FLOOR - 1}M{right} {peak}L{left} {_FLOOR - 1}" '
            f'stroke="{_INK}" stroke-width="1.6"/>'
        )
    share = (mark.duration_ms or 0) / longest if longest else 0
    height = round(_LEAST + (_MOST - _LEAST) * share, 1)
    top = round(_FLOOR - height, 1)
    full = mark.observed and mark.level >= _CHECKED
    look = f'fill="{_INK}"' if full else f'fill="none" stroke="{_INK}"'
    return f'<rect x="{left}" y="{top}" width="{_BAR}" height="{height}" {look}/>'
