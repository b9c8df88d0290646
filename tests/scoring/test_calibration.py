import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, logit
from sklearn.isotonic import IsotonicRegression

from simile.artifacts import Bundle, IsotonicCalibration, PlattCalibration
from simile.errors import InputError
from simile.scoring import probability, require_prior

some_share = st.floats(0.001, 0.999)
some_number = st.floats(-100, 100)
some_scores = st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=30).map(lambda of: np.array(of, np.float32))


@st.composite
def some_isotonic(draw):
    scores = draw(st.lists(st.floats(-1, 1), min_size=1, max_size=12, unique=True).map(sorted))
    shares = draw(st.lists(st.floats(0, 1), min_size=len(scores), max_size=len(scores)).map(sorted))
    return IsotonicCalibration(scores=scores, probabilities=shares, positive_share=draw(some_share))


some_rising = some_isotonic() | st.builds(
    PlattCalibration, slope=st.floats(0, 100), intercept=some_number, positive_share=some_share
)


def test_probability_is_the_logistic_function():
    calibration = PlattCalibration(slope=7.5, intercept=-3.25, positive_share=0.5)
    score_P = np.linspace(-1, 1, 41, dtype=np.float32)
    probability_P = probability(calibration, score_P)
    np.testing.assert_allclose(probability_P, expit(7.5 * score_P.astype(np.float64) - 3.25), rtol=1e-6)
    assert probability_P.dtype == np.float32


@pytest.mark.parametrize("slope", [1e4, -1e4])
def test_probability_of_a_steep_calibration_is_certain_and_silent(slope):
    calibration = PlattCalibration(slope=slope, intercept=0, positive_share=0.5)
    probability_P = probability(calibration, np.array([-1, 0, 1], dtype=np.float32))
    np.testing.assert_array_equal(probability_P, [0, 0.5, 1] if slope > 0 else [1, 0.5, 0])


@pytest.mark.parametrize("seed", range(3))
def test_isotonic_probability_is_what_scikit_learn_predicts(seed):
    rng = np.random.default_rng(seed)
    score_P = rng.uniform(-0.5, 0.9, 300).astype(np.float32).astype(np.float64)
    model = IsotonicRegression(out_of_bounds="clip").fit(score_P, rng.random(300) < expit(5 * score_P - 1))
    calibration = IsotonicCalibration(
        scores=model.X_thresholds_.tolist(), probabilities=model.y_thresholds_.tolist(), positive_share=0.3
    )
    asked_P = np.concatenate([np.linspace(-1, 1, 501), score_P]).astype(np.float32)
    probability_P = probability(calibration, asked_P)
    np.testing.assert_allclose(probability_P, model.predict(asked_P.astype(np.float64)), rtol=1e-6)
    assert probability_P.dtype == np.float32


@given(some_rising, some_scores, st.none() | some_share)
def test_probability_never_falls_and_stays_in_its_range(calibration, score_P, prior):
    probability_P = probability(calibration, np.sort(score_P), prior=prior)
    assert np.all((probability_P >= 0) & (probability_P <= 1))
    assert np.all(np.diff(probability_P) >= -1e-7)


@given(some_rising, some_scores)
def test_prior_that_is_the_fitted_share_changes_nothing(calibration, score_P):
    shifted = probability(calibration, score_P, prior=calibration.positive_share)
    np.testing.assert_array_equal(shifted, probability(calibration, score_P))


@given(some_rising, some_scores, some_share)
def test_prior_scales_the_odds_by_how_much_the_shares_odds_differ(calibration, score_P, prior):
    before, probability_P = (probability(calibration, score_P, prior=of).astype(np.float64) for of in (None, prior))
    # Bayes' rule as Saerens et al. write it.
    positive, negative = prior / calibration.positive_share, (1 - prior) / (1 - calibration.positive_share)
    expected = before * positive / (before * positive + (1 - before) * negative)
    # Near 1, float32 has few digits left of what is not certain.
    sure = np.minimum(before, 1 - before) > 1e-3
    np.testing.assert_allclose(probability_P[sure], expected[sure], rtol=1e-3)


@pytest.mark.parametrize("prior", [1e-12, 0.1, 0.9, 1 - 1e-12])
def test_certain_pairs_stay_certain_under_every_prior(prior):
    calibration = IsotonicCalibration(scores=(0.1, 0.6), probabilities=(0, 1), positive_share=0.5)
    score_P = np.array([-1, 0.1, 0.6, 1], dtype=np.float32)
    np.testing.assert_array_equal(probability(calibration, score_P, prior=prior)[[0, 3]], [0, 1])


def test_prior_makes_the_probabilities_those_of_such_pairs():
    # Scores of two bell curves: of each share of positives the true probability is known.
    shares = {share: logit(share) for share in (0.5, 0.1)}
    score_P = np.linspace(-0.5, 1, 31, dtype=np.float32)
    fitted = PlattCalibration(slope=10, intercept=-4 + shares[0.5], positive_share=0.5)
    expected = PlattCalibration(slope=10, intercept=-4 + shares[0.1], positive_share=0.1)
    np.testing.assert_allclose(probability(fitted, score_P, prior=0.1), probability(expected, score_P), rtol=1e-6)


@pytest.mark.parametrize("prior", [0, 1, -0.5, 1.5, np.nan, np.inf])
def test_prior_that_is_no_share_is_refused(bundle, prior):
    with pytest.raises(InputError, match=r"got a prior of \S+, need a share of positives above 0 and below 1"):
        require_prior(bundle, prior)


def test_prior_for_a_bundle_without_calibration_is_refused(bundle):
    manifest = bundle.manifest.model_copy(update={"calibration": None})
    uncalibrated = Bundle(bundle.path, manifest, bundle.data)
    with pytest.raises(InputError, match=r"got a prior of 0.1 for a bundle without calibration, need one made with"):
        require_prior(uncalibrated, 0.1)
    require_prior(uncalibrated, None)
    require_prior(bundle, 0.1)
