"""Draws the dashboard: its own expressions, asked of a Prometheus that watches a real service and a real training.

python -m tests.monitoring.picture docs/images/dashboard.png

The service is loaded by six clients on this machine and serves the tests' tiny bundle; the training is of MiniLM on
pairs of the sample corpus. Panels that only a cluster feeds are left out.
"""

import math
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from simile.reports import Block, figure_row, heading, lines, page, table
from tests.browsers import launched
from tests.monitoring.stack import DASHBOARD, ROOT, Prometheus, Stack, environment, filled, loaded, running
from tests.tiny_ensembles import Ensemble

POINTS = 120
SIMILE = [sys.executable, "-m", "pipeline.cli"]
UNITS = {
    "percentunit": ("%", 100),
    "s": ("s", 1),
    "bytes": ("MB", 1e-6),
    "reqps": ("per second", 1),
    "cps": ("per second", 1),
}
DENSE = """
  html { font-size: 11.5px; } body { max-width: none; padding: 1rem 1.5rem; }
  header, h2 { margin: 0 0 0.3rem; padding: 0; border: 0; } h2 { font-size: 1.05rem; color: var(--muted); }
  main { display: grid; grid-template-columns: 1fr 1fr; gap: 1rem 3rem; }
  main > .figure-row { display: block; margin: 0; }
  .figure-row .figure-row { grid-template-columns: repeat(3, 1fr); gap: 0.6rem 1.2rem; margin: 0; }
  .table { margin: 0; } th, td { padding-right: 0.7rem; } td:first-child { min-width: 0; }
"""


def main(out: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundle = Ensemble(folder).write()
        documents = ROOT / "examples" / "helpdesk" / "documents.jsonl"
        subprocess.run([*SIMILE, "mine", documents, "--pairs", "400", "--out", folder / "mined"], cwd=ROOT, check=True)
        with running(bundle.path, folder) as stack:
            start = time.time()
            with loaded(stack.service):
                train(stack, folder)
                time.sleep(2)
            blocks = list(drawn(stack.prometheus, start, time.time()))
        title, words = (
            DASHBOARD["title"],
            "The panels of the dashboard that a service and a training fill on one machine.",
        )
        screenshot(page(title, words, blocks).replace("</style>", f"{DENSE}</style>"), out)


def train(stack: Stack, folder: Path) -> None:
    """Run a training that reports to the Pushgateway."""
    mined = folder / "mined"
    files = ["--pairs", mined / "pairs.jsonl", "--dev", mined / "dev-seen.jsonl"]
    less = ["--set", "epochs=3", "--set", "min_base_agreement=0"]
    command = [*SIMILE, "train", "minilm", *files, "--out", folder / "tuned", *less]
    subprocess.run(command, cwd=ROOT, env=environment(stack), check=True)


def drawn(prometheus: Prometheus, start: float, end: float) -> Iterator[Block]:
    """Yield the rows of the dashboard, each with its panels that have data."""
    row: list[Block] = []
    title = ""
    for panel in [*DASHBOARD["panels"], {"type": "row", "title": ""}]:
        if panel["type"] != "row":
            draw = _table if panel["type"] == "table" else _chart
            row += [block for block in [draw(prometheus, panel, start, end)] if block]
        else:
            if row:
                yield figure_row(heading(title), figure_row(*row))
            title, row = panel["title"], []


def _table(prometheus: Prometheus, panel: Mapping[str, Any], _start: float, _end: float) -> Block:
    labels_of_series = [of["metric"] for target in panel["targets"] for of in prometheus.values(filled(target["expr"]))]
    columns = sorted({name for labels in labels_of_series for name in labels if name not in ("__name__", "instance")})
    rows = [[labels.get(name, "")[:18] for name in columns] for labels in labels_of_series]
    return table(columns, rows, caption=panel["title"])


def _chart(prometheus: Prometheus, panel: Mapping[str, Any], start: float, end: float) -> Block | None:
    unit, scale = UNITS.get(panel["fieldConfig"]["defaults"]["unit"], ("", 1))
    series = {}
    for target in panel["targets"]:
        query = {"query": filled(target["expr"]), "start": start, "end": end, "step": (end - start) / POINTS}
        for series_values in prometheus.ask("query_range", **query)["result"]:
            points = [((at - start) / 60, scale * float(value)) for at, value in series_values["values"]]
            if any(math.isfinite(y) for _, y in points):
                series[_legend(target["legendFormat"], series_values["metric"])] = points
    return lines(panel["title"], series, x_label="min", y_label=unit) if series else None


def _legend(form: str, labels: Mapping[str, str]) -> str:
    return re.sub(r"\{\{(\w+)\}\}", lambda name: labels.get(name[1], ""), form)


def screenshot(html: str, out: Path) -> None:
    with launched() as browser:
        shown = browser.new_page(viewport={"width": 1320, "height": 800}, color_scheme="light")
        shown.set_content(html)
        shown.screenshot(path=out, full_page=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
