"""Self-contained HTML reports: no network, no scripts, light and dark, wide and narrow.

Every function returns a `Block`; `page` puts blocks into a document. All text is escaped. Jinja and Matplotlib are
imported when the first block and the first chart are made.

>>> page("Report", "4,000 pairs", [heading("Scores"), table(["set", "AUC"], [("test", 0.91)])])
"""

from simile.reports.blocks import callout, details, examples, facts, figure_row, heading, paragraph, table
from simile.reports.charts import Counts, histogram_row, intervals, lines
from simile.reports.markup import Block
from simile.reports.numerals import Value
from simile.reports.page import page, theme
