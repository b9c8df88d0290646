import numpy as np
import pytest

from mining.report.adversarial import Sample, adversarial_auc


def random_pairs(rng, num_pairs, num_texts):
    a_P = rng.integers(num_texts, size=num_pairs)
    return np.stack([a_P, (a_P + rng.integers(1, num_texts, size=num_pairs)) % num_texts], axis=1)


def sample(rng, num_pairs, num_texts, *, num_features=4, shift=0.0) -> Sample:
    """Return pairs with normally distributed features, the first of which is shifted."""
    feature_PF = rng.normal(size=(num_pairs, num_features))
    feature_PF[:, 0] += shift
    return Sample(feature_PF, random_pairs(rng, num_pairs, num_texts))


def mean_auc(make, num=4):
    """Return the mean AUC over several draws of a mined and a target sample."""
    return np.mean([adversarial_auc(*make(np.random.default_rng(seed)), seed=seed) for seed in range(num)])


@pytest.mark.parametrize("num_features", [4, 30])
def test_samples_of_one_distribution_are_indistinguishable(num_features):
    rng = np.random.default_rng(0)
    mined = sample(rng, 5000, 8000, num_features=num_features)
    target = sample(rng, 1766, 1900, num_features=num_features)
    assert adversarial_auc(mined, target, seed=0) == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("shift", [-1.0, 1.0])
def test_a_shifted_feature_distinguishes_the_samples(shift):
    rng = np.random.default_rng(0)
    auc = adversarial_auc(sample(rng, 5000, 8000, shift=shift), sample(rng, 1766, 1900), seed=0)
    # Apart from chance, no classifier exceeds the normal distribution function at 1 / sqrt(2).
    assert 0.7 < auc < 0.76 + 0.03


def test_a_recognized_text_does_not_help():
    def make(rng, *, knows_texts):
        samples = []
        for num_pairs, num_texts in [(2000, 400), (1200, 240)]:
            text_P2 = random_pairs(rng, num_pairs, num_texts)
            feature_PF = np.sort(rng.random(num_texts)[text_P2], axis=1)
            samples.append(Sample(feature_PF, text_P2 if knows_texts else np.arange(2 * num_pairs).reshape(-1, 2)))
        return samples

    assert mean_auc(lambda rng: make(rng, knows_texts=True)) == pytest.approx(0.5, abs=0.03)
    # If the numbers claim that no text occurs twice, the classifier is tested on texts that it recognizes.
    assert mean_auc(lambda rng: make(rng, knows_texts=False)) > 0.6


def test_a_feature_known_for_one_sample_only_distinguishes_them():
    rng = np.random.default_rng(0)
    mined, target = sample(rng, 1000, 1000), sample(rng, 500, 500)
    mined.feature_PF[:, 2] = np.nan
    assert adversarial_auc(mined, target, seed=0) > 0.99


def test_an_unknown_feature_does_not_help():
    rng = np.random.default_rng(0)
    mined, target = sample(rng, 1000, 1000), sample(rng, 500, 500)
    mined.feature_PF[:], target.feature_PF[:] = np.nan, np.nan
    assert adversarial_auc(mined, target, seed=0) == 0.5


def test_units_of_the_features_do_not_matter():
    rng = np.random.default_rng(0)
    mined, target = sample(rng, 1000, 1000, shift=0.5), sample(rng, 500, 500)
    scaled = [Sample(np.exp(pairs.feature_PF), pairs.text_P2) for pairs in (mined, target)]
    assert adversarial_auc(mined, target, seed=0) == adversarial_auc(*scaled, seed=0)


def test_auc_depends_on_the_seed_only():
    rng = np.random.default_rng(0)
    mined, target = sample(rng, 1000, 1000), sample(rng, 500, 500)
    one, again, other = (adversarial_auc(mined, target, seed=seed) for seed in (1, 1, 2))
    assert one == again != other


@pytest.mark.parametrize(
    ("num_mined", "num_target", "num_texts"),
    [
        pytest.param(0, 0, 10, id="none at all"),
        pytest.param(1000, 0, 1000, id="no target pairs"),
        pytest.param(0, 1000, 1000, id="no mined pairs"),
        pytest.param(5000, 60, 1000, id="a few target pairs"),
        pytest.param(1, 1, 2, id="one each"),
    ],
)
def test_too_few_pairs_have_no_auc(num_mined, num_target, num_texts):
    rng = np.random.default_rng(0)
    mined, target = sample(rng, num_mined, num_texts), sample(rng, num_target, num_texts)
    assert adversarial_auc(mined, target, seed=0) is None


def test_pairs_that_all_share_a_text_have_no_auc():
    rng = np.random.default_rng(0)
    mined, target = sample(rng, 2000, 1000), sample(rng, 2000, 1000)
    hub_P2 = np.stack([np.zeros(2000, dtype=np.int64), 1 + np.arange(2000)], axis=1)
    assert adversarial_auc(mined, Sample(target.feature_PF, hub_P2), seed=0) is None
