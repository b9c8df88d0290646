"""Cross-fitting over groups: what a training does to groups that it does not see, where no dev set shows that.

With few groups, none is held out for good. They are dealt into folds; a training on pairs of all other groups is scored
on the pairs of a fold at several interpolation coefficients, and the mean of these curves has a say in the choice of
alpha for the training on all pairs.

Shape suffixes: P = pairs, 2 = their two texts.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from simile.artifacts import (
    MIN_DEV_PAIRS,
    InterpolationPoint,
    Pair,
    PairSet,
    group_key,
    read_training_history,
    write_training_history,
)
from simile.files import remove
from simile.progress import say
from training.dev_scoring import large_enough
from training.inputs import TrainingInputs
from training.interpolation import UNSEEN, Curve, general_moments, spearman_by_alpha
from training.torch_encoder import TorchEncoder
from training.work import Work

_MIN_GROUPS, _MAX_GROUPS = 4, 64
"""With more groups, those that a training sees are varied enough: wherever it was measured, unseen ones gained."""
_FOLDS, _MIN_GROUPS_PER_FOLD = 4, 2
"""Number of folds; there are two where these would have too few groups for negative pairs. A training on half of the
groups already treats unseen ones worse than one on all of them does."""
_MAX_TRAINED, _MAX_SCORED = 960, 1000
"""The most pairs of a fold's training, and of those that it is scored on."""


@dataclass(frozen=True, slots=True)
class Fold:
    """Pairs of some groups to train on, and pairs of the other groups to score."""

    trained: tuple[Pair, ...]
    held_out: PairSet


def folds(inputs: TrainingInputs) -> list[Fold]:
    """Return the folds of the training pairs, or none where a dev set is of unseen groups or where there is no need.

    There is no need with many groups, and no way with few pairs, without groups, or with the several files of a
    curriculum.
    """
    pairs, names = inputs.files[0], inputs.groups
    has_groups = pairs.have_groups and pairs.is_labelled and not pairs.is_graded
    if len(inputs.files) > 1 or not has_groups or not _MIN_GROUPS <= len(names) <= _MAX_GROUPS:
        return []
    known = set(names)
    for dev in large_enough(inputs.dev_sets):
        if dev.have_groups and sum(known.isdisjoint(ends) for ends in dev.ends) >= MIN_DEV_PAIRS:
            return []
    rng = np.random.default_rng(inputs.config.seed)
    num_folds = _FOLDS if len(names) >= _FOLDS * _MIN_GROUPS_PER_FOLD else 2
    fold = {name: place % num_folds for place, name in enumerate(rng.permutation(names).tolist())}
    groups = (group_key(str(group)) for pair in pairs.rows for group in (pair.group_a, pair.group_b))
    fold_P2 = np.fromiter((fold[name] for name in groups), np.int8).reshape(-1, 2)
    made = []
    for number in range(num_folds):
        trained = np.flatnonzero((fold_P2 != number).all(axis=1))
        held_out = _chosen(pairs, np.flatnonzero((fold_P2 == number).all(axis=1))[:_MAX_SCORED])
        if min(len(trained), len(held_out)) < MIN_DEV_PAIRS or len({pair.label for pair in held_out}) < 2:
            # Small groups make a fold that says nothing.
            continue
        some = np.sort(rng.permutation(len(trained))[:_MAX_TRAINED])
        name = f"fold-{number + 1}"
        made.append(Fold(_chosen(pairs, trained[some]), PairSet(name, held_out, pairs.sha256)))
    return made


def _chosen(pairs: PairSet, places: NDArray[np.intp]) -> tuple[Pair, ...]:
    return tuple(pairs.rows[place] for place in places.tolist())


def cross_fit(
    inputs: TrainingInputs,
    base: TorchEncoder,
    part: Callable[[str], Work],
    fit: Callable[[Sequence[Pair], Work], TorchEncoder],
) -> Curve:
    """Return the mean Spearman on unseen groups by alpha; empty where there are no `folds`.

    ``part`` returns the work folder of a fold's training by the fold's name, and ``fit`` the base encoder trained on
    pairs in it. A finished fold is not repeated.
    """
    curves: list[Curve] = []
    base_moments: dict[str, Tensor] = {}
    prompts = inputs.config.prompts
    for fold in (all_folds := folds(inputs)):
        work = part(fold.held_out.name)
        history = read_training_history(work.folder)
        if not history.interpolation:
            say(f"cross-fitting over groups: {fold.held_out.name} of {len(all_folds)}, {len(fold.trained):,} pairs")
            tuned = fit(fold.trained, work)
            texts = [text for pair in fold.trained for text in (pair.text_a, pair.text_b)]
            base_moments = base_moments or general_moments(base, prompts)
            curve = spearman_by_alpha(base, tuned, base_moments, texts, fold.held_out, prompts)
            points = [InterpolationPoint(alpha=alpha, agreement=None, dev={UNSEEN: of}) for alpha, of in curve.items()]
            history = read_training_history(work.folder).model_copy(update={"interpolation": tuple(points)})
            write_training_history(work.folder, history)
            remove(work.best)
        curves.append({point.alpha: (point.dev or {})[UNSEEN] or 0.0 for point in history.interpolation})
    return {alpha: float(np.mean([curve[alpha] for curve in curves])) for alpha in curves[0]} if curves else {}
