"""Prose, callouts, tables, key figures, example pairs, and ways to group blocks."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from simile.reports.markup import Block, render
from simile.reports.numerals import Value, is_number, shown

Kind = Literal["good", "bad", "note"]

_MARKS: dict[Kind, str] = {"good": "\N{CHECK MARK}", "bad": "\N{MULTIPLICATION X}", "note": "i"}


def heading(text: str, level: Literal[2, 3] = 2) -> Block:
    """Return the heading of a section or, with level 3, of a subsection."""
    return render("heading", text=text, level=level)


def paragraph(text: str) -> Block:
    """Return a paragraph of prose."""
    return render("paragraph", text=text)


def callout(kind: Kind, text: str, *, title: str = "") -> Block:
    """Return a highlighted box: a verdict, a warning, a remark."""
    return render("callout", kind=kind, mark=_MARKS[kind], text=text, title=title)


def facts(figures: Mapping[str, Value]) -> Block:
    """Return a strip of key figures, each in large type above its name."""
    return render("facts", figures=_shown(figures))


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[Value]],
    *,
    caption: str | None = None,
    formats: Mapping[str, str] | None = None,
) -> Block:
    """Return a table that scrolls sideways where it is too wide; columns of numbers are right-aligned.

    Args:
        columns: the header.
        rows: one value per column; None and NaN become a dash.
        caption: what the table shows.
        formats: format spec by column, such as ``+.3f`` or ``.1%``.

    Raises:
        ValueError: a row has another length than the header, or a format names no column.
    """
    formats = formats or {}
    if unknown := sorted(formats.keys() - set(columns)):
        raise ValueError(f"got a format for {', '.join(unknown)}, need one of {', '.join(columns)}")
    rows = [tuple(row) for row in rows]
    for row in rows:
        if len(row) != len(columns):
            raise ValueError(f"got a row of {len(row)} cells, need {len(columns)}: {row!r}")
    header = [(name, _is_numeric([row[index] for row in rows])) for index, name in enumerate(columns)]
    cells = [
        [(shown(value, formats.get(name)), is_numeric) for value, (name, is_numeric) in zip(row, header, strict=True)]
        for row in rows
    ]
    return render("table", header=header, rows=cells, caption=caption)


def examples(title: str, rows: Iterable[tuple[str, str, Mapping[str, Value]]]) -> Block:
    """Return pairs to read: text a and text b side by side, and the pair's figures by name below them."""
    shown_rows = [(text_a, text_b, _shown(figures)) for text_a, text_b, figures in rows]
    return render("examples", title=title, rows=shown_rows)


def details(summary: str, blocks: Iterable[Block]) -> Block:
    """Return blocks that stay hidden until the summary is clicked."""
    return render("details", summary=summary, blocks=blocks)


def figure_row(*blocks: Block) -> Block:
    """Return the blocks side by side on a wide screen and stacked on a narrow one."""
    return render("figure_row", blocks=blocks)


def _shown(figures: Mapping[str, Value]) -> dict[str, str]:
    return {name: shown(value) for name, value in figures.items()}


def _is_numeric(values: Sequence[Value]) -> bool:
    """Return whether a column holds a number, and nothing but numbers and gaps."""
    present = [value for value in values if value is not None]
    return bool(present) and all(map(is_number, present))
