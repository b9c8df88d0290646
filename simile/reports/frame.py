"""The frame of a chart: title, legend, plot with axes. The plot is as wide as it may be, its text keeps its size.

Places in the plot are percentages, so that text and dots are not scaled with it; only curves live in a stretched
coordinate system, whose strokes do not scale.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from simile.reports.axes import Axis
from simile.reports.markup import NOTHING, Block, element

NUM_COLOURS = 5  # as many as style.css names

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Scales:
    """The two axes of a plot, and how they read."""

    x: Axis
    y: Axis
    x_label: str = ""
    y_label: str = ""
    y_is_percent: bool = False


def series_class(index: int) -> str:
    """Return the class that colours the series; past the last colour they come again, with dashes."""
    return f"s{index % NUM_COLOURS}" + (" dashed" if index >= NUM_COLOURS else "")


def percent(place: float) -> str:
    """Return the place, or the length, as an attribute of a drawing."""
    return f"{place + 0.0:.2f}%"


def legend(entries: Iterable[tuple[str, str]]) -> Block:
    """Return the legend of the series, in their order: name and a remark each."""
    return element(
        "ul",
        *(
            element(
                "li",
                element("span", class_=f"swatch {series_class(index)}", aria_hidden="true"),
                name,
                " ",
                element("span", remark, class_="muted"),
            )
            for index, (name, remark) in enumerate(entries)
        ),
        class_="legend",
    )


def chart(title: str, *parts: Block) -> Block:
    """Return the figure: its title, then its parts."""
    return element("figure", element("figcaption", title), *parts, class_="chart")


def plot(scales: Scales, drawing: Sequence[Block], *, label: str) -> Block:
    """Return the plot: the drawing over its grid, within its axes; where nothing is drawn, a word that says so."""
    if not drawing:
        return NOTHING
    y_labels = scales.y.labels(is_percent=scales.y_is_percent)
    x_ticks = [
        (percent(scales.x.place(tick)), text) for tick, text in zip(scales.x.ticks, scales.x.labels(), strict=True)
    ]
    y_ticks = [(percent(100 - scales.y.place(tick)), text) for tick, text in zip(scales.y.ticks, y_labels, strict=True)]
    svg = element(
        "svg",
        *(element("line", x1="0", x2="100%", y1=y, y2=y, class_="grid") for y, _ in y_ticks),
        *(element("text", text, x="0", y=y, dx="-8", dy="0.32em", class_="tick y") for y, text in y_ticks),
        *(element("line", x1=x, x2=x, y1="100%", y2="100%", class_="notch") for x, _ in x_ticks),
        *(element("text", text, x=x, y="100%", dy="1.5em", class_="tick x") for x, text in x_ticks),
        element("line", x1="0", x2="100%", y1="100%", y2="100%", class_="baseline"),
        *drawing,
        role="img",
        aria_label=label,
    )
    gutter = max(map(len, y_labels), default=1)
    return element(
        "div",
        element("div", f"\N{UPWARDS ARROW} {scales.y_label}", class_="y-label") if scales.y_label else "",
        element("div", svg, class_="plot", style=f"--gutter:{gutter}ch"),
        element("div", f"{scales.x_label} \N{RIGHTWARDS ARROW}", class_="x-label") if scales.x_label else "",
        class_="framed",
    )


def stretched(*curves: Block) -> Block:
    """Return the curves, drawn in percent of the plot's width and height, over the whole plot."""
    return element(
        "svg", *curves, viewBox="0 0 100 100", preserveAspectRatio="none", width="100%", height="100%", class_="curves"
    )


def path(points: Iterable[Point], scales: Scales) -> str:
    """Return the path data of straight lines from point to point, in percent of the plot."""
    places = [f"{scales.x.place(x):.2f},{100 - scales.y.place(y):.2f}" for x, y in points]
    return "M" + "L".join(places)
