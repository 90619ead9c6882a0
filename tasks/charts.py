"""Charts as inline SVG, made by hand: small, the same bytes for the same figures, and in the colours and letters of the page around them.

What a mark means is told by its shape and by the words beside it as well as by its colour.
"""

import math
from collections.abc import Sequence
from html import escape

from tasks.document import Chart, Colour, Line, Mark, Plot, clean

WIDTH, MIDDLE, REACH = 300.0, 150.0, 140.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 46.0, 310.0, 10.0, 196.0  # the frame of a plot, in a drawing of 320 x 236


def interval(mark: Mark, reach: float) -> str:
    """Draw a point with its interval about 0, `reach` being the largest distance from 0 that is shown.

    A circle is better and a diamond worse, beyond doubt; a ring is neither. Undefined is drawn as 0 alone.
    """
    parts = [_line(MIDDLE, 0, MIDDLE, 20, "zero")]
    if mark.low is not None and mark.high is not None:
        low, high = _about(mark.low, reach), _about(mark.high, reach)
        parts += [_line(low, 10, high, 10, "reach"), _line(low, 6, low, 14, "reach"), _line(high, 6, high, 14, "reach")]
    if mark.value is not None:
        parts.append(_point(_about(mark.value, reach), mark))
    return _svg(mark.label, mark.figure, WIDTH, 20, parts)


def _about(value: float, reach: float) -> float:
    return MIDDLE + REACH * max(-1.0, min(1.0, value / reach))


def _point(at: float, mark: Mark) -> str:
    if mark.low is not None and mark.low > 0:
        return f'<circle class="better" cx="{at:.1f}" cy="10" r="5"/>'
    if mark.high is not None and mark.high < 0:
        return f'<path class="worse" d="M{at:.1f} 4l6 6-6 6-6-6z"/>'
    return f'<circle class="open" cx="{at:.1f}" cy="10" r="4.5"/>'


def bar(mark: Mark, low: float, high: float) -> str:
    """Draw a bar from 0, on a scale from `low` to `high`, with its interval if it has one."""

    def at(value: float) -> float:
        return 4 + (WIDTH - 8) * (value - low) / (high - low)

    parts = [_line(at(0), 0, at(0), 16, "zero")]
    if mark.value is not None:
        start, end = sorted((at(0), at(mark.value)))
        parts.append(f'<rect class="{mark.colour}" x="{start:.1f}" y="3" width="{end - start:.1f}" height="10"/>')
    if mark.low is not None and mark.high is not None:
        parts.append(_line(at(mark.low), 8, at(mark.high), 8, "reach"))
    return _svg(mark.label, mark.figure, WIDTH, 16, parts)


def drawn(chart: Chart) -> tuple[str, ...]:
    """Draw each row of a chart."""
    if chart.kind == "intervals":
        widest = _reach(chart.marks)
        return tuple(interval(mark, _reach([mark]) if chart.scale == "own" else widest) for mark in chart.marks)
    ends = [0.0, chart.full, *(value for mark in chart.marks for value in _values(mark))]
    low, high = min(ends), max(ends)
    return tuple(bar(mark, low, high if high > low else low + 1) for mark in chart.marks)


def _values(mark: Mark) -> list[float]:
    return [value for value in (mark.value, mark.low, mark.high) if value is not None and math.isfinite(value)]


def _reach(marks: Sequence[Mark]) -> float:
    return max((abs(value) for mark in marks for value in _values(mark)), default=0.0) or 1.0


def plot(found: Plot) -> str:
    """Draw lines over two axes; the challenger's is whole with circles, the champion's is broken with diamonds."""
    points = [point for line in found.lines for point in line.points]
    across, up = ticks([x for x, _ in points]), ticks([y for _, y in points])
    parts = [_line(_x(x, across), _TOP, _x(x, across), _BOTTOM, "grid") for x in across]
    parts += [_line(_LEFT, _y(y, up), _RIGHT, _y(y, up), "grid") for y in up]
    parts += [_text(_x(x, across), _BOTTOM + 16, "middle", f"{x:g}") for x in across]
    parts += [_text(_LEFT - 6, _y(y, up) + 4, "end", f"{y:g}") for y in up]
    parts += [part for line in found.lines for part in _curve(line, across, up)]
    parts.append(_text((_LEFT + _RIGHT) / 2, 232, "middle", found.x))
    parts.append(f'<text transform="translate(11 {(_TOP + _BOTTOM) / 2:.1f}) rotate(-90)" text-anchor="middle">{_words(found.y)}</text>')
    names = ", ".join(line.name for line in found.lines if line.colour != "other")
    return _svg(found.title, names, 320, 236, parts)


def ticks(values: Sequence[float]) -> list[float]:
    """Give round numbers, from three to eight, that span the values (Heckbert, "Nice numbers for graph labels", Graphics Gems, 1990).

    >>> ticks([0.0, 0.93])
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    >>> ticks([5.0])
    [4.4, 4.6, 4.8, 5.0, 5.2, 5.4, 5.6]
    """
    low, high = min(values, default=0.0), max(values, default=1.0)
    size = max(abs(low), abs(high))
    if not high - low > max(1e-6 * size, 1e-300):  # one value, as far as can be written
        around = 0.1 * size if size > 1e-290 else 0.5
        low, high = low - around, high + around
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if rough / power <= factor * 1.0001)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{place * step:.10g}") for place in range(first, last + 1)]


def _x(value: float, across: Sequence[float]) -> float:
    return _LEFT + (_RIGHT - _LEFT) * (value - across[0]) / (across[-1] - across[0])


def _y(value: float, up: Sequence[float]) -> float:
    return _BOTTOM - (_BOTTOM - _TOP) * (value - up[0]) / (up[-1] - up[0])


def _curve(line: Line, across: Sequence[float], up: Sequence[float]) -> list[str]:
    places = [(_x(x, across), _y(y, up)) for x, y in line.points]
    if not places:
        return []
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    curve = [f'<path class="line {line.colour}" d="{path}"/>']
    return curve + ([_marker(x, y, line.colour) for x, y in places] if line.colour != "other" and len(places) <= 12 else [])


def _marker(x: float, y: float, colour: Colour) -> str:
    if colour == "champion":
        return f'<path class="{colour}" d="M{x:.1f} {y - 4.5:.1f}l4.5 4.5-4.5 4.5-4.5-4.5z"/>'
    return f'<circle class="{colour}" cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>'


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _text(x: float, y: float, anchor: str, text: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{_words(text)}</text>'


def _words(text: str) -> str:
    return escape(clean(text), quote=True)


def _svg(title: str, says: str, width: float, height: float, parts: Sequence[str]) -> str:
    label = _words(f"{title}: {says}")
    body = "".join(parts)
    return f'<svg role="img" aria-label="{label}" viewBox="0 0 {width:g} {height:g}"><title>{label}</title>{body}</svg>'
