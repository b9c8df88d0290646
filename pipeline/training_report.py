"""A training as a part of a page: losses over the steps, dev figures over the epochs, dev scores before and after."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from simile.artifacts import work_folder
from simile.reports import Block, Counts, callout, figure_row, heading, histogram_row, lines, paragraph
from simile.scoring.metrics import EDGES

_MOST_POINTS = 200
_Entries = Sequence[Mapping[str, Any]]


def training_blocks(bundle: Path, title: str = "Training") -> list[Block]:
    """Return what the work folder beside the bundle tells of its training; nothing where there is none."""
    folder = work_folder(bundle.resolve())
    history, losses, frontier = (_read(folder / f"{name}.json") for name in ("history", "losses", "frontier"))
    blocks = []
    if losses:
        blocks.append(_losses(losses))
    if history and history[0]["dev"]:
        blocks += [figure_row(*_curves(history)), *_histograms(history, frontier)]
    if frontier:
        blocks += _frontier(frontier)
    return [heading(title), *blocks] if blocks else []


def _read(file: Path) -> _Entries:
    return list(json.loads(file.read_bytes())) if file.is_file() else []


def _losses(losses: _Entries) -> Block:
    # A single part is the whole.
    parts = [name for name in losses[0] if name not in ("step", "total")]
    names = ["total", *parts] if len(parts) > 1 else ["total"]
    stretches = np.array_split(np.arange(len(losses)), min(len(losses), _MOST_POINTS))
    series = {
        name: [(losses[at[-1]]["step"], float(np.mean([losses[i][name] for i in at]))) for at in stretches]
        for name in names
    }
    return lines(
        "Loss over the steps, each point the mean since the one before", series, x_label="step", y_label="loss"
    )


def _curves(history: _Entries) -> list[Block]:
    """Return a chart for each figure that some dev set has."""
    return [
        lines(f"{label} by epoch (0: the base encoder)", series, x_label="epoch", y_label=label)
        for name, label in (("spearman", "Spearman"), ("separability", "Separability"))
        if (
            series := {
                of_set: [(entry["epoch"], entry["dev"][of_set][name]) for entry in history]
                for of_set, found in history[0]["dev"].items()
                if name in found
            }
        )
    ]


def _histograms(history: _Entries, frontier: _Entries) -> list[Block]:
    """Return the scores of each labelled dev set by the base encoder, and by the weights of the best epoch."""
    best = max(history[1:], key=lambda entry: (entry["mean"], entry["epoch"]), default=history[0])
    # The bundle's own scores are the evaluation's to show.
    when = "" if not frontier or frontier[-1]["factor"] == 1 else ", before its weights went back towards the base's"
    panels = {"Before: the base encoder": history[0], f"After: epoch {best['epoch']}{when}": best}
    return [
        block
        for name in history[0].get("histograms", {})
        for block in (
            heading(name, 3),
            histogram_row(
                {
                    title: {
                        f"{of_class} pairs": Counts(EDGES, counts)
                        for of_class, counts in entry["histograms"][name].items()
                    }
                    for title, entry in panels.items()
                },
                x_label="score",
            ),
        )
    ]


def _frontier(points: _Entries) -> list[Block]:
    """Return what the weights between the base and the tuned ones are worth; the last point is the chosen one."""
    chosen, ordered = points[-1], sorted(points, key=lambda point: float(point["factor"]))
    series = {
        f"Spearman, {name}": [(point["factor"], point["dev"][name]) for point in ordered if point["dev"]]
        for name in chosen["dev"]
    }
    agreement = {"agreement with the base": [(point["factor"], point["agreement"]) for point in ordered]}
    return [
        heading("Between the base and what was learned", 3),
        paragraph("Weights part of the way from the base (0) to the tuned ones (1)."),
        _kept(chosen),
        lines("By how much of the way is kept", series | agreement, x_label="part of the way", y_label="Spearman"),
    ]


def _kept(chosen: Mapping[str, Any]) -> Block:
    if chosen["factor"] == 0:
        return callout(
            "bad",
            "The weights are the base encoder's: none between them and the tuned ones agree with the base as far as "
            "was asked (keep) and are above it on every dev set.",
            title="Nothing that was learned is kept",
        )
    return paragraph(
        f"Kept is {chosen['factor']:.0%} of the way, where cosines on general sentences agree with the base's by "
        f"{chosen['agreement']:.3f} (Spearman)."
    )
