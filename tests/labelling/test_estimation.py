"""Figures of the traffic from a sample: values by expanding the pairs, intervals by repeated draws."""

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from labelling import estimation
from labelling.estimation import Sample, auc, precision, recall, sample_of, share_of_positives, spearman


def drawn(num=60, seed=0):
    """Return scores with ties, labels, and whole-number weights."""
    rng = np.random.default_rng(seed)
    label_P = rng.integers(0, 2, num).astype(float)
    score_P = np.round(label_P + rng.normal(size=num), 1)
    return score_P, label_P, rng.integers(1, 5, num).astype(float)


def one_stratum(weight_P):
    return Sample(weight_P, np.zeros(len(weight_P), dtype=np.int64))


def test_estimates_are_those_of_as_many_copies_of_each_pair():
    score_P, label_P, weight_P = drawn()
    copies = weight_P.astype(int)
    score, label = np.repeat(score_P, copies), np.repeat(label_P, copies)
    sample = one_stratum(weight_P)
    assert spearman(sample, score_P, label_P).value == pytest.approx(spearmanr(score, label).statistic)
    assert auc(sample, score_P, label_P).value == pytest.approx(roc_auc_score(label, score))
    assert share_of_positives(sample, label_P).value == pytest.approx(label.mean())
    assert precision(sample, score_P, label_P, 0.5).value == pytest.approx(label[score >= 0.5].mean())
    assert recall(sample, score_P, label_P, 0.5).value == pytest.approx((score[label == 1] >= 0.5).mean())


@pytest.mark.parametrize("figure", ["spearman", "auc"])
def test_derivatives_are_the_difference_quotients(figure, monkeypatch):
    score_P, label_P, weight_P = drawn()
    seen = []
    monkeypatch.setattr(estimation, "standard_error", lambda sample, derivative_P: seen.append(derivative_P) or 0.1)
    getattr(estimation, figure)(one_stratum(weight_P), score_P, label_P)
    step = 1e-5
    for i, derivative in enumerate(seen.pop()):
        more, less = weight_P.copy(), weight_P.copy()
        more[i] += step
        less[i] -= step
        values = [getattr(estimation, figure)(one_stratum(one), score_P, label_P).value for one in (more, less)]
        assert (values[0] - values[1]) / (2 * step) == pytest.approx(derivative, abs=1e-7)


def test_standard_error_of_a_mean_is_that_of_a_stratified_sample():
    rng = np.random.default_rng(1)
    sizes, nums = (100, 40), (10, 30)
    value_P = rng.normal(size=40)
    weight_P = np.repeat([size / num for size, num in zip(sizes, nums, strict=True)], nums)
    sample = Sample(weight_P, np.repeat([0, 1], nums))
    parts = [value_P[:10], value_P[10:]]
    variance = sum(
        (size / 140) ** 2 * (1 - num / size) * np.var(part, ddof=1) / num
        for size, num, part in zip(sizes, nums, parts, strict=True)
    )
    assert estimation.standard_error(sample, value_P / 140) == pytest.approx(np.sqrt(variance))


def test_a_sample_that_is_the_whole_traffic_leaves_nothing_uncertain():
    score_P, label_P, _ = drawn()
    sample = one_stratum(np.ones(60))
    for estimate in (share_of_positives(sample, label_P), auc(sample, score_P, label_P)):
        assert (estimate.low, estimate.high) == pytest.approx((estimate.value, estimate.value))


def test_strata_are_the_stated_ones_or_those_of_equal_probability():
    inclusion_P = np.array([0.1, 0.5, 0.1, 0.5])
    assert sample_of(inclusion_P, [None] * 4).stratum_P.tolist() == [0, 1, 0, 1]
    assert sample_of(inclusion_P, ["x", "y", "y", "x"]).stratum_P.tolist() in ([0, 1, 1, 0], [1, 0, 0, 1])


def test_a_stratum_of_one_pair_is_joined_with_the_next():
    inclusion_P = np.array([0.1, 0.5, 0.5, 0.9])
    assert sample_of(inclusion_P, [None] * 4).stratum_P.tolist() == [0, 0, 0, 0]
    assert sample_of(inclusion_P[:3], [None] * 3).stratum_P.tolist() == [0, 0, 0]
    inclusion_P = np.array([0.1, 0.5, 0.5, 0.9, 0.9])
    assert sample_of(inclusion_P, [None] * 5).stratum_P.tolist() == [0, 0, 0, 1, 1]


def test_without_a_single_positive_the_high_end_is_that_of_the_exact_binomial_interval():
    estimate = share_of_positives(one_stratum(np.full(30, 10.0)), np.zeros(30))
    assert (estimate.value, estimate.low) == (0, 0)
    # The largest share at which 30 pairs have no positive one in 2.5 % of the draws.
    assert (1 - estimate.high) ** 30 == pytest.approx(0.025)


def test_what_the_sample_does_not_determine_is_none():
    score_P, label_P, weight_P = drawn()
    sample = one_stratum(weight_P)
    assert precision(sample, score_P, label_P, 99).value is None
    assert auc(sample, score_P, np.ones(60)).value is None
    assert spearman(sample, np.ones(60), label_P).value is None


def test_intervals_cover_the_share_of_the_traffic_and_unweighted_ones_do_not():
    rng = np.random.default_rng(2)
    stratum_P = np.repeat([0, 1], [900, 100])
    label_P = (rng.random(1000) < np.where(stratum_P == 0, 0.1, 0.8)).astype(float)
    covered = np.zeros(2)
    for _ in range(200):
        drawn_P = np.concatenate([rng.choice(np.flatnonzero(stratum_P == i), 50, replace=False) for i in (0, 1)])
        inclusion = np.array([50 / 900, 0.5])[stratum_P[drawn_P]]
        samples = sample_of(inclusion, [None] * 100), sample_of(np.full(100, 0.1), [None] * 100)
        ends = [share_of_positives(sample, label_P[drawn_P]) for sample in samples]
        covered += [one.low <= label_P.mean() <= one.high for one in ends]
    # Of 200 intervals of 95 %, 190 are expected to, and at least 182 in 99 % of the cases.
    assert covered[0] >= 182
    assert covered[1] == 0
