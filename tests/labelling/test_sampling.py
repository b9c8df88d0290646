"""Pairs to label: proposed from near to far, drawn by strata with exact probabilities."""

import numpy as np
import pytest

from labelling.sampling import NEAREST, propose_pairs, sample_pairs
from simile.artifacts import SampledPair
from simile.artifacts.strata import STRATA, strata_of
from simile.errors import InputError


def pairs_with(score_P, probability_P=None):
    """Return a pair per score, whose first text is its number."""
    probability_P = np.ones(len(score_P)) if probability_P is None else probability_P
    both = zip(score_P.tolist(), probability_P.tolist(), strict=True)
    return [SampledPair(str(i), "b", score, None, None, probability) for i, (score, probability) in enumerate(both)]


def test_strata_give_equal_numbers_or_all_that_they_have():
    score_P = np.repeat([0.12, 0.52, 0.91], [500, 300, 20])
    sample, counts = sample_pairs(pairs_with(score_P), 220, seed=1)
    assert [(one.name, one.population, one.sample) for one in counts] == [
        ("0.10 to 0.15", 500, 100),
        ("0.50 to 0.55", 300, 100),
        ("0.90 to 0.95", 20, 20),
    ]
    shares = {one.name: one.sample / one.population for one in counts}
    assert len({pair.key for pair in sample}) == 220
    for pair in sample:
        assert pair.stratum == STRATA[strata_of(np.array([pair.bundle_score]))[0]]
        assert pair.inclusion_probability == pytest.approx(shares[pair.stratum])


def test_probability_of_inclusion_is_the_frequency_of_inclusion():
    score_P = np.random.default_rng(0).beta(2, 6, size=60)
    pairs = pairs_with(score_P)
    counts, probabilities = np.zeros(60), np.full(60, np.nan)
    for seed in range(1000):
        for pair in sample_pairs(pairs, 20, seed=seed)[0]:
            counts[int(pair.text_a)] += 1
            probabilities[int(pair.text_a)] = pair.inclusion_probability
    # The standard error of a frequency is 0.016 at most.
    np.testing.assert_allclose(counts / 1000, probabilities, atol=0.065)


def test_two_stages_multiply_and_estimate_the_traffic():
    random = np.random.default_rng(3)
    traffic_P = random.beta(2, 6, size=20_000)
    rate_P = np.where(traffic_P > 0.5, 0.5, 0.05)
    estimates = []
    for seed in range(100):
        (drawn,) = np.nonzero(random.random(20_000) < rate_P)
        sample, _ = sample_pairs(pairs_with(traffic_P[drawn], rate_P[drawn]), 300, seed=seed)
        weights = np.array([1 / pair.inclusion_probability for pair in sample])
        scores = np.array([pair.bundle_score for pair in sample])
        estimates.append((weights * (scores > 0.6)).sum())
    truth = (traffic_P > 0.6).sum()
    assert abs(np.mean(estimates) - truth) < 3.5 * np.std(estimates) / 10


def test_table_tells_what_a_sample_of_traffic_stands_for():
    pairs = pairs_with(np.array([0.3, 0.31, 0.8]), np.array([0.1, 0.5, 1.0]))
    _, counts = sample_pairs(pairs, 10, seed=0)
    assert [(one.population, one.weight, one.sample) for one in counts] == [(2, 12.0, 2), (1, 1.0, 1)]


def test_order_is_random_and_repeatable():
    pairs = pairs_with(np.linspace(0, 0.99, 100))
    first, again, other = (sample_pairs(pairs, 50, seed=seed)[0] for seed in (7, 7, 8))
    assert first == again != other
    scores = [pair.bundle_score for pair in first]
    assert abs(np.corrcoef(scores, np.arange(50))[0, 1]) < 0.5


def test_baseline_score_stands_in_for_the_bundles_and_none_is_refused():
    pairs = [SampledPair("a", "b", None, 0.42)]
    assert sample_pairs(pairs, 5, seed=0)[0][0].stratum == "0.40 to 0.45"
    with pytest.raises(InputError, match="without bundle_score or baseline_score"):
        sample_pairs([SampledPair("a", "b")], 5, seed=0)


def unit_vectors(num, seed=0):
    vector_ND = np.random.default_rng(seed).normal(size=(num, 4)).astype(np.float32)
    return vector_ND / np.linalg.norm(vector_ND, axis=1, keepdims=True)


@pytest.mark.parametrize("num", [2, 3, 15, 40, 600])
def test_proposed_pairs_are_the_near_ones_and_those_of_doubled_ranks(num):
    embedding_ND = unit_vectors(num)
    expected = set()
    for i in range(num):
        others = sorted((j for j in range(num) if j != i), key=lambda j, i=i: -(embedding_ND[i] @ embedding_ND[j]))
        ranks = [*range(NEAREST), *(2**power - 1 for power in range(4, 12))]
        expected |= {(min(i, others[rank]), max(i, others[rank])) for rank in ranks if rank < len(others)}
    pairs = list(map(tuple, propose_pairs(embedding_ND).tolist()))
    assert len(pairs) == len(set(pairs))
    # Two documents that are equally far may swap by a rounding error.
    assert len(expected ^ set(pairs)) <= len(expected) / 1000


def test_no_documents_give_no_pairs():
    assert propose_pairs(unit_vectors(1)).shape == propose_pairs(unit_vectors(0)).shape == (0, 2)
