import dataclasses
import random

import numpy as np
import pytest

from simile.artifacts import InterpolationPoint, Pair, PairSet, group_key, read_training_history
from training.config import TrainConfig
from training.cross_fitting import folds
from training.inputs import TrainingInputs
from training.interpolation import UNSEEN, _search
from training.train import train


def pairs_of(num_groups: int, num_pairs: int = 900, name: str = "pairs", prefix: str = "g") -> PairSet:
    """Return pairs of texts of these groups, half of them positive."""
    chosen = random.Random(0)
    rows = []
    for i in range(num_pairs):
        a = chosen.randrange(num_groups)
        b = a if i % 2 else (a + chosen.randrange(1, num_groups)) % num_groups
        text_a, text_b = (f"{prefix}{group} says number {chosen.randrange(40)}" for group in (a, b))
        rows.append(Pair(text_a, text_b, i % 2, group_a=f"{prefix}{a}", group_b=f"{prefix.upper()}{b} "))
    return PairSet(name, tuple(rows), "0" * 64)


def groups_of(pairs) -> set[str]:
    return {group_key(group) for pair in pairs for group in (pair.group_a, pair.group_b)}


def inputs_of(pairs: PairSet, *dev_sets: PairSet, seed: int = 0) -> TrainingInputs:
    return TrainingInputs(TrainConfig(base="bundled:minilm", seed=seed), [pairs], dev_sets)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("num_groups", [4, 19, 64])
def test_folds_share_no_group_and_cover_all_of_them(num_groups, seed):
    pairs = pairs_of(num_groups, num_pairs=3000)
    made = folds(inputs_of(pairs, seed=seed))
    assert len(made) == (2 if num_groups < 8 else 4)
    for fold in made:
        assert not groups_of(fold.trained) & groups_of(fold.held_out.rows)
        assert {pair.label for pair in fold.held_out.rows} == {0, 1}
    assert set().union(*(groups_of(fold.held_out.rows) for fold in made)) == groups_of(pairs.rows)
    assert folds(inputs_of(pairs, seed=seed)) == made


def test_folds_are_bounded():
    for fold in folds(inputs_of(pairs_of(10, num_pairs=20_000))):
        assert len(fold.trained) == 960
        assert len(fold.held_out.rows) == 1000


def test_nothing_is_cross_fitted_without_need_or_where_it_would_say_nothing():
    pairs = pairs_of(19)
    assert folds(inputs_of(pairs))
    assert not folds(inputs_of(pairs_of(65, num_pairs=5000)))
    assert not folds(inputs_of(pairs_of(3)))
    assert not folds(inputs_of(pairs_of(19, num_pairs=400)))
    without = tuple(dataclasses.replace(pair, group_b=None) for pair in pairs.rows)
    assert not folds(inputs_of(dataclasses.replace(pairs, rows=without)))
    # A dev set of other groups shows what cross-fitting would; one of the same groups, or a small one, does not.
    assert not folds(inputs_of(pairs, pairs_of(19, 200, "dev-unseen", prefix="other")))
    assert folds(inputs_of(pairs, pairs_of(19, 200, "dev-seen")))
    assert folds(inputs_of(pairs, pairs_of(19, 60, "dev-unseen", prefix="other")))


def point(alpha: float, unseen: float, *, seen: float = 0.8, agreement: float = 1) -> InterpolationPoint:
    return InterpolationPoint(alpha=alpha, agreement=agreement, dev={"dev": seen, UNSEEN: unseen})


def chosen_alpha(unseen_loss: float, *, takes_highest: bool = False) -> float:
    """Return the chosen alpha, where alpha 1 loses this much on unseen groups and gains 0.1 on seen ones."""
    start = point(0, 0.6, seen=0.5)
    tried, best = _search(
        start,
        lambda alpha: point(alpha, 0.6 - unseen_loss * alpha, seen=0.7 + 0.1 * alpha),
        0.95,
        takes_highest=takes_highest,
    )
    assert best in tried
    return best.alpha


@pytest.mark.parametrize("takes_highest", [False, True])
def test_unseen_groups_may_lose_a_little_and_never_everything_is_given_back(takes_highest):
    assert chosen_alpha(-0.05, takes_highest=takes_highest) == 1
    assert chosen_alpha(0.005, takes_highest=takes_highest) == 1
    assert chosen_alpha(0.04, takes_highest=takes_highest) == pytest.approx(0.2)
    assert chosen_alpha(0.5, takes_highest=takes_highest) == pytest.approx(0.05)


def test_curve_is_the_mean_of_the_folds_and_is_in_the_history(settings, helpdesk, tmp_path):
    by_group = {}
    for row in helpdesk:
        by_group.setdefault(row.group, []).append(row.text)
    names = sorted(by_group)[:8]
    chosen = random.Random(0)
    rows = []
    for i in range(1200):
        a, b = chosen.sample(names, 2)
        b = a if i % 2 else b
        text_a, text_b = (chosen.choice(by_group[name]) for name in (a, b))
        rows.append(Pair(text_a, text_b, i % 2, group_a=a, group_b=b))
    out = tmp_path / "bundle"
    config = TrainConfig(**settings(min_base_agreement=0.5, batch_size=64))
    bundle = train(config, [PairSet("pairs", tuple(rows), "0" * 64)], [], out)
    of_folds = [read_training_history(tmp_path / "bundle.work" / f"fold-{i + 1}").interpolation for i in range(4)]
    curves = [{one.alpha: one.dev[UNSEEN] for one in points} for points in of_folds]
    assert curves[0].keys() == {0, 0.05, 0.1, 0.3, 0.6, 1}
    for one in read_training_history(tmp_path / "bundle.work").interpolation:
        if one.alpha in curves[0] and one.dev:
            assert one.dev[UNSEEN] == pytest.approx(np.mean([curve[one.alpha] for curve in curves]))
    assert bundle.manifest.made.alpha > 0
    # Only the curves of the folds are kept.
    assert not [*(tmp_path / "bundle.work").glob("fold-*/best")]
