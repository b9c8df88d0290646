"""The inputs of one training run: the pairs it trains on, the pairs it chooses by, and the facts that identify it."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain

from simile import __version__
from simile.artifacts import Pair, PairSet, RunFacts, TextHashes, count_trained, group_key, text_hash
from simile.errors import InputError
from simile.progress import say
from training.config import MAX_EPOCHS, TrainConfig, epochs_by_file
from training.distillation import Distillation, Teacher, embed_with_teacher
from training.holdout import hold_out
from training.losses import NEED_LABELS
from training.torch_encoder import fingerprint, public_name

_DEV_SHARE = 0.1
"""Share of labelled pairs that is held out where no dev set is given."""
_HALF_WIDTH, _TELLING = 0.6, 0.1
"""Half the width of a gain's 95 % interval, times the root of the number of groups (from 0.3 to 1 where it was
measured), and the half width from which it is worth a note."""
MANY_GROUPS = 65
"""Number of groups from which more make no difference."""
_MAX_HELD_OUT_FROM = 2_000_000
"""Most pairs that a dev set is held out of: the texts that they connect are in memory."""


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
    distillation: Distillation | None = None

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
            teacher=self.distillation.bundle.manifest.digest if self.distillation else None,
            unlabelled=self.distillation.texts_sha256 if self.distillation else None,
        )

    @property
    def published_facts(self) -> RunFacts:
        """The facts as the manifest states them, without the path of a local base encoder."""
        config = self.facts.config | {"base": public_name(self.config.base)}
        return self.facts.model_copy(update={"config": config})

    @cached_property
    def teacher(self) -> Teacher | None:
        """The teacher in a distillation; it embeds all texts at the first call."""
        if self.distillation is None:
            return None
        held_out = [*self.dev_sets, *self.calibration_sets]
        return embed_with_teacher(self.distillation, self.files, held_out, self.config.seed)

    @cached_property
    def epochs(self) -> tuple[int, ...]:
        """The number of epochs over each file."""
        epochs = epochs_by_file(self.config, [len(rows) for rows in self._rows])
        # A teacher tells more of a text than a label does: of two epochs, the student learns more (docs/log.md).
        if self.teacher and self.config.epochs == "auto":
            epochs = tuple(min(2 * num, MAX_EPOCHS) for num in epochs)
        return epochs

    @property
    def _rows(self) -> list[Sequence[Pair]]:
        """The pairs of each file, or those of the only one and the teacher's."""
        if self.teacher:
            return [[*(row for pairs in self.files for row in pairs.rows), *self.teacher.pairs]]
        return [pairs.rows for pairs in self.files]

    @cached_property
    def trained_rows(self) -> list[Sequence[Pair]]:
        """The pairs of each file that are trained on: none of a file that the config has 0 epochs for."""
        return [rows if num else () for rows, num in zip(self._rows, self.epochs, strict=True)]

    @property
    def texts(self) -> Iterator[str]:
        """The texts that are trained on, as often as pairs have them."""
        return (text for rows in self.trained_rows for row in rows for text in (row.text_a, row.text_b))

    @cached_property
    def hashes(self) -> TextHashes:
        """The hashes of the texts that are trained on, those of the teacher's training included."""
        return TextHashes(chain(map(text_hash, self.texts), self.teacher.trained_hashes if self.teacher else ()))

    @cached_property
    def groups(self) -> list[str]:
        """The keys of the groups that are trained on, in the order of their first pairs; the first `MANY_GROUPS`."""
        names = (name for rows in self.trained_rows for pair in rows for name in (pair.group_a, pair.group_b))
        keys: dict[str, None] = {}
        for name in names:
            if len(keys) == MANY_GROUPS:
                break
            if name is not None:
                keys[group_key(name)] = None
        return list(keys)

    def with_dev_set(self) -> "TrainingInputs":
        """Return these inputs or, for labelled pairs without groups and without a dev set, with a share held out."""
        if self.dev_sets or len(self.files) != 1 or self.files[0].have_groups or not self.files[0].is_labelled:
            return self
        if len(self.files[0].rows) > _MAX_HELD_OUT_FROM:
            got = f"no dev set was given, and of more than {_MAX_HELD_OUT_FROM:,} pairs none are held out"
            say(f"note: {got}; need --dev to choose the best epoch and alpha by")
            return self
        parts = hold_out(self.files[0], _DEV_SHARE, self.config.seed)
        if parts is None:
            return self
        trained, dev = parts
        say(f"no dev set was given: {len(dev.rows):,} of {len(self.files[0].rows):,} pairs are held out to choose by")
        return replace(self, files=[trained], dev_sets=[dev])

    def require_trainable(self) -> None:
        """Refuse another number of files than the config has epochs for, and pairs that its losses cannot use."""
        if "teacher" in self.config.loss and self.distillation is None:
            raise InputError("got the loss 'teacher' without a teacher, need simile distill")
        if self.distillation and len(self.files) != 1:
            raise InputError(f"got {len(self.files)} files of pairs, need one to distill a teacher")
        if len(epochs_by_file(self.config, [len(pairs.rows) for pairs in self.files])) != len(self.files):
            got = f"got {len(self.files)} files of pairs ({', '.join(pairs.name for pairs in self.files)})"
            raise InputError(f"{got}, need one for each of the epochs {self.config.epochs}")
        for pairs in self.files:
            _require_learnable(self.config, pairs)

    @cached_property
    def trained_texts(self) -> dict[str, int]:
        """The number of texts of each dev and calibration set that are trained on, where there are any."""
        return count_trained([*self.dev_sets, *self.calibration_sets], self.hashes)

    def warn_of_few_groups(self) -> None:
        """Print how small a gain can be told where the pairs are of few groups."""
        num = len(self.groups)
        if num and (half := _HALF_WIDTH / math.sqrt(num)) > _TELLING:
            told = f"with as many in a test set, the gate can hardly tell gains below about {half:.2f} Spearman"
            say(f"note: the training pairs are of {num} groups; {told}")

    def warn_of_trained_texts(self) -> None:
        """Print which dev and calibration sets share texts with the training pairs."""
        for name, num in self.trained_texts.items():
            say(f"note: {name}: {num:,} of its texts are trained on, so its figures are too good for new texts")


def _require_learnable(config: TrainConfig, pairs: PairSet) -> None:
    """Refuse pairs without the labels, cosines or positive pairs that a loss needs."""
    if pairs.is_graded and (unfit := [name for name in config.loss if name in NEED_LABELS]):
        raise InputError(f"{pairs.name}: got graded scores, loss {unfit[0]!r} needs labels")
    if "mse" in config.loss:
        far = (row.target for row in pairs.rows if not -1 <= (row.target or 0) <= 1)
        if (score := next(far, None)) is not None:
            raise InputError(f"{pairs.name}: got a score of {score}, loss 'mse' needs cosines, which are in [-1, 1]")
    if "ranking" in config.loss and not _has_partners(pairs):
        others = " and ".join(repr(name) for name in config.loss if name != "ranking")
        if not others:
            raise InputError(f"{pairs.name}: got no positive pair, loss 'ranking' needs some")
        say(f"{pairs.name}: graded scores have no positive pairs for loss 'ranking'; only {others} can learn from them")


def _has_partners(pairs: PairSet) -> bool:
    """Return whether there is a positive pair, or a group of several texts."""
    if any(row.label == 1 for row in pairs.rows):
        return True
    groups: set[str] = set()
    for group in (group for row in pairs.rows for group in (row.group_a, row.group_b) if group is not None):
        if group in groups:
            return True
        groups.add(group)
    return False
