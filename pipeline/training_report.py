"""The training part of a report page: losses, dev figures per epoch, dev scores before and after, interpolation."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from simile.artifacts import EpochEntry, InterpolationPoint, StepLoss, read_training_history, trained_on, work_folder
from simile.reports import Block, Counts, callout, figure_row, heading, histogram_row, lines, paragraph
from simile.scoring.metrics import EDGES

_MAX_POINTS = 200


def training_blocks(bundle: Path, title: str = "Training") -> list[Block]:
    """Return the blocks for the training history beside the bundle; none where there is no history."""
    history = read_training_history(work_folder(bundle.resolve()))
    blocks = []
    if history.trained_texts:
        blocks.append(callout("note", trained_on(history.trained_texts), title="Figures that are too good"))
    if history.losses:
        blocks.append(_losses(history.losses))
    if history.epochs and history.epochs[0].dev:
        blocks += [figure_row(*_curves(history.epochs)), *_histograms(history.epochs, history.interpolation)]
    if history.interpolation:
        blocks += _interpolation(history.interpolation)
    return [heading(title), *blocks] if blocks else []


def _losses(losses: Sequence[StepLoss]) -> Block:
    stretches = np.array_split(np.arange(len(losses)), min(len(losses), _MAX_POINTS))
    by_name = {"total": [loss.total for loss in losses]}
    # A single part equals the total.
    if len(losses[0].parts) > 1:
        by_name |= {name: [loss.parts[name] for loss in losses] for name in losses[0].parts}
    series = {
        name: [(losses[at[-1]].step, float(np.mean([values[i] for i in at]))) for at in stretches]
        for name, values in by_name.items()
    }
    return lines("Loss by step; each point is the mean since the previous one", series, x_label="step", y_label="loss")


def _curves(epochs: Sequence[EpochEntry]) -> list[Block]:
    """Return one chart per figure that a dev set has."""
    spearmans = {name: [(entry.epoch, entry.dev[name].spearman) for entry in epochs] for name in epochs[0].dev}
    separabilities = {name: [(entry.epoch, entry.dev[name].separability) for entry in epochs] for name in epochs[0].dev}
    return [
        lines(f"{label} by epoch (epoch 0 is the base encoder)", series, x_label="epoch", y_label=label)
        for label, by_set in (("Spearman", spearmans), ("Separability", separabilities))
        if (series := {name: points for name, points in by_set.items() if any(y is not None for _, y in points)})
    ]


def _histograms(epochs: Sequence[EpochEntry], points: Sequence[InterpolationPoint]) -> list[Block]:
    """Return the score histograms of each labelled dev set for the base encoder and the best epoch."""
    best = max(epochs[1:], key=lambda entry: (entry.mean or 0, entry.epoch), default=epochs[0])
    # The scores of the interpolated weights are in the evaluation.
    suffix = "" if not points or points[-1].alpha == 1 else ", before interpolation"
    blocks = []
    for name in epochs[0].histograms:
        panels = {}
        for title, entry in (("Before: the base encoder", epochs[0]), (f"After: epoch {best.epoch}{suffix}", best)):
            positive, negative = entry.histograms[name].positive, entry.histograms[name].negative
            panels[title] = {"positive pairs": Counts(EDGES, positive), "negative pairs": Counts(EDGES, negative)}
        blocks += [heading(name, 3), histogram_row(panels, x_label="score")]
    return blocks


def _interpolation(points: Sequence[InterpolationPoint]) -> list[Block]:
    """Return the dev figures and the agreement by alpha; the last point is the chosen one."""
    chosen, ordered = points[-1], sorted(points, key=lambda point: point.alpha)
    series = {
        f"Spearman, {name}": [(point.alpha, point.dev[name]) for point in ordered if point.dev]
        for name in chosen.dev or ()
    }
    series["agreement with the base"] = [(point.alpha, point.agreement) for point in ordered]
    agreement = "undefined" if chosen.agreement is None else f"{chosen.agreement:.3f}"
    choice = paragraph(
        f"The bundle has alpha {chosen.alpha:g}. The Spearman correlation of its cosines with the base's on general "
        f"sentences is {agreement}."
    )
    if chosen.alpha == 0:
        text = (
            "No interpolated weights agree with the base as far as min_base_agreement requires and are at least as "
            "good on every dev set."
        )
        choice = callout("bad", text, title="The weights are the base encoder's")
    return [
        heading("Interpolation between base and tuned weights", 3),
        paragraph("Weights between the base encoder (alpha 0) and the tuned one (alpha 1)."),
        choice,
        lines("Spearman by interpolation coefficient", series, x_label="alpha", y_label="Spearman"),
    ]
