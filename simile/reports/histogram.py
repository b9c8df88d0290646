"""Histograms laid over one another: where the values of each series lie, as shares that can be compared."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simile.reports.axes import Axis, axis, nice_ticks
from simile.reports.blocks import figure_row
from simile.reports.frame import Scales, chart, legend, path, percent, plot, series_class, stretched
from simile.reports.markup import Block, element
from simile.reports.numerals import counted, shown

Array: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Counts:
    """Values that are counted already: how many lie in each bin, and the edges of the bins, one more of them."""

    edges: ArrayLike
    counts: ArrayLike

    def __post_init__(self) -> None:
        """Refuse what is not one row of counts between one more edges."""
        edges, counts = np.shape(self.edges), np.shape(self.counts)
        if len(counts) != 1 or counts[0] < 1 or edges != (counts[0] + 1,):
            raise ValueError(f"got counts of shape {counts}, edges of shape {edges}; need a bin or more, an edge more")


Series: TypeAlias = Mapping[str, ArrayLike | Counts]


@dataclass(frozen=True, slots=True)
class Binned:
    """A series over the bins of its chart: counts, the number of values that are not finite, the mean if known."""

    counts: Array
    num_left_out: int
    mean: float | None

    @property
    def shares(self) -> Array:
        """The share of the series in each bin: sums to 1, or all 0 for an empty series."""
        return self.counts / (float(self.counts.sum()) or 1.0)

    def remark(self) -> str:
        """Return what the legend says of the series: how many values, their mean, how many are left out."""
        parts = [counted(int(self.counts.sum()), "value")]
        if self.mean is not None:
            parts.append(f"mean {shown(self.mean)}")
        if self.num_left_out:
            parts.append(f"{self.num_left_out:,} not finite")
        return ", ".join(parts)


def histogram(
    title: str, series: Series, *, x_label: str = "", bins: int = 50, limits: tuple[float, float] | None = None
) -> Block:
    """Return one chart with the histogram of each series, as shares of its values.

    A dashed line marks each mean. Values that are not finite are left out and counted in the legend.

    Args:
        title: what the chart shows.
        series: values, or counts, by name.
        x_label: what the values are.
        bins: number of bins.
        limits: ends of the first and the last bin, which also take what lies beyond; else the least and the greatest
            value. Where there are counts, their edges stand in place of bins and limits.

    Raises:
        ValueError: counts with other edges than the chart's other counts, or with bins of unequal width; limits that
            do not rise; no bins.
    """
    edges = _edges(series.values(), bins, limits)
    binned = {name: _binned(values, edges) for name, values in series.items()}
    return _panel(title, binned, edges, x_label=x_label, top=_top(binned))


def histogram_row(
    panels: Mapping[str, Series], *, x_label: str = "", bins: int = 50, limits: tuple[float, float] | None = None
) -> Block:
    """Return a chart a panel, side by side, over the same bins and to the same height, so that they compare."""
    edges = _edges([values for series in panels.values() for values in series.values()], bins, limits)
    binned = {
        title: {name: _binned(values, edges) for name, values in series.items()} for title, series in panels.items()
    }
    top = max(map(_top, binned.values()), default=1.0)
    return figure_row(*(_panel(title, series, edges, x_label=x_label, top=top) for title, series in binned.items()))


def _edges(series: Iterable[ArrayLike | Counts], bins: int, limits: tuple[float, float] | None) -> Array:
    series = list(series)
    counted_edges = [np.asarray(values.edges, float) for values in series if isinstance(values, Counts)]
    if counted_edges:
        first, *others = counted_edges
        if any(not np.array_equal(first, other) for other in others):
            raise ValueError("got counts over different edges, need the same edges for all series of a chart")
        if not np.allclose(np.diff(first), first[1] - first[0]):
            raise ValueError("got bins of unequal width, need equal ones: their heights show shares")
        return first
    if limits is None:
        values = np.concatenate([np.empty(0), *(np.ravel(np.asarray(values, float)) for values in series)])
        finite = values[np.isfinite(values)]
        around = axis([finite.min(), finite.max()] if finite.size else [], snaps=False)
        limits = (around.low, around.high)
    if not limits[0] < limits[1] or bins < 1:
        raise ValueError(f"got {bins} bins from {limits[0]} to {limits[1]}, need one or more, from low to high")
    return np.linspace(*limits, bins + 1)


def _binned(values: ArrayLike | Counts, edges: Array) -> Binned:
    if isinstance(values, Counts):
        return Binned(np.asarray(values.counts, float), 0, None)
    number = np.ravel(np.asarray(values, float))
    finite = number[np.isfinite(number)]
    counts = np.histogram(np.clip(finite, edges[0], edges[-1]), edges)[0].astype(float)
    return Binned(counts, number.size - finite.size, float(finite.mean()) if finite.size else None)


def _top(binned: Mapping[str, Binned]) -> float:
    return max((float(series.shares.max(initial=0)) for series in binned.values()), default=0.0) or 1.0


def _panel(title: str, binned: Mapping[str, Binned], edges: Array, *, x_label: str, top: float) -> Block:
    low, high = float(edges[0]), float(edges[-1])
    scales = Scales(
        Axis(low, high, nice_ticks(low, high)),
        axis([0, top]),
        x_label=x_label,
        y_label="share per bin",
        y_is_percent=True,
    )
    remarks = [(name, series.remark()) for name, series in binned.items()]
    full = [(index, series) for index, series in enumerate(binned.values()) if series.counts.any()]
    drawing = [
        stretched(*(_outline(series, edges, scales, series_class(index)) for index, series in full)),
        *(_mean(series.mean, scales, series_class(index)) for index, series in full if series.mean is not None),
        *_hits(binned, edges, scales),
    ]
    label = f"Histogram: {title}. " + "; ".join(f"{name}: {remark}" for name, remark in remarks)
    return chart(title, legend(remarks), plot(scales, drawing if full else [], label=label))


def _outline(series: Binned, edges: Array, scales: Scales, colour: str) -> Block:
    """Return the steps over the bins that hold something; the others stay bare."""
    runs = [list(run) for is_full, run in groupby(range(len(edges) - 1), lambda bin: series.counts[bin] > 0) if is_full]
    outline = ""
    for run in runs:
        tops = [(float(edges[end]), float(series.shares[bin])) for bin in run for end in (bin, bin + 1)]
        outline += path([(tops[0][0], 0.0), *tops, (tops[-1][0], 0.0)], scales)
    return element("path", d=outline, class_=f"area {colour}")


def _mean(mean: float, scales: Scales, colour: str) -> Block:
    x = percent(min(100.0, max(0.0, scales.x.place(mean))))
    return element("line", x1=x, x2=x, y1="0", y2="100%", class_=f"mean {colour}")


def _hits(binned: Mapping[str, Binned], edges: Array, scales: Scales) -> list[Block]:
    """Return one clear column a bin; under the pointer it says what each series has there."""
    width = percent(100 / (len(edges) - 1))
    hits = []
    for index, (low, high) in enumerate(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)):
        said = [
            f"{name}: {series.shares[index]:.1%} ({int(series.counts[index]):,})" for name, series in binned.items()
        ]
        title = element("title", "\n".join([f"{shown(low, '.4g')} to {shown(high, '.4g')}", *said]))
        hits.append(
            element("rect", title, x=percent(scales.x.place(low)), y="0", width=width, height="100%", class_="hit")
        )
    return hits
