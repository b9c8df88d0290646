"""Charts of one strip a row, its label before it and its figure behind: intervals and bars."""

from collections.abc import Iterable, Sequence
from itertools import chain

from simile.reports.axes import Axis, axis
from simile.reports.frame import chart, percent
from simile.reports.markup import NOTHING, Block, element
from simile.reports.numerals import Number, is_finite, shown

Interval = tuple[str, Number | None, Number | None, Number | None]


def intervals(title: str, rows: Iterable[Interval], *, zero_line: bool = True, spec: str = ".3f") -> Block:
    """Return a forest plot: a dot for each value on a line for its interval; the dot is hollow where that holds zero.

    Args:
        title: what the values are, and how wide the intervals.
        rows: label, value, low end, high end; what is None or not finite is not drawn.
        zero_line: whether zero means something: it is then marked and always on the axis.
        spec: how the numbers are formatted.
    """
    rows = list(rows)
    scale = axis(chain(chain.from_iterable(row[1:] for row in rows), [0.0] if zero_line else []))
    strips = [
        (label, _said(value, low, high, spec), _interval(value, low, high, scale=scale, has_zero=zero_line))
        for label, value, low, high in rows
    ]
    has_hollow = zero_line and any(_holds_zero(low, high) for _, _, low, high in rows)
    remark = "Hollow: the interval holds zero." if has_hollow else ""
    return _strips(title, strips, scale, has_zero=zero_line, remark=remark)


def bars(title: str, rows: Iterable[tuple[str, Number | None]], *, spec: str | None = None) -> Block:
    """Return a bar a row, from zero to its value.

    Args:
        title: what the values are.
        rows: label, value; what is None or not finite has no bar.
        spec: how the numbers are formatted.
    """
    rows = list(rows)
    scale = axis(chain((value for _, value in rows), [0.0]))
    strips = [(label, shown(value, spec), _bar(value, scale)) for label, value in rows]
    return _strips(title, strips, scale, has_zero=True)


def _interval(
    value: Number | None, low: Number | None, high: Number | None, *, scale: Axis, has_zero: bool
) -> list[Block]:
    drawing = []
    if low is not None and high is not None and is_finite(low) and is_finite(high):
        ends = {"x1": percent(scale.place(float(low))), "x2": percent(scale.place(float(high)))}
        drawing.append(element("line", **ends, y1="50%", y2="50%", class_="interval"))
    if value is not None and is_finite(value):
        colour = "value hollow" if has_zero and _holds_zero(low, high) else "value"
        drawing.append(element("circle", cx=percent(scale.place(float(value))), cy="50%", r="5", class_=colour))
    return drawing


def _holds_zero(low: Number | None, high: Number | None) -> bool:
    return low is not None and high is not None and bool(low <= 0 <= high)


def _bar(value: Number | None, scale: Axis) -> list[Block]:
    if value is None or not is_finite(value):
        return []
    zero, end = scale.place(0.0), scale.place(float(value))
    return [
        element("rect", x=percent(min(zero, end)), width=percent(abs(end - zero)), y="22%", height="56%", class_="bar")
    ]


def _said(value: Number | None, low: Number | None, high: Number | None, spec: str) -> str:
    """Return the value and its interval in figures: ``+0.021 [+0.010, +0.033]``."""
    if low is None and high is None:
        return shown(value, spec)
    return f"{shown(value, spec)} [{shown(low, spec)}, {shown(high, spec)}]"


def _strips(
    title: str, rows: Sequence[tuple[str, str, list[Block]]], scale: Axis, *, has_zero: bool, remark: str = ""
) -> Block:
    """Return the chart: rows of label, strip and figure, and under them the axis."""
    if not rows:
        return chart(title, NOTHING)
    grid = [
        element(
            "line",
            x1=percent(scale.place(tick)),
            x2=percent(scale.place(tick)),
            y1="0",
            y2="100%",
            class_="zero" if has_zero and tick == 0 else "grid",
        )
        for tick in scale.ticks
    ]
    ticks = [
        element("text", text, x=percent(scale.place(tick)), y="0", dy="1.2em", class_=f"tick x {_end(tick, scale)}")
        for tick, text in zip(scale.ticks, scale.labels(), strict=True)
    ]
    set_rows = [_row(label, said, grid + drawing) for label, said, drawing in rows]
    scale_svg = element("svg", *ticks, aria_hidden="true")
    scale_row = element("div", element("div", scale_svg, class_="strip scale"), class_="strip-row")
    strips = element("div", element("div", *set_rows, scale_row, class_="strip-rows"), class_="strips")
    return chart(title, strips, *([element("p", remark, class_="remark")] if remark else []))


def _row(label: str, said: str, drawing: list[Block]) -> Block:
    strip = element(
        "svg",
        element("title", f"{label}: {said}"),
        # So that the whole strip answers to the pointer, not its marks alone.
        element("rect", width="100%", height="100%", class_="clear"),
        *drawing,
        role="img",
        aria_label=f"{label}: {said}",
    )
    return element(
        "div",
        element("span", label, class_="strip-label"),
        element("div", strip, class_="strip"),
        element("span", said, class_="strip-figure"),
        class_="strip-row",
    )


def _end(tick: float, scale: Axis) -> str:
    return {scale.ticks[0]: "first", scale.ticks[-1]: "last"}.get(tick, "")
