"""A page with every block, for the claims that hold for all of them."""

from xml.etree import ElementTree

import pytest

from simile import reports
from simile.reports import Block


def every_block(text: str) -> list[Block]:
    """Return each kind of block, with the text in each place that takes one."""
    values = [0.1, 0.4, 0.4, 0.9]
    return [
        reports.heading(text),
        reports.heading(text, 3),
        reports.paragraph(text),
        reports.callout("good", text, title=text),
        reports.callout("bad", text),
        reports.callout("note", text),
        reports.facts({text: text}),
        reports.table([text, "n"], [(text, 1), (None, 2.5)], caption=text),
        reports.table([text], []),
        reports.histogram_row(
            {text: {text: values, "counts": reports.Counts([0.1, 0.5, 0.9], [3, 1])}, "other": {text: []}}, x_label=text
        ),
        reports.intervals(text, [(text, 0.1, -0.1, 0.3), (text + "2", None, None, None)]),
        reports.lines(text, {text: [(0, 1.0), (1, 2.0), (2, None), (3, 1.5)]}, x_label=text, y_label=text),
        reports.examples(text, [(text, text, {text: text, "score": 0.5})]),
        reports.details(text, [reports.paragraph(text)]),
        reports.figure_row(reports.paragraph(text), reports.paragraph(text)),
    ]


@pytest.fixture
def blocks():
    return every_block


@pytest.fixture
def parse():
    def parsed(markup: Block | str) -> ElementTree.Element:
        text = markup.markup if isinstance(markup, Block) else markup.removeprefix("<!DOCTYPE html>\n")
        return ElementTree.fromstring(text)

    return parsed


@pytest.fixture
def marks():
    """Returns what a chart draws in the groups of a class."""

    def drawn(figure: ElementTree.Element, name: str) -> list[ElementTree.Element]:
        groups = [group for group in figure.iter("g") if group.get("class") == name]
        return [mark for group in groups for mark in group.iter() if mark.tag in ("path", "circle", "text")]

    return drawn


@pytest.fixture
def ticks():
    """Returns the labels of the ticks of a chart."""

    def labels(figure: ElementTree.Element) -> list[str]:
        rows = {id(text) for group in figure.iter("g") if group.get("class") == "row" for text in group.iter("text")}
        return [text.text for text in figure.iter("text") if id(text) not in rows]

    return labels
