"""What a report is made of besides charts: prose, callouts, tables, facts, pairs to read, and ways to group them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from simile.reports.markup import NOTHING, Block, element
from simile.reports.numerals import Value, is_number, shown

Kind = Literal["good", "bad", "note"]

_MARKS: dict[Kind, tuple[str, str]] = {
    "good": ("\N{CHECK MARK}", "Good: "),
    "bad": ("\N{MULTIPLICATION X}", "Bad: "),
    "note": ("i", "Note: "),
}


def heading(text: str, level: Literal[2, 3] = 2) -> Block:
    """Return a section's heading, or with level 3 a subsection's."""
    return element(f"h{level}", text)


def paragraph(text: str) -> Block:
    """Return a paragraph of prose."""
    return element("p", text)


def bullets(items: Iterable[str]) -> Block:
    """Return a list of short texts."""
    return element("ul", *(element("li", item) for item in items))


def code(text: str) -> Block:
    """Return text set as it is, line by line: a command, a configuration, a log."""
    return element("pre", element("code", text), tabindex=0)


def callout(kind: Kind, text: str, *, title: str = "") -> Block:
    """Return a box that catches the eye: a verdict, a warning, a remark."""
    mark, meaning = _MARKS[kind]
    return element(
        "div",
        element("span", mark, class_="mark", aria_hidden="true"),
        element(
            "div",
            element("span", meaning, class_="unseen"),
            *([element("strong", title)] if title else []),
            element("p", text),
        ),
        class_=f"callout {kind}",
        role="note",
    )


def facts(figures: Mapping[str, Value], *, formats: Mapping[str, str] | None = None) -> Block:
    """Return a strip of key figures, each large above its name.

    Args:
        figures: value by name.
        formats: format spec by name.

    Raises:
        ValueError: a format for a name that is not among the figures.
    """
    formats = _known(formats, figures)
    return element(
        "dl",
        *(
            element("div", element("dt", name), element("dd", shown(value, formats.get(name))))
            for name, value in figures.items()
        ),
        class_="facts",
    )


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[Value]],
    *,
    caption: str | None = None,
    formats: Mapping[str, str] | None = None,
) -> Block:
    """Return a table; a column that holds numbers alone is set to the right, and scrolls sideways if it must.

    Args:
        columns: the header.
        rows: one value a column each; None and NaN are set as a dash.
        caption: what the table shows.
        formats: format spec by column, such as ``+.3f`` or ``.1%``.

    Raises:
        ValueError: a row of another length than the header, or a format for a column that is not there.
    """
    formats = _known(formats, columns)
    rows = [tuple(row) for row in rows]
    for row in rows:
        if len(row) != len(columns):
            raise ValueError(f"got a row of {len(row)} cells, need {len(columns)}: {row!r}")
    specs = [formats.get(name) for name in columns]
    sides = [_side([row[index] for row in rows]) for index in range(len(columns))]
    header = [element("th", name, scope="col", class_=side) for name, side in zip(columns, sides, strict=True)]
    cells = [
        [element("td", shown(value, spec), class_=side) for value, spec, side in zip(row, specs, sides, strict=True)]
        for row in rows
    ] or [[element("td", "None.", colspan=len(columns), class_="empty")]]
    set_table = element(
        "table",
        *([element("caption", caption)] if caption else []),
        element("thead", element("tr", *header)),
        element("tbody", *(element("tr", *row) for row in cells)),
    )
    return element("div", set_table, class_="table", tabindex=0)


def examples(
    title: str,
    rows: Iterable[tuple[str, str, Mapping[str, Value]]],
    *,
    formats: Mapping[str, str] | None = None,
) -> Block:
    """Return pairs to read: the two texts side by side, and under them the figures of the pair.

    Args:
        title: what the pairs have in common.
        rows: text a, text b, figures by name.
        formats: format spec by a figure's name.
    """
    formats = formats or {}
    items = [
        element(
            "li",
            element("div", text_a, class_="text", dir="auto"),
            element("div", text_b, class_="text", dir="auto"),
            element(
                "div",
                *(
                    element("span", f"{name} ", element("b", shown(value, formats.get(name))), class_="badge")
                    for name, value in figures.items()
                ),
                class_="badges",
            ),
        )
        for text_a, text_b, figures in rows
    ]
    listed = element("ol", *items) if items else NOTHING
    return element("figure", element("figcaption", title), listed, class_="examples")


def details(summary: str, blocks: Iterable[Block], *, is_open: bool = False) -> Block:
    """Return blocks that show when the summary is clicked, or at once if open."""
    return element(
        "details",
        element("summary", summary),
        element("div", *blocks),
        open="open" if is_open else None,
    )


def figure_row(*blocks: Block) -> Block:
    """Return the blocks side by side on a wide screen and below one another on a narrow one."""
    return element("div", *blocks, class_="figure-row")


def _known(formats: Mapping[str, str] | None, names: Iterable[str]) -> Mapping[str, str]:
    unknown = sorted(set(formats or ()) - set(names))
    if unknown:
        raise ValueError(f"got a format for {', '.join(unknown)}, need one of {', '.join(names)}")
    return formats or {}


def _side(values: Sequence[Value]) -> str | None:
    """Return the class that sets a column to the right, for one with numbers and nothing but numbers and gaps."""
    present = [value for value in values if value is not None]
    return "number" if present and all(is_number(value) for value in present) else None
