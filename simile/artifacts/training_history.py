"""The training history: what ``history.json`` in a work folder holds."""

from pathlib import Path
from typing import Final, Literal

from pydantic import Field, model_validator

from simile.artifacts.evaluation_report import Figures
from simile.artifacts.json_file import read_model
from simile.artifacts.strict import StrictModel
from simile.files import write_whole

SCHEMA_VERSION: Final = 1
_FILE = "history.json"


class ClassCounts(StrictModel):
    """Histogram counts of the scores of each class."""

    positive: tuple[int, ...]
    negative: tuple[int, ...]


class EpochEntry(StrictModel):
    """The dev figures of the weights after one epoch; epoch 0 is the base encoder."""

    epoch: int
    seconds: float
    """Time that scoring the dev sets took."""
    mean: float | None
    """The figure that the best epoch is chosen by: the mean Spearman over the dev sets, or the epoch without any.

    None where the scores of a dev set are constant."""
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
    """The dev figures of the weights at one point between the base and the tuned encoder."""

    alpha: float
    """Interpolation coefficient: 0 is the base encoder, 1 the tuned one."""
    agreement: float | None
    """Spearman of the base's cosines and these weights' on general sentences; None where these are constant."""
    dev: dict[str, float | None] | None
    """Spearman on each dev set; None where the agreement is too low to score them."""


class TrainingHistory(StrictModel):
    """The course of one training: epochs, losses, and the interpolation after it."""

    schema_version: Literal[1] = SCHEMA_VERSION
    epochs: tuple[EpochEntry, ...] = ()
    losses: tuple[StepLoss, ...] = ()
    """Written once training has ended."""
    interpolation: tuple[InterpolationPoint, ...] = ()
    """The points that were tried; the chosen one is the last."""
    trained_texts: dict[str, int] = Field({}, exclude_if=lambda nums: not nums)
    """Number of texts of each dev and calibration set that are trained on, by the set's name, where there are any."""

    @model_validator(mode="after")
    def _names_agree(self) -> "TrainingHistory":
        for names in (
            [entry.dev.keys() for entry in self.epochs],
            [entry.histograms.keys() for entry in self.epochs],
            [loss.parts.keys() for loss in self.losses],
            [point.dev.keys() for point in self.interpolation if point.dev],
        ):
            if any(other != names[0] for other in names):
                raise ValueError("got entries with different names of sets or losses, need the same in each")
        return self


def read_training_history(folder: Path) -> TrainingHistory:
    """Return the history in a work folder, or an empty one where there is no file; refuse another schema version."""
    need = f"need a training history of version {SCHEMA_VERSION}; remove the file, or train again with --restart"
    try:
        return read_model(folder / _FILE, TrainingHistory, need)
    except FileNotFoundError:
        return TrainingHistory()


def write_training_history(folder: Path, history: TrainingHistory) -> None:
    """Write the history into a work folder, whole or not at all."""
    write_whole(folder / _FILE, history.model_dump_json() + "\n")
