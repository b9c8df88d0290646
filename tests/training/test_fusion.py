"""Learned fusion: members share the weight where that helps on groups that the weights were not learned on."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simile.artifacts import Pair, PairSet
from simile.scoring.metrics import spearman
from training.fusion import fuse

NUM_GROUPS, NUM_PAIRS = 12, 600


def made(seed, *noises, num_pairs=NUM_PAIRS):
    """Return pairs of groups, and a member per noise that scores their labels with so much of it."""
    rng = np.random.default_rng(seed)
    first = rng.integers(NUM_GROUPS, size=num_pairs)
    second = np.where(rng.random(num_pairs) < 0.5, first, (first + rng.integers(1, NUM_GROUPS, num_pairs)) % NUM_GROUPS)
    rows = [
        Pair(f"a {i}", f"b {i}", int(a == b), group_a=f"g{a}", group_b=f"g{b}")
        for i, (a, b) in enumerate(zip(first, second, strict=True))
    ]
    pairs = PairSet("dev", tuple(rows), "0" * 64)
    scores = [pairs.target_P + rng.normal(scale=noise, size=num_pairs) for noise in noises]
    return np.stack(scores, axis=1).astype(np.float32), pairs


def test_members_with_errors_of_their_own_share_the_weight():
    score_PM, pairs = made(0, 0.6, 0.6, 0.6)
    weight_M = fuse(score_PM, pairs)
    assert weight_M.min() > 0.2
    assert spearman(score_PM @ weight_M, pairs.target_P) > 0.05 + spearman(score_PM[:, 0], pairs.target_P)


def test_the_better_member_has_the_larger_weight_and_noise_has_hardly_any():
    score_PM, pairs = made(1, 0.4, 0.8, 50.0)
    weight_M = fuse(score_PM / np.array([1, 1, 50], dtype=np.float32), pairs)
    assert weight_M[0] > weight_M[1] > weight_M[2]
    assert weight_M[2] < 0.06


def test_weights_that_do_not_hold_on_other_groups_leave_the_best_member_alone(monkeypatch):
    # By chance, a little of a poor member helps to order these few pairs.
    score_PM, pairs = made(2, 0.5, 3.0, num_pairs=100)
    assert fuse(score_PM, pairs).tolist() == [1, 0]
    monkeypatch.setattr("training.fusion._REPEATS", 0)
    assert fuse(score_PM, pairs)[1] > 0


@settings(max_examples=8)
@given(seed=st.integers(0, 10_000), num_members=st.integers(1, 4))
def test_the_ensemble_is_never_worse_than_its_best_member_and_weights_sum_to_one(seed, num_members):
    score_PM, pairs = made(seed, *np.random.default_rng(seed).uniform(0.3, 3, num_members), num_pairs=120)
    weight_M = fuse(score_PM, pairs)
    assert weight_M.sum() == pytest.approx(1)
    assert weight_M.min() >= 0
    best = max(spearman(score_M, pairs.target_P) for score_M in score_PM.T)
    assert spearman(score_PM @ weight_M, pairs.target_P) >= best - 1e-6
    assert fuse(score_PM, pairs).tolist() == weight_M.tolist()


def test_pairs_too_few_to_halve_still_give_weights():
    score_PM, pairs = made(2, 0.6, 0.6, num_pairs=30)
    assert fuse(score_PM, pairs).min() > 0


def test_a_member_of_one_constant_score_has_no_weight():
    score_PM, pairs = made(3, 0.5, 0.0)
    score_PM[:, 1] = 0.5
    assert fuse(score_PM, pairs).tolist() == [1, 0]
