"""The inputs of one training run: the pairs it trains on, the pairs it chooses by, and the facts that identify it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from simile import __version__
from simile.artifacts import Pair, PairSet, RunFacts, count_trained, text_hash
from simile.errors import InputError
from simile.progress import say
from training.config import TrainConfig
from training.losses import NEED_LABELS
from training.sampler import epochs_by_file
from training.torch_encoder import fingerprint, public_name


@dataclass(frozen=True)
class TrainingInputs:
    """The config and the pairs of one training run."""

    config: TrainConfig
    files: Sequence[PairSet] = ()
    """Training pairs; the several files of a curriculum are trained on one after the other."""
    dev_sets: Sequence[PairSet] = ()
    """Labelled pairs to choose the epoch and alpha by."""
    calibration_sets: Sequence[PairSet] = ()
    """Pairs like those to be scored, to fit calibration and thresholds on; without them, the dev sets."""

    @cached_property
    def facts(self) -> RunFacts:
        """The facts that identify the run; `Work.require_same` needs ``settings_only`` for those without pairs."""
        return RunFacts(
            config=self.config.model_dump(mode="json"),
            base=fingerprint(self.config.base),
            version=__version__,
            pairs=tuple(pairs.sha256 for pairs in self.files),
            dev={dev.name: dev.sha256 for dev in self.dev_sets},
            calibration=tuple(pairs.sha256 for pairs in self.calibration_sets),
        )

    @property
    def published_facts(self) -> RunFacts:
        """The facts as the manifest states them, without the path of a local base encoder."""
        config = self.facts.config | {"base": public_name(self.config.base)}
        return self.facts.model_copy(update={"config": config})

    @cached_property
    def trained_rows(self) -> list[Sequence[Pair]]:
        """The pairs of each file that are trained on: none of a file that the config has 0 epochs for."""
        epochs = epochs_by_file(self.config, len(self.files))
        return [pairs.rows if num else () for pairs, num in zip(self.files, epochs, strict=True)]

    @cached_property
    def texts(self) -> list[str]:
        """The texts that are trained on."""
        return [text for rows in self.trained_rows for row in rows for text in (row.text_a, row.text_b)]

    def require_trainable(self) -> None:
        """Refuse another number of files than the config has epochs for, and pairs that its losses cannot use."""
        if len(epochs_by_file(self.config, len(self.files))) != len(self.files):
            got = f"got {len(self.files)} files of pairs ({', '.join(pairs.name for pairs in self.files)})"
            raise InputError(f"{got}, need one for each of the epochs {self.config.epochs}")
        for pairs in self.files:
            _require_learnable(self.config, pairs)

    @cached_property
    def trained_texts(self) -> dict[str, int]:
        """The number of texts of each dev and calibration set that are trained on, where there are any."""
        return count_trained([*self.dev_sets, *self.calibration_sets], set(map(text_hash, self.texts)))

    def warn_of_trained_texts(self) -> None:
        """Print which dev and calibration sets share texts with the training pairs."""
        for name, num in self.trained_texts.items():
            say(f"note: {name}: {num:,} of its texts are trained on, so its figures are too good for new texts")


def _require_learnable(config: TrainConfig, pairs: PairSet) -> None:
    """Refuse pairs without the labels, cosines or positive pairs that a loss needs."""
    if pairs.is_graded and (unfit := [name for name in config.loss if name in NEED_LABELS]):
        raise InputError(f"{pairs.name}: got graded scores, loss {unfit[0]!r} needs labels")
    if "mse" in config.loss and (far := [row.target for row in pairs.rows if not -1 <= (row.target or 0) <= 1]):
        raise InputError(f"{pairs.name}: got a score of {far[0]}, loss 'mse' needs cosines, which are in [-1, 1]")
    groups = [group for row in pairs.rows for group in (row.group_a, row.group_b) if group is not None]
    has_partners = any(row.label == 1 for row in pairs.rows) or len(set(groups)) < len(groups)
    if "ranking" in config.loss and not has_partners:
        others = " and ".join(repr(name) for name in config.loss if name != "ranking")
        if not others:
            raise InputError(f"{pairs.name}: got no positive pair, loss 'ranking' needs some")
        say(f"{pairs.name}: graded scores have no positive pairs for loss 'ranking'; only {others} can learn from them")
