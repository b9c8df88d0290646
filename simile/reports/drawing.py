"""Charts as SVG, drawn by Matplotlib. Their colours follow the page's scheme; the same numbers give the same bytes.

Matplotlib sets only numbers. Names come from users and are inserted into the finished SVG, because Matplotlib would
parse ``$`` as mathematics and warn of letters that its font lacks.
"""

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, Literal
from xml.etree import ElementTree

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.ticker import (
    EngFormatter,
    FixedLocator,
    Formatter,
    FuncFormatter,
    MaxNLocator,
    NullLocator,
    ScalarFormatter,
)
from numpy.typing import NDArray

from simile.reports.charts import NUM_COLOURS, Array
from simile.reports.markup import Block, printable
from simile.reports.numerals import shown
from simile.reports.page import theme

# In units of the SVG: pixels where the chart is shown at this width. style.css sets the size of the text.
WIDTH, HEIGHT, ROW_HEIGHT, AXIS_HEIGHT, PADDING, WIDTH_PER_CHARACTER = 480, 224, 44, 32, 16, 9.5

MAX_DOTS = 40
"""Number of points above which dots would cover their curve."""
COLOURS = {name: f"#{code}" for name, code in reversed(re.findall(r"--(\w+): #(\w{6});", theme()))}
"""Colours of the light scheme, which Matplotlib draws with; `_svg` replaces them by the names."""
_CLASSES = {"area", "bins", "curve", "dots", "hollow", "interval", "mean", "row", "value"}
"""Names that the drawing functions give to what they draw, and style.css styles."""

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "simile",
    "path.simplify": False,
    "font.family": "DejaVu Sans",  # comes with Matplotlib
    "font.size": 12,
    "axes.axisbelow": True,
    "axes.edgecolor": COLOURS["muted"],
    **{f"axes.spines.{side}": False for side in ("left", "right", "top")},
    "axes.grid": True,
    "axes.formatter.useoffset": False,
    "axes.formatter.limits": (-4, 6),
    "grid.color": COLOURS["grid"],
    "grid.linewidth": 1,
    **{f"{axis}tick.major.size": 0 for axis in "xy"},
    # On a phone, the text grows upwards from its base line, towards the axis.
    "xtick.major.pad": 12,
    "ytick.major.pad": 8,
}


@contextmanager
def _style() -> Iterator[None]:
    """Draw with our settings, whatever the user's own matplotlibrc says."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        yield


@_style()
def draw_curves(series: Mapping[str, Array], label: str, *, log_x: bool = False) -> Block:
    """Return a curve per series of points, with gaps at NaN; long curves have dots only at points that stand alone.

    With ``log_x``, the x-axis is logarithmic, with a tick at each point.
    """
    axes, notes = _axes(), []
    for index, (name, points) in enumerate(series.items()):
        colour, style = _look(index)
        is_drawn = np.isfinite(points[:, 0])
        is_joined = np.zeros_like(is_drawn)
        is_joined[1:] |= is_drawn[:-1]
        is_joined[:-1] |= is_drawn[1:]
        dots = np.flatnonzero(is_drawn if is_drawn.sum() <= MAX_DOTS else is_drawn & ~is_joined)
        axes.plot(*points.T, color=colour, linestyle=style, linewidth=1.75, gid="curve")
        axes.plot(*points[dots].T, "o", color=colour, markeredgecolor=COLOURS["ground"], gid="dots")
        notes += [f"{name}\n{shown(x, '.6g')}: {shown(y, '.4g')}" for x, y in points[dots].tolist()]
    drawn = np.concatenate(list(series.values()))
    _set_axis(axes, "x", drawn[:, 0])
    if log_x:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(FixedLocator(np.unique(drawn[np.isfinite(drawn[:, 0]), 0]).tolist()))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.autoscale(axis="x")
        axes.margins(x=0.02)
    _set_axis(axes, "y", drawn[:, 1], ends_at_ticks=True)
    return _svg(axes, label, notes)


@_style()
def draw_histogram(
    series: Sequence[tuple[Array, float | None]], edges: Array, top: float, notes: Sequence[str], label: str
) -> Block:
    """Return the outline of each series of shares, and its mean as a dashed line; bins without values stay bare.

    ``top`` is the largest share of all charts that this one is compared with; under the pointer, a bin says its note.
    """
    axes = _axes()
    for index, (shares, mean) in enumerate(series):
        if not shares.any():
            continue
        colour, style = _look(index)
        look: dict[str, Any] = {"facecolor": (colour, 0.2), "edgecolor": colour, "linestyle": style}
        axes.stairs(np.where(shares > 0, shares, np.nan), edges, fill=True, linewidth=1.25, **look, gid="area")
        if mean is not None:
            # Where means coincide, the dashes of one fill the gaps of the other.
            dashes = (3.5 * index, (4, 3))
            axes.axvline(np.clip(mean, edges[0], edges[-1]), color=colour, linestyle=dashes, gid="mean")
    bins = list(pairwise(edges.tolist()))
    _set_axis(axes, "x", edges)
    top = _set_axis(
        axes, "y", np.array([0, top]), ends_at_ticks=True, formatter=FuncFormatter(lambda share, _: f"{100 * share:g}%")
    )
    columns = [[(low, 0), (low, top), (high, top), (high, 0)] for low, high in bins]
    axes.add_collection(PolyCollection(columns, facecolors="none", edgecolors="none", gid="bins"), autolim=False)
    ends = [f"{shown(low, '.4g')} to {shown(high, '.4g')}" for low, high in bins]
    return _svg(axes, label, [f"{of_bin}\n{note}" for of_bin, note in zip(ends, notes, strict=True)])


@_style()
def draw_intervals(rows: Sequence[tuple[str, str]], numbers: Array, has_zero: NDArray[np.bool_], label: str) -> Block:
    """Return a forest plot: per row, its name and figures as text, below them dot and line from value, low and high."""
    axes = _axes(ROW_HEIGHT * len(rows) + AXIS_HEIGHT, grid="x")
    _set_axis(axes, "x", np.append(numbers, 0.0), ends_at_ticks=True)
    axes.set(ylim=(len(rows), 0), yticks=[])
    axes.axvline(0, color=COLOURS["muted"], linewidth=1)
    for index, ((value, *ends), is_hollow) in enumerate(zip(numbers.tolist(), has_zero.tolist(), strict=True)):
        if np.isfinite(ends).all():
            axes.plot(ends, [index + 0.7] * 2, color=COLOURS["c0"], linewidth=2, gid="interval")
        if np.isfinite(value):
            (dot,) = axes.plot([value], [index + 0.7], "o", color=COLOURS["c0"], markersize=9, markeredgewidth=2)
            dot.set(markerfacecolor=COLOURS["ground" if is_hollow else "c0"], gid="hollow" if is_hollow else "value")
        for x, side in ((0.0, "left"), (1.0, "right")):
            axes.text(x, index + 0.36, "-", ha=side, transform=axes.get_yaxis_transform(), gid="row")
    return _svg(axes, label, texts=[text for row in rows for text in row])


def _axes(height: int = HEIGHT, grid: str = "y") -> Axes:
    axes = Figure((WIDTH / 72, height / 72), dpi=72, frameon=False).add_axes(
        (PADDING / WIDTH, AXIS_HEIGHT / height, 1 - 2 * PADDING / WIDTH, 1 - (AXIS_HEIGHT + PADDING) / height)
    )
    axes.grid(visible=False, axis="x" if grid == "y" else "y")
    axes.patch.set_visible(False)
    return axes


def _look(index: int) -> tuple[str, str]:
    """Return the colour and line style of a series; the colours repeat after the last one, with dashed lines."""
    return COLOURS[f"c{index % NUM_COLOURS}"], "-" if index < NUM_COLOURS else "--"


def _set_axis(
    axes: Axes,
    side: Literal["x", "y"],
    values: Array,
    *,
    ends_at_ticks: bool = False,
    formatter: Formatter | None = None,
) -> float:
    """Set the range of an axis to that of the finite values, with ticks at round numbers; return its upper end."""
    axis = axes.xaxis if side == "x" else axes.yaxis
    values = values[np.isfinite(values)]
    low, high = float(values.min()), float(values.max())
    # Whole numbers, such as epochs, have no ticks between them.
    is_whole = low < high and bool((values == values.round()).all())
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        margin = 0.1 * abs(low) or 0.5
        low, high = low - margin, high + margin
    ticks = np.asarray(MaxNLocator(6, steps=[1, 2, 5, 10], integer=is_whole).tick_values(low, high))
    if ends_at_ticks:
        low, high = ticks[0], ticks[-1]
    axis.set_major_locator(FixedLocator(ticks.tolist()))
    axis.set_major_formatter(formatter or (EngFormatter(sep="") if abs(ticks).max() >= 10_000 else ScalarFormatter()))
    axes.set(**{f"{side}lim": (low, high)})
    if side == "y":
        longest = max(map(len, axis.get_major_formatter().format_ticks(ticks.tolist())))
        left = (PADDING + WIDTH_PER_CHARACTER * longest) / WIDTH
        _, bottom, _, height = axes.get_position().bounds
        axes.set_position((left, bottom, 1 - PADDING / WIDTH - left, height))
    return float(high)


def _svg(axes: Axes, label: str, notes: Sequence[str] = (), texts: Sequence[str] = ()) -> Block:
    """Return the chart with a label for screen readers, notes under dots and bins, and texts for the placeholders."""
    out = io.StringIO()
    metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    FigureCanvasSVG(axes.get_figure(root=True)).print_figure(out, format="svg", metadata=metadata)
    source = out.getvalue().replace(' xmlns="http://www.w3.org/2000/svg"', "")
    for name, colour in COLOURS.items():
        source = source.replace(colour, f"var(--{name})")
    root = ElementTree.fromstring(source)
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in ("defs", "metadata"):
                parent.remove(child)
    for element in root.iter():
        _clean(element)
    marks = [*root.iterfind(".//g[@class='dots']//circle"), *root.iterfind(".//g[@class='bins']/path")]
    for mark, note in zip(marks, notes, strict=True):
        ElementTree.SubElement(mark, "title").text = printable(note)
    for placeholder, text in zip(root.iterfind(".//g[@class='row']/text"), texts, strict=True):
        placeholder.text = printable(text)
    root.attrib = {"viewBox": root.attrib["viewBox"], "role": "img", "aria-label": printable(label)}
    return Block(ElementTree.tostring(root, encoding="unicode"))


def _clean(element: ElementTree.Element) -> None:
    """Drop what would leave the chart (identifiers, references, fonts), and round the coordinates."""
    attributes = element.attrib
    name = attributes.pop("id", "")
    if element.tag == "g" and name in _CLASSES:
        attributes["class"] = name
    for key in ("clip-path", "transform", "version", "{http://www.w3.org/1999/xlink}href"):
        attributes.pop(key, None)
    for key in attributes.keys() & {"d", "x", "y"}:
        value = " ".join(attributes[key].split())
        attributes[key] = re.sub(r"-?\d+\.\d+", lambda number: f"{float(number[0]):.2f}", value)
    if element.tag == "use":
        element.tag = "circle"
        attributes |= {"cx": attributes.pop("x"), "cy": attributes.pop("y"), "r": "3.5"}
    if element.tag == "text":
        # The page sets the font.
        attributes["style"] = re.sub(r"font[^;]*; ?", "", attributes["style"])
