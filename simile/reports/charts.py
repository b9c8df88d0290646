"""Charts: histograms laid over one another, curves, and intervals. The numbers are prepared here, drawn in `drawing`.

`drawing` is imported by the functions that need it, as Matplotlib takes half a second and the serving extras lack it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simile.reports.blocks import figure_row
from simile.reports.markup import Block, render
from simile.reports.numerals import Number, counted, shown

Array: TypeAlias = NDArray[np.float64]
Interval: TypeAlias = tuple[str, Number | None, Number | None, Number | None]

NUM_COLOURS = 5
"""Number of series colours in theme.css."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Values that are already counted: the counts of the bins, and the bins' edges, one more than counts."""

    edges: ArrayLike
    counts: ArrayLike

    def __post_init__(self) -> None:
        """Refuse counts and edges whose shapes do not match."""
        edges, counts = np.shape(self.edges), np.shape(self.counts)
        if len(counts) != 1 or counts[0] < 1 or edges != (counts[0] + 1,):
            raise ValueError(f"got counts of shape {counts}, edges of shape {edges}; need a bin or more, an edge more")


Series: TypeAlias = Mapping[str, ArrayLike | Counts]


@dataclass(frozen=True, slots=True)
class Binned:
    """One series in the bins of its chart."""

    counts: Array
    num_left_out: int = 0
    """Number of values that are not finite."""
    mean: float | None = None
    """Mean of the finite values; None where it is unknown."""

    @property
    def shares(self) -> Array:
        """The share of the series in each bin; the shares sum to 1, or are all 0 for an empty series."""
        return self.counts / (float(self.counts.sum()) or 1.0)

    def summary(self) -> str:
        """Return the legend text: the number of values, their mean, and how many were left out."""
        mean = "" if self.mean is None else f", mean {shown(self.mean)}"
        left_out = f", {self.num_left_out:,} not finite" if self.num_left_out else ""
        return counted(int(self.counts.sum()), "value") + mean + left_out


def histogram_row(
    panels: Mapping[str, Series], *, x_label: str = "", bins: int = 50, limits: tuple[float, float] | None = None
) -> Block:
    """Return one chart per panel, side by side, with common bins and a common height, so that they compare.

    Each series shows the share of its values per bin; a dashed line marks its mean. Values that are not finite are left
    out and counted in the legend.

    Args:
        panels: by the title of the chart, the series by name: values or `Counts`.
        x_label: what the values are.
        bins: number of bins.
        limits: outer edges of the first and the last bin, which also take the values beyond; by default the smallest
            and the largest value. `Counts` bring their own edges, which replace bins and limits.

    Raises:
        ValueError: two `Counts` have different edges, or bins of unequal width; limits do not rise; no bins.
    """
    edges = _edges([values for series in panels.values() for values in series.values()], bins, limits)
    binned = {title: {name: _binned(of, edges) for name, of in series.items()} for title, series in panels.items()}
    top = max((float(of.shares.max()) for series in binned.values() for of in series.values()), default=0.0)
    return figure_row(*(_panel(title, series, edges, x_label, top) for title, series in binned.items()))


def lines(
    title: str, series: Mapping[str, Sequence[tuple[Number, Number | None]]], *, x_label: str = "", y_label: str = ""
) -> Block:
    """Return one chart with a curve per series; short curves have dots that name their values under the pointer.

    A series holds points (x, y) in the order in which they are joined; None and NaN leave a gap.
    """
    curves = {name: np.asarray(list(points), float).reshape(-1, 2) for name, points in series.items()}
    is_drawn = {name: np.isfinite(points).all(axis=1) for name, points in curves.items()}
    summaries = {
        name: f"last {shown(float(points[is_drawn[name]][-1, 1]), '.4g')}" if is_drawn[name].any() else "no values"
        for name, points in curves.items()
    }
    drawing = None
    if any(mask.any() for mask in is_drawn.values()):
        from simile.reports.drawing import draw_curves

        gapped = {name: np.where(is_drawn[name][:, None], points, np.nan) for name, points in curves.items()}
        drawing = draw_curves(gapped, _label("Curves", title, summaries))
    return _chart(title, drawing, summaries, x_label=x_label, y_label=y_label)


def intervals(title: str, rows: Iterable[Interval], *, spec: str = ".3f") -> Block:
    """Return a forest plot: a dot per value, on a line for its interval; the dot is hollow where that contains zero.

    A row has a label, a value, low end and high end; None and what is not finite are not drawn.
    """
    rows = list(rows)
    said = [
        (
            label,
            shown(value, spec) + ("" if (low, high) == (None, None) else f" [{shown(low, spec)}, {shown(high, spec)}]"),
        )
        for label, value, low, high in rows
    ]
    numbers = np.asarray([row[1:] for row in rows], float).reshape(-1, 3)
    has_zero = (numbers[:, 1] <= 0) & (numbers[:, 2] >= 0)
    drawing = None
    if rows:
        from simile.reports.drawing import draw_intervals

        drawing = draw_intervals(said, numbers, has_zero, _label("Intervals", title, dict(said)))
    return _chart(title, drawing, remark="Hollow dot: the interval contains zero." if has_zero.any() else "")


def _edges(series: Sequence[ArrayLike | Counts], bins: int, limits: tuple[float, float] | None) -> Array:
    counted_edges = [np.asarray(values.edges, float) for values in series if isinstance(values, Counts)]
    if counted_edges:
        first, *others = counted_edges
        if any(not np.array_equal(first, other) for other in others):
            raise ValueError("got counts with different edges, need the same edges for all series of a chart")
        if not np.allclose(np.diff(first), first[1] - first[0]):
            raise ValueError("got bins of unequal width, need equal ones: their heights show shares")
        return first
    values = np.concatenate([np.empty(0), *(np.ravel(np.asarray(values, float)) for values in series)])
    return np.histogram_bin_edges(values[np.isfinite(values)], bins, limits)


def _binned(values: ArrayLike | Counts, edges: Array) -> Binned:
    if isinstance(values, Counts):
        return Binned(np.asarray(values.counts, float))
    numbers = np.ravel(np.asarray(values, float))
    finite = numbers[np.isfinite(numbers)]
    counts = np.histogram(np.clip(finite, edges[0], edges[-1]), edges)[0].astype(float)
    return Binned(counts, numbers.size - finite.size, float(finite.mean()) if finite.size else None)


def _panel(title: str, series: Mapping[str, Binned], edges: Array, x_label: str, top: float) -> Block:
    summaries = {name: binned.summary() for name, binned in series.items()}
    drawing = None
    if any(binned.counts.any() for binned in series.values()):
        from simile.reports.drawing import draw_histogram

        bars = [(binned.shares, binned.mean) for binned in series.values()]
        of_bins = [
            [f"{name}: {share:.1%} ({int(count):,})" for share, count in zip(of.shares, of.counts, strict=True)]
            for name, of in series.items()
        ]
        notes = ["\n".join(of_bin) for of_bin in zip(*of_bins, strict=True)]
        drawing = draw_histogram(bars, edges, top, notes, _label("Histogram", title, summaries))
    return _chart(title, drawing, summaries, x_label=x_label, y_label="share per bin")


def _label(kind: str, title: str, summaries: Mapping[str, str]) -> str:
    """Return what a screen reader says of the chart."""
    return f"{kind}: {title}. " + "; ".join(f"{name}: {summary}" for name, summary in summaries.items())


def _chart(
    title: str,
    drawing: Block | None,
    summaries: Mapping[str, str] | None = None,
    *,
    x_label: str = "",
    y_label: str = "",
    remark: str = "",
) -> Block:
    legend = [
        (name, summary, f"c{index % NUM_COLOURS}", index >= NUM_COLOURS)
        for index, (name, summary) in enumerate((summaries or {}).items())
    ]
    return render("chart", title=title, drawing=drawing, legend=legend, x_label=x_label, y_label=y_label, remark=remark)
