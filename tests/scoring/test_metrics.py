import itertools
import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from simile.scoring.metrics import (
    auc,
    expected_calibration_error,
    figures,
    overlap,
    separability,
    spearman,
    tfidf_cosines,
)

# Few different values, so that ties are the rule.
tied = st.integers(-4, 20).map(lambda x: x / 16)


@st.composite
def labelled(draw):
    num = draw(st.integers(2, 30))
    score_P = draw(arrays(np.float32, num, elements=tied))
    label_P = draw(arrays(np.float64, num, elements=st.sampled_from([0.0, 1.0])))
    assume(0 < label_P.sum() < num)
    return score_P, label_P


def spearman_by_definition(score_P, target_P):
    """Pearson's correlation of the ranks, where a value's rank counts the values below it and half of its equals."""
    ranks = [
        [sum(other < value for other in values) + sum(other == value for other in values) / 2 for value in values]
        for values in (score_P.tolist(), target_P.tolist())
    ]
    return np.corrcoef(*ranks)[0, 1]


@given(labelled())
def test_spearman_of_labels_is_the_correlation_of_mean_ranks(pairs):
    score_P, label_P = pairs
    assume(len(set(score_P)) > 1)
    assert spearman(score_P, label_P) == pytest.approx(spearman_by_definition(score_P, label_P), abs=1e-12)


@given(arrays(np.float64, 12, elements=tied), arrays(np.float64, 12, elements=tied))
def test_spearman_of_graded_targets_is_the_correlation_of_mean_ranks(score_P, target_P):
    assume(len(set(score_P)) > 1)
    assume(len(set(target_P)) > 1)
    assert spearman(score_P, target_P) == pytest.approx(spearman_by_definition(score_P, target_P), abs=1e-12)


@pytest.mark.parametrize("constant", [0.5, np.nan, np.inf])
def test_spearman_of_a_constant_is_nan_without_a_warning(constant):
    constant_P, rising_P = np.full(4, constant), np.arange(4.0)
    assert math.isnan(spearman(constant_P, rising_P))
    assert math.isnan(spearman(rising_P, constant_P))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_auc_of_scores_that_are_not_finite_is_nan(bad):
    assert math.isnan(auc(np.array([0.5, bad, 0.1]), np.array([1, 0, 1])))


def test_spearman_with_labels_in_equal_shares_reaches_0_866_at_most():
    label_P = np.repeat([0.0, 1.0], 5000)
    assert spearman(np.arange(10_000.0), label_P) == pytest.approx(math.sqrt(3) / 2, abs=1e-4)


@given(labelled())
def test_auc_is_the_share_of_positives_above_negatives_a_tie_one_half(pairs):
    score_P, label_P = pairs
    positive, negative = score_P[label_P == 1][:, None], score_P[label_P == 0][None]
    expected = ((positive > negative) + 0.5 * (positive == negative)).mean()
    assert auc(score_P, label_P) == pytest.approx(expected, abs=1e-12)


@given(labelled())
def test_separability_is_the_gap_between_the_means(pairs):
    score_P, label_P = pairs
    mean = {label: math.fsum(map(float, score_P[label_P == label])) / (label_P == label).sum() for label in (0, 1)}
    assert separability(score_P, label_P) == pytest.approx(mean[1] - mean[0], abs=1e-12)


def test_overlap_by_hand():
    # Positives: half at 0.5, half at 0.9. Negatives: a quarter at 0.5, the rest at 0.1. Shared: a quarter.
    score_P = np.array([0.5, 0.9, 0.5, 0.1, 0.1, 0.1])
    assert overlap(score_P, np.array([1, 1, 0, 0, 0, 0])) == 0.25


def test_overlap_of_the_same_scores_is_one_and_of_others_none():
    label_P = np.array([1, 1, 0, 0])
    assert overlap(np.array([0.1, 0.7, 0.7, 0.1]), label_P) == 1
    assert overlap(np.array([0.8, 0.7, 0.2, 0.1]), label_P) == 0


def test_overlap_counts_scores_outside_in_the_end_bins():
    assert overlap(np.array([-0.9, 1.0, -0.2, 1.5]), np.array([1, 1, 0, 0])) == 1


@given(labelled())
def test_overlap_is_the_shared_area_of_histograms_of_50_bins(pairs):
    score_P, label_P = pairs
    edges = [-0.2 + 1.2 * i / 50 for i in range(51)]
    # At an edge, rounding would decide the bin.
    assume(all(abs(s - edge) > 1e-6 for s in score_P for edge in edges))
    total = 0.0
    for low, high in itertools.pairwise(edges):
        inside = [(low if low > -0.2 else -9) < s < (high if high < 1 else 9) for s in score_P]
        shares = [np.mean([i for i, label in zip(inside, label_P, strict=True) if label == of]) for of in (0, 1)]
        total += min(shares)
    assert overlap(score_P, label_P) == pytest.approx(total, abs=1e-12)


@given(labelled())
def test_order_of_the_pairs_does_not_matter(pairs):
    score_P, label_P = pairs
    assume(len(set(score_P)) > 1)
    forwards = figures(score_P, label_P, is_graded=False)
    backwards = figures(score_P[::-1], label_P[::-1], is_graded=False)
    assert forwards == pytest.approx(backwards, abs=1e-12)


def test_figures_of_labelled_pairs_are_all_four():
    score_P, label_P = np.array([0.9, 0.4, 0.6, 0.1]), np.array([1.0, 1.0, 0.0, 0.0])
    assert figures(score_P, label_P, is_graded=False) == {
        "spearman": spearman(score_P, label_P),
        "auc": auc(score_P, label_P),
        "separability": separability(score_P, label_P),
        "overlap": overlap(score_P, label_P),
    }


def test_figures_of_graded_pairs_are_the_spearman_only():
    score_P, target_P = np.array([0.9, 0.4, 0.6]), np.array([5.0, 1.0, 3.0])
    assert figures(score_P, target_P, is_graded=True) == {"spearman": pytest.approx(1.0)}


def test_calibration_error_matches_the_definition_bin_by_bin():
    rng = np.random.default_rng(0)
    probability_P = np.concatenate([rng.random(300), [0, 1]])
    label_P = (rng.random(len(probability_P)) < probability_P**2).astype(float)
    expected = 0.0
    for i in range(15):
        is_in_P = (probability_P >= i / 15) & ((probability_P < (i + 1) / 15) | (i == 14))
        expected += is_in_P.mean() * abs(label_P[is_in_P].mean() - probability_P[is_in_P].mean())
    assert expected > 0.1
    assert expected_calibration_error(probability_P, label_P) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("power", "low", "high"), [(1, 0, 0.02), (2, 0.1, 1)], ids=["calibrated", "too sure"])
def test_calibration_error_is_near_nothing_only_where_labels_come_as_often_as_told(power, low, high):
    rng = np.random.default_rng(0)
    probability_P = rng.random(20_000).astype(np.float32)
    assert low <= expected_calibration_error(probability_P, rng.random(20_000) < probability_P**power) <= high


def test_calibration_error_of_certain_and_wrong_probabilities_is_one():
    label_P = np.array([1.0, 0.0, 1.0])
    assert expected_calibration_error(1 - label_P, label_P) == 1
    assert expected_calibration_error(label_P, label_P) == 0


def test_tfidf_cosines_are_weighted_by_the_pairs_own_texts():
    cosine_P = tfidf_cosines([("card lost", "Card, card!"), ("card lost", "CARD late"), ("card late", "card late")])
    # Of the four texts, "card" is in all and weighs 1, "lost" is in one, "late" in two.
    lost, late = 1 + math.log(5 / 2), 1 + math.log(5 / 3)
    expected = [1 / math.hypot(1, lost), 1 / (math.hypot(1, lost) * math.hypot(1, late)), 1]
    np.testing.assert_allclose(cosine_P, expected)


@pytest.mark.parametrize("texts", [("A", "B"), ("?", "!"), ("\U0001f600", "\U0001f62d")])
def test_tfidf_cosines_of_texts_without_words_tell_equal_ones_from_others(texts):
    a, b = texts
    np.testing.assert_allclose(tfidf_cosines([(a, b), (a, a)]), [0, 1])


def test_tfidf_cosines_see_the_words_of_chinese_texts():
    cosine_P = tfidf_cosines([("退款申请一直不成功", "退款申请怎么办"), ("退款申请一直不成功", "航班改签怎么办")])
    assert cosine_P[0] > 0.2
    assert cosine_P[1] == 0


@given(st.data(), labelled())
def test_weighted_figures_are_those_of_as_many_copies_of_each_pair(data, pairs):
    score_P, label_P = pairs
    copies = data.draw(arrays(np.int64, len(score_P), elements=st.integers(1, 4)))
    expanded = [np.repeat(values, copies) for values in pairs]
    expected = figures(*expanded, is_graded=False)
    # Only the ratios of weights matter.
    for scale in (1, 0.3):
        weighted = figures(score_P, label_P, weight_P=copies * scale, is_graded=False)
        assert weighted == pytest.approx(expected, abs=1e-9, nan_ok=True)
    probability_P = np.clip(score_P, 0, 1)
    assert expected_calibration_error(probability_P, label_P, weight_P=copies * 0.3) == pytest.approx(
        expected_calibration_error(np.repeat(probability_P, copies), expanded[1]), abs=1e-9
    )


def weighted_spearman_by_definition(score_P, target_P, weight_P):
    """Weighted Pearson correlation of ranks that sum the weights of lower values and half of those of equal ones."""
    ranks = [
        np.array([weight_P[values < value].sum() + weight_P[values == value].sum() / 2 for value in values])
        for values in (score_P, target_P)
    ]
    covariance = np.cov(*ranks, aweights=weight_P)
    return covariance[0, 1] / math.sqrt(covariance[0, 0] * covariance[1, 1])


@given(st.data(), labelled())
def test_spearman_with_weights_that_are_no_whole_numbers_is_that_of_the_definition(data, pairs):
    score_P, label_P = pairs
    assume(len(set(score_P)) > 1)
    weight_P = data.draw(arrays(np.float64, len(score_P), elements=st.floats(0.1, 10)))
    expected = weighted_spearman_by_definition(score_P, label_P, weight_P)
    assert spearman(score_P, label_P, weight_P=weight_P) == pytest.approx(expected, abs=1e-9)
