import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import norm, spearmanr, t

from evaluation import bootstrap
from evaluation.bootstrap import SEED, difference, low_end, unit_of
from simile.artifacts import Pair, PairSet
from simile.scoring.weighted_spearman import WeightedSpearman

# Few different values, so that ties are the rule.
tied = st.integers(-5, 5).map(lambda value: value / 4)


def pair_set(rows) -> PairSet:
    return PairSet("x", tuple(rows), "0" * 64)


def random_pairs(num: int, *, num_texts: int, seed: int = 0, grouped: bool = False) -> PairSet:
    """Labelled pairs that share their texts, some of a text with itself."""
    rng = np.random.default_rng(seed)
    rows = []
    for a, b in rng.integers(0, num_texts, (num, 2)):
        groups = {"group_a": f"g{a % 5}", "group_b": f"g{b % 5}"} if grouped else {}
        rows.append(Pair(f"text {a}", f"text {b}", label=int(rng.integers(0, 2)), **groups))
    return pair_set(rows)


def scores(pairs: PairSet, noise: float, seed: int = 1):
    """The better the less noise there is."""
    rng = np.random.default_rng(seed)
    return (pairs.target_P + noise * rng.normal(size=len(pairs.rows))).astype(np.float32)


@given(st.data(), st.integers(2, 20))
def test_weighted_spearman_is_scipys_on_as_many_copies(data, num):
    score_P = data.draw(arrays(np.float32, num, elements=tied))
    target_P = data.draw(arrays(np.float64, num, elements=tied))
    weight_P = data.draw(arrays(np.float64, num, elements=st.integers(0, 4).map(float)))
    copies = weight_P.astype(int)
    expanded = [np.repeat(values, copies) for values in (score_P, target_P)]
    correlation = WeightedSpearman(score_P, target_P)(weight_P)
    if any(len(set(values)) < 2 for values in expanded):
        assert math.isnan(correlation)
    else:
        assert correlation == pytest.approx(spearmanr(*expanded).statistic, abs=1e-9)


@given(arrays(np.float32, 15, elements=tied), arrays(np.float64, 15, elements=tied))
def test_weighted_spearman_with_even_weights_is_scipys(score_P, target_P):
    assume(len(set(score_P)) > 1)
    assume(len(set(target_P)) > 1)
    expected = spearmanr(score_P, target_P).statistic
    for weight in (1.0, 3.0):
        correlation = WeightedSpearman(score_P, target_P)(np.full(15, weight))
        assert correlation == pytest.approx(expected, abs=1e-9)


def test_rows_of_weights_give_what_each_gives_alone():
    pairs = random_pairs(30, num_texts=12)
    spearman = WeightedSpearman(scores(pairs, 1), pairs.target_P)
    weight_RP = np.random.default_rng(0).integers(0, 3, (7, 30)).astype(float)
    weight_RP[3] = 0
    np.testing.assert_array_equal(spearman(weight_RP), [spearman(weight_P) for weight_P in weight_RP])


def test_weighted_spearman_is_the_same_again_after_other_weights():
    pairs = random_pairs(30, num_texts=12)
    spearman = WeightedSpearman(scores(pairs, 1), pairs.target_P)
    first = spearman(np.ones(30))
    spearman(np.arange(30.0))
    assert spearman(np.ones(30)) == first


def test_no_weight_at_all_is_not_a_number():
    assert math.isnan(WeightedSpearman(np.arange(3.0), np.arange(3.0))(np.zeros(3)))


def test_groups_are_drawn_where_every_text_has_one_and_texts_elsewhere():
    grouped = Pair("a", "b", label=1, group_a="g", group_b="h")
    assert unit_of(pair_set([grouped, grouped])) == "group"
    assert unit_of(pair_set([grouped, Pair("a", "b", label=1, group_a="g")])) == "text"
    assert unit_of(pair_set([Pair("a", "b", label=1)])) == "text"


def reference(pairs: PairSet, score_P, baseline_P, resamples: int):
    """The difference and its interval by expanding every resample and asking SciPy.

    Units are numbered as they first appear, and as many are drawn as there are.
    """
    if unit_of(pairs) == "group":
        ends = [(row.group_a, row.group_b) for row in pairs.rows]
    else:
        ends = [(row.text_a, row.text_b) for row in pairs.rows]
    units = list(dict.fromkeys(end for pair in ends for end in pair))
    rng, gains = np.random.default_rng(SEED), []
    for _ in range(resamples):
        drawn = [units[i] for i in rng.integers(0, len(units), len(units))]
        copies = [drawn.count(a) if a == b else drawn.count(a) * drawn.count(b) for a, b in ends]
        target, bundle, baseline = (np.repeat(values, copies) for values in (pairs.target_P, score_P, baseline_P))
        if len(set(target)) > 1:
            gains.append(spearmanr(bundle, target).statistic - spearmanr(baseline, target).statistic)
    value = spearmanr(score_P, pairs.target_P).statistic - spearmanr(baseline_P, pairs.target_P).statistic
    # The percentiles' distances from the difference, widened by Student's t for as few units.
    factor = t.ppf(0.975, len(units) - 1) / norm.ppf(0.975) * math.sqrt(len(units) / (len(units) - 1))
    low, high = np.percentile(gains, [2.5, 97.5])
    return value, value - factor * (value - low), value + factor * (high - value)


@pytest.mark.parametrize("grouped", [True, False], ids=["groups", "texts"])
def test_difference_is_that_of_a_reference_that_expands_every_resample(grouped):
    pairs = random_pairs(60, num_texts=25, grouped=grouped)
    score_P, baseline_P = scores(pairs, 0.5), scores(pairs, 1.5, seed=2)
    interval = difference(pairs, score_P, baseline_P, resamples=200)
    expected = reference(pairs, score_P, baseline_P, 200)
    assert (interval.value, interval.low, interval.high) == pytest.approx(expected, abs=1e-9)


def test_difference_does_not_depend_on_how_many_resamples_are_computed_at_once(monkeypatch):
    pairs = random_pairs(60, num_texts=25)
    both = scores(pairs, 0.5), scores(pairs, 1.5, seed=2)
    at_once = difference(pairs, *both, resamples=100)
    monkeypatch.setattr(bootstrap, "_WEIGHTS_AT_ONCE", 7 * 60)
    assert difference(pairs, *both, resamples=100) == at_once


def test_low_end_at_another_level_is_that_of_students_t():
    ratio = t.ppf(0.9875, 9) / t.ppf(0.975, 9)
    assert low_end(0.3, 0.1, units=10, alpha=0.025) == pytest.approx(0.3 - 0.2 * ratio)
    assert low_end(0.3, 0.1, units=10, alpha=0.05) == 0.1
    lows = [low_end(0.3, 0.1, units=10, alpha=0.05 / looks) for looks in range(1, 50)]
    assert lows == sorted(lows, reverse=True)


def test_difference_of_graded_pairs_is_that_of_the_reference():
    rng = np.random.default_rng(3)
    rows = [Pair(f"t{a}", f"t{b}", score=float(rng.integers(0, 6))) for a, b in rng.integers(0, 20, (50, 2))]
    pairs = pair_set(rows)
    score_P, baseline_P = scores(pairs, 1), scores(pairs, 4, seed=2)
    interval = difference(pairs, score_P, baseline_P, resamples=100)
    assert (interval.value, interval.low, interval.high) == pytest.approx(
        reference(pairs, score_P, baseline_P, 100), abs=1e-9
    )


def test_the_same_scores_differ_by_nothing_in_every_resample():
    pairs = random_pairs(60, num_texts=25)
    interval = difference(pairs, scores(pairs, 1), scores(pairs, 1), resamples=50)
    assert (interval.value, interval.low, interval.high) == (0, 0, 0)


def test_scores_in_another_unit_differ_by_nothing():
    pairs = random_pairs(60, num_texts=25)
    score_P = scores(pairs, 1)
    interval = difference(pairs, score_P, 2 * score_P + 1, resamples=50)
    assert (interval.value, interval.low, interval.high) == (0, 0, 0)


def test_swapping_the_two_turns_the_interval_round():
    pairs = random_pairs(80, num_texts=30)
    one, other = scores(pairs, 0.5), scores(pairs, 1, seed=2)
    forwards, backwards = (difference(pairs, *both, resamples=100) for both in ((one, other), (other, one)))
    assert (forwards.value, forwards.low, forwards.high) == pytest.approx(
        (-backwards.value, -backwards.high, -backwards.low)
    )


def test_difference_is_the_same_every_time():
    pairs = random_pairs(40, num_texts=20)
    both = scores(pairs, 0.5), scores(pairs, 1, seed=2)
    assert difference(pairs, *both, resamples=50) == difference(pairs, *both, resamples=50)


def test_a_better_model_has_its_interval_above_zero_and_a_worse_one_below():
    pairs = random_pairs(400, num_texts=150)
    good, bad = scores(pairs, 0.3), scores(pairs, 2, seed=2)
    better, worse = (difference(pairs, *both, resamples=200) for both in ((good, bad), (bad, good)))
    assert 0 < better.low < better.value < better.high
    assert worse.low < worse.value < worse.high < 0


def test_interval_of_two_models_as_good_as_each_other_holds_zero_nearly_always():
    held = 0
    for seed in range(60):
        pairs = random_pairs(150, num_texts=60, seed=seed)
        interval = difference(
            pairs, scores(pairs, 1, seed=1000 + seed), scores(pairs, 1, seed=2000 + seed), resamples=100
        )
        held += interval.low <= 0 <= interval.high
    # Of 60 intervals of 95 %, 57 are expected to; the noise here is of the pairs, so drawing texts is on the safe side.
    assert held >= 54


def clustered(seed: int, *, num_texts: int = 30, num: int = 600):
    """Pairs, and two models of equal merit whose errors are those of their texts."""
    pairs = random_pairs(num, num_texts=num_texts, seed=seed)
    rng = np.random.default_rng(10_000 + seed)
    models = []
    for _ in range(2):
        error = dict(zip([f"text {i}" for i in range(num_texts)], rng.normal(size=num_texts), strict=True))
        of_pair = [error[row.text_a] + error[row.text_b] for row in pairs.rows]
        models.append((pairs.target_P + np.array(of_pair)).astype(np.float32))
    return pairs, *models


def apart(pairs: PairSet) -> PairSet:
    """The same pairs, each a unit of its own: drawing units is then drawing pairs."""
    return pair_set(replace(row, group_a=f"g{i}", group_b=f"g{i}") for i, row in enumerate(pairs.rows))


def test_where_pairs_share_texts_drawing_texts_holds_zero_and_drawing_pairs_does_not():
    held_by_text, held_by_pair = 0, 0
    for seed in range(40):
        pairs, one, other = clustered(seed)
        by_text = difference(pairs, one, other, resamples=100)
        by_pair = difference(apart(pairs), one, other, resamples=100)
        assert by_text.high - by_text.low > by_pair.high - by_pair.low
        held_by_text += by_text.low <= 0 <= by_text.high
        held_by_pair += by_pair.low <= 0 <= by_pair.high
    assert held_by_text >= 35
    assert held_by_pair < held_by_text


def test_where_every_resample_is_of_one_class_there_is_no_interval():
    pairs = pair_set([Pair("a", "b", label=1), Pair("c", "d", label=0)])
    # One text short of a pair in nearly every draw of four; ask for few, so that none has both.
    interval = difference(pairs, np.array([0.9, 0.1]), np.array([0.1, 0.9]), resamples=1)
    assert interval.value == pytest.approx(2)
    assert math.isnan(interval.low)
    assert math.isnan(interval.high)


def test_intervals_of_few_groups_call_no_model_better_too_often():
    better, draws = 0, 200
    for seed in range(draws):
        rng = np.random.default_rng(seed)
        groups = np.repeat([f"g{i}" for i in range(5)], 10)
        pairs = pair_set(Pair(f"a{i}", f"b{i}", label=i % 2, group_a=g, group_b=g) for i, g in enumerate(groups))
        # Each model is good on some of the groups and bad on others.
        one, other = (pairs.target_P * np.repeat(rng.normal(1, 1, 5), 10) + rng.normal(size=50) for _ in range(2))
        better += difference(pairs, one.astype(np.float32), other.astype(np.float32), resamples=200).low > 0
    # Of 200 draws, 2.5 % are 5, and up to 9 once in 30 times; percentiles alone call 14 better.
    assert better <= 9


def test_difference_with_weights_is_that_of_as_many_copies_of_each_pair_in_every_resample():
    pairs = random_pairs(60, num_texts=25)
    copies = np.random.default_rng(5).integers(1, 4, 60)
    # A pair of inclusion probability 1 / 6 counts half as much as one of 1 / 12.
    weighted = pair_set(
        replace(row, inclusion_probability=float(1 / (6 * num))) for row, num in zip(pairs.rows, copies, strict=True)
    )
    expanded = pair_set(row for row, num in zip(pairs.rows, copies, strict=True) for _ in range(num))
    both = scores(pairs, 0.5), scores(pairs, 1.5, seed=2)
    interval = difference(weighted, *both, resamples=100)
    expected = difference(expanded, *(np.repeat(score_P, copies) for score_P in both), resamples=100)
    assert (interval.value, interval.low, interval.high) == pytest.approx(
        (expected.value, expected.low, expected.high), abs=1e-9
    )


def test_equal_inclusion_probabilities_change_nothing():
    pairs = random_pairs(60, num_texts=25)
    alike = pair_set(replace(row, inclusion_probability=0.1) for row in pairs.rows)
    both = scores(pairs, 0.5), scores(pairs, 1.5, seed=2)
    assert difference(alike, *both, resamples=50) == difference(pairs, *both, resamples=50)
