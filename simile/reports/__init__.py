"""Figures to one self-contained HTML page: no network, no scripts, light and dark, wide and narrow; knows no stage.

Every function returns a `Block`; `page` sets blocks into a document. Text is escaped by construction.

>>> page("Report", "of 4,000 pairs", [heading("Scores"), table(["set", "AUC"], [("test", 0.91)])])
"""

from simile.reports.blocks import (
    bullets,
    callout,
    code,
    details,
    examples,
    facts,
    figure_row,
    heading,
    paragraph,
    table,
)
from simile.reports.curves import lines
from simile.reports.histogram import Counts, histogram, histogram_row
from simile.reports.markup import Block
from simile.reports.numerals import Value
from simile.reports.page import page, theme
from simile.reports.strips import bars, intervals

__all__ = [
    "Block",
    "Counts",
    "Value",
    "bars",
    "bullets",
    "callout",
    "code",
    "details",
    "examples",
    "facts",
    "figure_row",
    "heading",
    "histogram",
    "histogram_row",
    "intervals",
    "lines",
    "page",
    "paragraph",
    "table",
    "theme",
]
