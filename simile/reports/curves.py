"""Curves over a common axis: losses, learning rates, scores over the steps of a training."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby

from simile.reports.axes import axis
from simile.reports.frame import Point, Scales, chart, legend, path, percent, plot, series_class, stretched
from simile.reports.markup import Block, element
from simile.reports.numerals import Number, is_finite, shown

# Dots past this many would cover their curve.
_MOST_DOTS = 40


def lines(
    title: str,
    series: Mapping[str, Sequence[tuple[Number, Number | None]]],
    *,
    x_label: str = "",
    y_label: str = "",
) -> Block:
    """Return one chart with a curve a series; a y of None or NaN leaves a gap, and short curves have dots to point at.

    Args:
        title: what the chart shows.
        series: points (x, y) by name, in the order in which they are joined.
        x_label: what x is.
        y_label: what y is.
    """
    runs = {name: _runs(points) for name, points in series.items()}
    points = [point for of_series in runs.values() for run in of_series for point in run]
    scales = Scales(axis((x for x, _ in points), snaps=False), axis(y for _, y in points), x_label, y_label)
    remarks = [(name, _remark(of_series)) for name, of_series in runs.items()]
    drawing = [
        stretched(*(_curve(of_series, scales, index) for index, of_series in enumerate(runs.values()))),
        *(dot for index, (name, of_series) in enumerate(runs.items()) for dot in _dots(name, of_series, scales, index)),
    ]
    label = f"Curves: {title}. " + "; ".join(f"{name}: {remark}" for name, remark in remarks)
    return chart(title, legend(remarks), plot(scales, drawing if points else [], label=label))


def _runs(points: Iterable[tuple[Number, Number | None]]) -> list[list[Point]]:
    """Return the stretches of points that both have finite coordinates and follow one another."""
    grouped = groupby(points, key=lambda point: is_finite(point[0]) and is_finite(point[1]))
    return [[(float(x), float(y)) for x, y in run if y is not None] for is_drawn, run in grouped if is_drawn]


def _remark(runs: Sequence[Sequence[Point]]) -> str:
    return f"last {shown(runs[-1][-1][1], '.4g')}" if runs else "no values"


def _curve(runs: Sequence[Sequence[Point]], scales: Scales, index: int) -> Block:
    return element("path", d="".join(path(run, scales) for run in runs) or None, class_=f"curve {series_class(index)}")


def _dots(name: str, runs: Sequence[Sequence[Point]], scales: Scales, index: int) -> list[Block]:
    """Return a dot at each point of a short curve, and at what a long one would not show: points that stand alone."""
    is_short = sum(map(len, runs)) <= _MOST_DOTS
    return [
        element(
            "circle",
            element("title", f"{name}\n{shown(x, '.6g')}: {shown(y, '.4g')}"),
            cx=percent(scales.x.place(x)),
            cy=percent(100 - scales.y.place(y)),
            r="3",
            class_=f"dot {series_class(index)}",
        )
        for run in runs
        if is_short or len(run) == 1
        for x, y in run
    ]
