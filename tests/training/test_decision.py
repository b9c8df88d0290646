import json

import numpy as np
import pytest
from scipy.special import expit
from sklearn.isotonic import IsotonicRegression

from simile.artifacts import read_labelled_pairs
from simile.scoring import probability
from simile.scoring.metrics import expected_calibration_error
from training.decision import calibrate, cross_fitted, find_thresholds, with_decisions

METHODS = ["platt", "isotonic"]
SLOPE, INTERCEPT = 8.0, -3.0


def pairs_of(num_pairs, num_groups, *, seed=0, slope=SLOPE, intercept=INTERCEPT):
    """Return scores, labels drawn by a logistic curve, and groups: one per positive pair, two per negative pair."""
    rng = np.random.default_rng(seed)
    score_P = rng.uniform(-0.2, 1, num_pairs).astype(np.float32)
    label_P = (rng.random(num_pairs) < expit(slope * score_P + intercept)).astype(np.float64)
    first_P = rng.integers(num_groups, size=num_pairs)
    second_P = np.where(label_P == 1, first_P, (first_P + rng.integers(1, num_groups, num_pairs)) % num_groups)
    return score_P, label_P, [(f"g{a}", f"g{b}") for a, b in zip(first_P, second_P, strict=True)]


def test_platt_recovers_the_curve_that_labels_are_drawn_by():
    score_P, label_P, _ = pairs_of(20_000, 50)
    curve = calibrate(score_P, label_P, "platt")
    assert (curve.slope, curve.intercept) == pytest.approx((SLOPE, INTERCEPT), rel=0.05)
    assert curve.positive_share == label_P.mean()


def test_isotonic_is_the_curve_that_scikit_learn_fits():
    score_P, label_P, _ = pairs_of(500, 50)
    curve = calibrate(score_P, label_P, "isotonic")
    expected_P = IsotonicRegression(out_of_bounds="clip").fit(score_P, label_P).predict(score_P)
    np.testing.assert_allclose(probability(curve, score_P), expected_P, atol=1e-6)
    assert curve.positive_share == label_P.mean()
    assert curve.error is None


@pytest.mark.parametrize("method", METHODS)
def test_constant_or_random_scores_give_the_share_of_positives(method):
    label_P = np.array([0.0, 1.0, 1.0, 0.0, 1.0] * 20)
    alike = calibrate(np.full(100, 0.5, dtype=np.float32), label_P, method)
    assert probability(alike, np.array([-1, 0.5, 1], dtype=np.float32))[1] == pytest.approx(0.6, abs=1e-3)


def test_isotonic_never_falls_where_negatives_score_higher():
    score_P, label_P, _ = pairs_of(500, 50)
    curve = calibrate(score_P, 1 - label_P, "isotonic")
    assert np.ptp(curve.probabilities) < 0.2


@pytest.mark.parametrize("method", METHODS)
def test_cross_fitted_error_of_calibrated_scores_is_chance(method):
    score_P, label_P, ends = pairs_of(4000, 40)
    assert expected_calibration_error(cross_fitted(score_P, label_P, ends, method), label_P) < 0.035


def test_cross_fitted_error_shows_which_method_fits():
    # No logistic curve has steps.
    score_P, _, _ = pairs_of(4000, 40)
    share_P = np.select([score_P < 0, score_P < 0.8], [0.02, 0.4], 0.98)
    label_P = (np.random.default_rng(1).random(4000) < share_P).astype(np.float64)
    ends = [(f"a{i}", f"b{i}") for i in range(len(score_P))]
    errors = [expected_calibration_error(cross_fitted(score_P, label_P, ends, method), label_P) for method in METHODS]
    assert errors[0] > 0.06
    assert errors[1] < 0.03


def test_cross_fitted_error_is_not_that_of_the_fit_itself():
    # Labels are random; on the pairs that it was fitted on, an isotonic curve has no error.
    score_P, label_P, ends = pairs_of(300, 60, slope=0, intercept=0)
    fitted_P = probability(calibrate(score_P, label_P, "isotonic"), score_P)
    assert expected_calibration_error(fitted_P, label_P) < 0.005
    assert expected_calibration_error(cross_fitted(score_P, label_P, ends, "isotonic"), label_P) > 0.03


@pytest.mark.parametrize("method", METHODS)
def test_probability_of_a_pair_does_not_come_from_pairs_that_share_a_group_with_it(method):
    score_P, label_P, ends = pairs_of(600, 30)
    before = cross_fitted(score_P, label_P, ends, method)
    # A positive pair has one group, a negative one two.
    for i in (label_P.argmax(), label_P.argmin()):
        shares_P = np.array([bool(set(pair) & set(ends[i])) for pair in ends])
        for is_other_P, depends in ((shares_P, False), (~shares_P, True)):
            changed_P = np.where(is_other_P & (np.arange(600) != i), -score_P, score_P)
            assert (cross_fitted(changed_P, label_P, ends, method)[i] != before[i]) == depends


def test_mean_probability_is_the_share_of_positives_of_all_pairs():
    # Scores are random, so each probability is the share of positives that its curve was shifted to.
    score_P, label_P, ends = pairs_of(3000, 30, slope=0, intercept=0)
    assert cross_fitted(score_P, label_P, ends, "platt").mean() == pytest.approx(label_P.mean(), abs=0.01)


@pytest.mark.parametrize("num_groups", [2, 3])
def test_too_few_groups_for_folds_give_no_error(num_groups):
    assert cross_fitted(*pairs_of(200, num_groups), "platt") is None


def test_few_groups_that_fill_the_folds_are_enough():
    assert cross_fitted(*pairs_of(400, 6), "platt").shape == (400,)


class FixedScorer:
    """A scorer whose score is the number that the first text of a pair spells."""

    def score(self, pairs):
        return np.array([float(text) for text, _ in pairs], dtype=np.float32)


@pytest.fixture
def pair_set(tmp_path):
    def make(name, num_pairs, positive_share):
        rows = [
            {"text_a": str(i / num_pairs), "text_b": "x", "label": int(i >= num_pairs * (1 - positive_share))}
            for i in range(num_pairs)
        ]
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
        return read_labelled_pairs(tmp_path / name)

    return make


@pytest.mark.parametrize(("num_pairs", "share"), [(50, 0.2), (49, 0.5)], ids=["enough", "too few"])
def test_pairs_like_those_to_be_scored_are_used_if_there_are_enough(bundle, pair_set, num_pairs, share):
    target, dev = pair_set("target.jsonl", num_pairs, 0.2), pair_set("dev.jsonl", 200, 0.5)
    manifest = with_decisions(bundle.manifest, FixedScorer(), [target], [dev], method="platt")
    assert manifest.calibration.positive_share == pytest.approx(share)
    assert manifest.thresholds.best_f1 == pytest.approx(1 - share)


def test_without_enough_pairs_the_manifest_is_unchanged(bundle, pair_set):
    few = pair_set("few.jsonl", 20, 0.5)
    assert with_decisions(bundle.manifest, FixedScorer(), [few], [few], method="platt") == bundle.manifest


@pytest.mark.parametrize("method", METHODS)
def test_weighted_decisions_are_those_of_as_many_copies_of_each_pair(method):
    score_P, label_P, ends = pairs_of(200, 30)
    copies = np.random.default_rng(1).integers(1, 4, 200)
    score, label = np.repeat(score_P, copies), np.repeat(label_P, copies)
    assert find_thresholds(score_P, label_P, weight_P=copies.astype(float)) == find_thresholds(score, label)
    weighted = calibrate(score_P, label_P, method, weight_P=copies.astype(float))
    expected = calibrate(score, label, method)
    np.testing.assert_allclose(probability(weighted, score_P), probability(expected, score_P), atol=1e-4)
    assert weighted.positive_share == pytest.approx(expected.positive_share)
    fitted_P = cross_fitted(score_P, label_P, ends, method, weight_P=copies.astype(float))
    repeated = [end for end, num in zip(ends, copies, strict=True) for _ in range(num)]
    np.testing.assert_allclose(np.repeat(fitted_P, copies), cross_fitted(score, label, repeated, method), atol=1e-3)
