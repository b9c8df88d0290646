"""The training history: what ``history.json`` in a work folder holds."""

from typing import Literal

from simile.artifacts.evaluation_report import Figures
from simile.artifacts.strict import StrictModel


class ClassCounts(StrictModel):
    """Histogram counts of the scores of each class."""

    positive: tuple[int, ...]
    negative: tuple[int, ...]


class EpochEntry(StrictModel):
    """The dev figures of the weights after one epoch; epoch 0 is the base encoder."""

    epoch: int
    seconds: float
    """Time that scoring the dev sets took."""
    mean: float
    """The figure that the best epoch is chosen by: the mean Spearman over the dev sets, or the epoch without any."""
    dev: dict[str, Figures]
    histograms: dict[str, ClassCounts]
    """Score histograms of the labelled dev sets."""


class StepLoss(StrictModel):
    """The losses logged at one step."""

    step: int
    total: float
    parts: dict[str, float]
    """Each loss times its weight."""


class InterpolationPoint(StrictModel):
    """What the weights at one point between the base and the tuned encoder are worth."""

    alpha: float
    """Interpolation coefficient: 0 is the base encoder, 1 the tuned one."""
    agreement: float
    """Spearman of the base's cosines and these weights' on general sentences."""
    dev: dict[str, float] | None
    """Spearman on each dev set; None where the agreement is too low to ask."""


class TrainingHistory(StrictModel):
    """The course of one training: epochs, losses, and the interpolation after it."""

    schema_version: Literal[1] = 1
    epochs: tuple[EpochEntry, ...] = ()
    losses: tuple[StepLoss, ...] = ()
    """Written once training has ended."""
    interpolation: tuple[InterpolationPoint, ...] = ()
    """The points that were tried; the chosen one is the last."""
