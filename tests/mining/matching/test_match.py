from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from mining.matching.match import CALIPER, match_classes, match_target
from mining.matching.picker import Picker, UsageCounts
from mining.sampling.cells import tfidf_bins
from mining.sampling.features import Candidates, join

MIN_SPREAD = np.array([0.02, 0.05, 0.02])


def pairs_of(tfidf, is_positive, *, ratio=0.5, baseline=np.nan, is_same=False, a=None, b=None) -> Candidates:
    """Return pairs with these features; without ``a`` and ``b``, each pair has texts of its own."""
    num = len(tfidf)
    columns = [np.broadcast_to(np.asarray(values, dtype=np.float64), num) for values in (tfidf, ratio, baseline)]
    return Candidates(
        np.arange(num) * 2 if a is None else np.array(a, dtype=np.int64),
        np.arange(num) * 2 + 1 if b is None else np.array(b, dtype=np.int64),
        *columns,
        np.broadcast_to(np.asarray(is_positive, dtype=bool), num).copy(),
        np.broadcast_to(np.asarray(is_same, dtype=bool), num).copy(),
    )


def random_pairs(num, seed=0, *, positives=0.5) -> Candidates:
    rng = np.random.default_rng(seed)
    return pairs_of(
        rng.uniform(0, 0.6, num),
        rng.random(num) < positives,
        ratio=rng.uniform(0.2, 1, num),
        baseline=rng.uniform(-0.2, 1, num),
        is_same=rng.random(num) < 0.5,
    )


@st.composite
def some_pairs(draw):
    """Draw pairs of few texts with few different features."""
    ends = draw(st.sets(st.tuples(st.integers(0, 9), st.integers(10, 19)), min_size=1, max_size=60))
    ends = draw(st.permutations(sorted(ends)))
    many = {"min_size": len(ends), "max_size": len(ends)}
    return pairs_of(
        draw(st.lists(st.sampled_from([0.06, 0.11, 0.12, 0.13, 0.3]), **many)),
        draw(st.lists(st.booleans(), **many)),
        ratio=draw(st.lists(st.sampled_from([0.5, 0.52, 0.9]), **many)),
        is_same=draw(st.lists(st.booleans(), **many)),
        a=[a for a, _ in ends],
        b=[b for _, b in ends],
    )


def with_both_classes(pairs: Candidates) -> bool:
    return bool(pairs.is_positive_C.any()) and not pairs.is_positive_C.all()


def picker_of(candidates, max_uses=20, *, group_N=None, usage=None) -> Picker:
    """Return a picker of the candidates; without ``group_N``, each text is a group of its own."""
    num_texts = int(max(candidates.a_C.max(initial=-1), candidates.b_C.max(initial=-1))) + 1
    groups = np.arange(num_texts) if group_N is None else np.array(group_N)
    return Picker(candidates, max_uses, usage or UsageCounts(groups))


def matched(candidates, target, num_each, *, weights=None, max_uses=20, group_N=None, seed=0) -> Candidates:
    picker = picker_of(candidates, max_uses, group_N=group_N)
    weight_T = np.ones(len(target)) if weights is None else np.array(weights, dtype=np.float64)
    match_target(picker, target, weight_T, num_each, np.random.default_rng(seed))
    return candidates.take(picker.chosen)


def alike(candidates, num_each, *, wanted_same, max_uses=20) -> Candidates:
    picker = picker_of(candidates, max_uses)
    match_classes(picker, np.broadcast_to(np.asarray(wanted_same), len(candidates)), num_each)
    return candidates.take(picker.chosen)


def of_class(pairs: Candidates, label: bool) -> Candidates:
    return pairs.take(pairs.is_positive_C == label)


def by_class(pairs: Candidates) -> tuple[int, int]:
    """Return the numbers of positives and of negatives."""
    return int(pairs.is_positive_C.sum()), int((~pairs.is_positive_C).sum())


def max_usage(pairs: Candidates) -> int:
    ends = np.concatenate([pairs.a_C, pairs.b_C]).tolist()
    return max(Counter(zip(ends, 2 * pairs.is_positive_C.tolist(), strict=True)).values(), default=0)


def calipers(points: Candidates, num_features: int = 3):
    """Return the largest distance of a match from the points in each feature."""
    spread_F = np.maximum(points.feature_CF[:, :num_features].std(axis=0), MIN_SPREAD[:num_features])
    return spread_F * CALIPER[:num_features]


def distances(points: Candidates, others: Candidates, caliper_F):
    """Return the distance of each point to each of the others, in calipers: the largest over the features."""
    num = len(caliper_F)
    gaps = np.abs(points.feature_CF[:, None, :num] - others.feature_CF[None, :, :num]) / caliper_F
    return np.where(np.isnan(gaps), 0, gaps).max(axis=2)


# Taking


def test_no_text_is_in_more_pairs_of_a_class_than_allowed():
    star = pairs_of([0.1] * 6, [True, True, True, False, False, False], a=[0] * 6, b=[1, 2, 3, 1, 2, 3])
    picker = picker_of(star, 2)
    assert picker.take_some([2, 1, 0, 5, 4, 3], 6) == [2, 1, 5, 4]
    assert picker.chosen.tolist() == [1, 2, 4, 5]
    assert [picker.is_free(i) for i in range(6)] == [False] * 6


def test_a_candidate_is_taken_once():
    picker = picker_of(pairs_of([0.1, 0.2], [True, False]), 5)
    assert [picker.take(0), picker.take(0), picker.take(1)] == [True, False, True]
    assert picker.take_some([0, 1], 2) == []


def test_take_some_takes_the_first_free_ones():
    picker = picker_of(pairs_of([0.1] * 5, [True] * 5), 5)
    assert picker.take(3)
    assert picker.take_some(np.array([4, 3, 1, 0]), 2) == [4, 1]
    assert picker.take_some([2, 0], 0) == []
    assert picker.chosen.tolist() == [1, 3, 4]


def test_a_released_candidate_frees_its_texts():
    picker = picker_of(pairs_of([0.1, 0.1], [True, True], a=[0, 0], b=[1, 2]), 1)
    assert picker.take(0)
    assert not picker.take(1)
    picker.release(0)
    assert picker.chosen.tolist() == []
    assert picker.take(1)
    assert not picker.take(0)


def test_usage_count_adds_up_texts_and_groups_of_the_class():
    # Three documents are of one group, and one is alone.
    candidates = pairs_of([0.1] * 4, [True, True, True, False], a=[0, 1, 1, 1], b=[3, 3, 2, 3])
    picker = picker_of(candidates, group_N=[0, 0, 0, 1])
    assert [picker.usage_count(i) for i in range(4)] == [0, 0, 0, 0]
    assert picker.take(0)
    # The first group was used 1/3 times per document, the other text and its group once; a group counts twice.
    assert [picker.usage_count(i) for i in range(4)] == pytest.approx([1 + 2 / 3 + 3, 2 / 3 + 3, 4 / 3, 0])
    picker.release(0)
    assert [picker.usage_count(i) for i in range(4)] == pytest.approx([0, 0, 0, 0])


def test_pickers_can_share_usage_counts():
    star = pairs_of([0.1] * 3, [True] * 3, a=[0] * 3, b=[1, 2, 3])
    usage = UsageCounts(np.arange(5))
    assert picker_of(star, 2, usage=usage).take_some([0], 1) == [0]
    assert picker_of(star, 2, usage=usage).take_some([1, 2], 2) == [1]
    assert usage.of_text[1::2] == [2, 1, 1, 0, 0]
    assert usage.of_text[::2] == [0] * 5


@given(some_pairs(), st.integers(1, 3), st.lists(st.integers(0, 59), max_size=80))
def test_free_candidates_are_those_of_brute_force_after_any_takes_and_releases(pairs, max_uses, steps):
    picker, taken = picker_of(pairs, max_uses), set()
    for index in (step % len(pairs) for step in steps):
        if index in taken:
            picker.release(index)
            taken.remove(index)
        elif picker.take(index):
            taken.add(index)
    assert picker.chosen.tolist() == sorted(taken)
    for index in range(len(pairs)):
        with_it = pairs.take(np.array([*taken, index]))
        assert picker.is_free(index) == (index not in taken and max_usage(with_it) <= max_uses)


# Matching to a target


def skewed_target(num=800) -> Candidates:
    """Return pairs with correlated features: few common words go with one category, similar lengths, high cosines."""
    rng = np.random.default_rng(7)
    tfidf = rng.beta(2, 5, num) * 0.6
    is_positive = rng.random(num) < 0.5
    is_same = rng.random(num) < np.where(is_positive, 0.9, 0.9 - 1.2 * tfidf)
    baseline = 0.3 + 0.3 * is_positive - 0.4 * tfidf + rng.normal(0, 0.1, num)
    ratio = np.clip(0.8 - tfidf + rng.normal(0, 0.1, num), 0.25, 1)
    return pairs_of(tfidf, is_positive, ratio=ratio, baseline=baseline, is_same=is_same)


@pytest.fixture(scope="module")
def plenty():
    return random_pairs(60_000)


QUANTILES = [[0.25, 0.5, 0.75], [0.5], [0.5]]


def cell_shares(pairs: Candidates, edges):
    """Return each cell's share of the pairs: quarters of TF-IDF, halves of length ratio and of baseline, category."""
    digits = [np.searchsorted(inner, values) for inner, values in zip(edges, pairs.feature_CF.T, strict=True)]
    cells = np.ravel_multi_index([*digits, pairs.is_same_category_C.astype(int)], (4, 2, 2, 2))
    return np.bincount(cells, minlength=32) / len(pairs)


def test_with_many_candidates_each_class_has_the_number_wanted_and_the_targets_joint_distribution(plenty):
    target = skewed_target()
    chosen = matched(plenty, target, 400)
    assert by_class(chosen) == (400, 400)
    for label in (True, False):
        mined, wanted = of_class(chosen, label), of_class(target, label)
        edges = [np.quantile(values, levels) for values, levels in zip(wanted.feature_CF.T, QUANTILES, strict=True)]
        distance = np.abs(cell_shares(mined, edges) - cell_shares(wanted, edges)).sum() / 2
        # The candidates themselves are uniformly distributed, far from the target.
        assert np.abs(cell_shares(plenty, edges) - cell_shares(wanted, edges)).sum() / 2 > 0.3
        assert distance < 0.1


def test_no_pair_is_farther_from_the_target_than_the_caliper(plenty):
    target = skewed_target(60)
    chosen = matched(plenty, target, 2000)
    # There are too few candidates within the caliper, which still holds.
    assert 20 < min(by_class(chosen)) <= max(by_class(chosen)) < 2000
    for label in (True, False):
        caliper_F = calipers(of_class(target, label))
        for is_same in (True, False):
            mined, wanted = (
                pairs.take(pairs.is_same_category_C == is_same)
                for pairs in (of_class(chosen, label), of_class(target, label))
            )
            if len(mined):
                assert distances(mined, wanted, caliper_F).min(axis=1).max() < 1


@given(some_pairs(), some_pairs().filter(with_both_classes), st.integers(1, 30), st.integers(1, 3))
def test_never_more_than_wanted_nor_a_text_or_a_pair_too_often(candidates, target, num_each, max_uses):
    chosen = matched(candidates, target, num_each, max_uses=max_uses)
    assert max(by_class(chosen)) <= num_each
    assert max_usage(chosen) <= max_uses
    assert len(set(zip(chosen.a_C.tolist(), chosen.b_C.tolist(), strict=True))) == len(chosen)


@pytest.mark.parametrize(("num_each", "is_known"), [(5, True), (5, False), (90, True), (90, False)])
def test_a_pair_of_the_target_takes_the_nearest_of_its_class_and_category_relation(num_each, is_known):
    target = pairs_of([0.3, 0.3], [True, False], ratio=0.6, baseline=0.4 if is_known else np.nan, is_same=[True, False])
    rng = np.random.default_rng(3)
    num = 4000
    candidates = pairs_of(
        rng.uniform(0.29, 0.31, num),
        rng.random(num) < 0.5,
        ratio=rng.uniform(0.58, 0.62, num),
        baseline=rng.uniform(0.39, 0.41, num),
        is_same=rng.random(num) < 0.5,
    )
    chosen = matched(candidates, target, num_each)
    for label in (True, False):
        pool = of_class(candidates, label)
        pool = pool.take(pool.is_same_category_C == label)
        far_C = distances(pool, of_class(target, label), MIN_SPREAD * CALIPER)[:, 0]
        nearest = np.argsort(far_C)[:num_each]
        # The search continues past the neighbours that are looked up first, and ends within the caliper.
        assert far_C[nearest].max() < 1
        assert sorted(of_class(chosen, label).a_C) == sorted(pool.a_C[nearest])


@pytest.mark.parametrize("by", ["texts", "groups"])
def test_near_candidates_whose_texts_and_groups_are_used_less_are_preferred(by):
    target = pairs_of([0.3, 0.3], [True, False])
    # Six candidates share a text or a group; six that do not are a little farther off.
    hub = pairs_of([0.3] * 6, True, a=[0] * 6 if by == "texts" else np.arange(6), b=np.arange(10, 16))
    others = pairs_of([0.301] * 6, True, a=np.arange(20, 26), b=np.arange(30, 36))
    negatives = pairs_of([0.3] * 6, False, a=np.arange(40, 46), b=np.arange(50, 56))
    group_N = np.arange(56)
    group_N[:6] = 0
    chosen = of_class(matched(join([hub, others, negatives]), target, 6, group_N=group_N), True)
    assert Counter(chosen.tfidf_C.tolist()) == {0.3: 1, 0.301: 5}


def test_beyond_the_caliper_nothing_is_taken():
    target = pairs_of([0.3, 0.3], [True, False], ratio=0.6)
    # Equal points have the minimum spread, 0.02 and 0.05, so the caliper is 0.004 and 0.015.
    offsets = [(0.0, 0.0), (0.0039, 0.0), (0.0041, 0.0), (-0.0039, 0.0149), (0.0, 0.0151)]
    candidates = join(
        [pairs_of([0.3 + t for t, _ in offsets], label, ratio=[0.6 + r for _, r in offsets]) for label in (True, False)]
    )
    picker = picker_of(candidates, 20)
    match_target(picker, target, np.ones(2), 5, np.random.default_rng(0))
    assert picker.chosen.tolist() == [0, 1, 3, 5, 6, 8]


def test_pairs_of_one_category_and_of_two_do_not_replace_each_other():
    target = pairs_of([0.3] * 4, [True, True, False, False], is_same=[True, False, True, False])
    candidates = pairs_of([0.3] * 400, [True, False] * 200, is_same=True)
    assert by_class(matched(candidates, target.take(np.array([0, 2])), 10)) == (10, 10)
    for other in ([0, 3], [1, 2], [1, 3]):
        assert by_class(matched(candidates, target.take(np.array(other)), 10)) == (0, 0)


def test_pairs_are_followed_in_proportion_to_their_weights():
    target = pairs_of([0.1, 0.1, 0.3, 0.3, 0.5, 0.5], [True, False] * 3)
    candidates = pairs_of([0.1, 0.1, 0.3, 0.3, 0.5, 0.5] * 200, [True, False] * 600)
    chosen = matched(candidates, target, 80, weights=[3, 3, 1, 1, 0, 0])
    for label in (True, False):
        assert Counter(of_class(chosen, label).tfidf_C.tolist()) == {0.1: 60, 0.3: 20}


@pytest.mark.parametrize(("num_met", "num"), [(10, 100), (6, 100), (5, 100), (2, 40), (0, 0)])
def test_others_make_up_for_a_pair_without_a_match_with_at_most_twice_their_share(num_met, num):
    tfidf = [0.06, 0.11, 0.16, 0.21, 0.26, 0.31, 0.36, 0.41, 0.46, 0.51]
    target = pairs_of(np.repeat(tfidf, 2), [True, False] * 10)
    positives = pairs_of(np.tile(tfidf[:num_met], 300), True)
    chosen = matched(join([positives, pairs_of(tfidf * 300, False)]), target, 100)
    assert by_class(chosen) == (num, num)
    for label in (True, False):
        counts = Counter(of_class(chosen, label).tfidf_C.tolist())
        assert set(counts) == set(tfidf[:num_met])
        assert max(counts.values(), default=0) - min(counts.values(), default=0) <= 1


@pytest.mark.parametrize("label", [True, False])
def test_where_one_class_lacks_candidates_both_take_few(label):
    target = pairs_of([0.11, 0.11, 0.31, 0.31] * 50, [True, False] * 100)
    candidates = join([pairs_of([0.11, 0.31] * 2000, not label), pairs_of([0.11] * 2000 + [0.31] * 100, label)])
    chosen = matched(candidates, target, 1000)
    assert by_class(chosen) == (1000, 1000)
    lacking, other = (int((of_class(chosen, of).tfidf_C > 0.2).sum()) for of in (label, not label))
    # Half of each class was wanted there.
    assert 80 <= lacking <= 100
    assert abs(lacking - other) <= 20


@pytest.mark.parametrize("label", [True, False])
def test_tfidf_does_not_separate_the_classes_even_where_one_lacks_candidates(plenty, label):
    rng = np.random.default_rng(1)
    # The class has ever fewer candidates with more words in common, and none above 0.45.
    is_there = rng.random(len(plenty)) < np.clip(0.9 - 2 * plenty.tfidf_C, 0, 1)
    candidates = plenty.take((plenty.is_positive_C != label) | is_there)
    half = random_pairs(300, seed=2)
    target = join([half, replace(half, is_positive_C=~half.is_positive_C)])
    chosen = matched(candidates, target, 600)
    positives, negatives = by_class(chosen)
    assert min(positives, negatives) > 500
    assert abs(spearmanr(chosen.tfidf_C, chosen.is_positive_C).statistic) < 0.05
    bins = [np.bincount(tfidf_bins(of_class(chosen, of).tfidf_C), minlength=25) for of in (True, False)]
    assert np.abs(bins[0] / positives - bins[1] / negatives).sum() / 2 < 0.08


def test_a_match_depends_on_the_seed(plenty):
    candidates, target = plenty.take(np.arange(20_000)), skewed_target(100)
    one, again, other = (set(matched(candidates, target, 100, seed=seed).a_C.tolist()) for seed in (1, 1, 2))
    assert one == again != other


# Matching the classes to each other


@given(st.integers(0, 100), st.booleans())
def test_a_positive_takes_the_nearest_negative_in_words_and_length(seed, wanted_same):
    rng = np.random.default_rng(seed)
    candidates = pairs_of(
        [0.3, *rng.uniform(0.28, 0.32, 99)],
        [True, *[False] * 99],
        ratio=[0.5, *rng.uniform(0.4, 0.6, 99)],
        baseline=rng.random(100),
        is_same=rng.random(100) < 0.5,
    )
    far_C = distances(candidates, candidates.take(np.array([0])), (MIN_SPREAD * CALIPER)[:2])[:, 0]
    pool = np.flatnonzero(~candidates.is_positive_C & (candidates.is_same_category_C == wanted_same))
    nearest = pool[np.argmin(far_C[pool])]
    chosen = alike(candidates, 1, wanted_same=wanted_same)
    if far_C[nearest] < 1:
        assert chosen.a_C.tolist() == [0, 2 * nearest]
    else:
        # A negative of the other category relation replaces it, or there is none.
        assert set(chosen.is_same_category_C[1:].tolist()) <= {not wanted_same}


@given(some_pairs().filter(with_both_classes), st.integers(1, 30), st.integers(1, 3), st.booleans())
def test_no_positive_is_left_that_has_a_free_negative_near(candidates, num_each, max_uses, wanted_same):
    picker = picker_of(candidates, max_uses)
    match_classes(picker, np.full(len(candidates), wanted_same), num_each)
    positives, negatives = by_class(candidates.take(picker.chosen))
    assert positives == negatives <= num_each
    if positives < num_each:
        free = candidates.take(np.array([picker.is_free(i) for i in range(len(candidates))]))
        left = distances(of_class(free, True), of_class(free, False), calipers(of_class(candidates, True), 2))
        assert (left >= 1).all()


@given(some_pairs().filter(with_both_classes), st.integers(1, 30), st.integers(1, 3), st.booleans())
def test_every_positive_has_a_negative_within_the_caliper(candidates, num_each, max_uses, wanted_same):
    chosen = alike(candidates, num_each, wanted_same=wanted_same, max_uses=max_uses)
    positives, negatives = by_class(chosen)
    assert positives == negatives <= num_each
    assert max_usage(chosen) <= max_uses
    if positives:
        far = distances(of_class(chosen, True), of_class(chosen, False), calipers(of_class(candidates, True), 2))
        assert far.min(axis=0).max() < 1
        assert far.min(axis=1).max() < 1


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_negatives_of_one_category_have_the_share_wanted(plenty, share):
    wanted_same_C = np.random.default_rng(5).random(len(plenty)) < share
    picker = picker_of(plenty, 20)
    match_classes(picker, wanted_same_C, 500)
    chosen = plenty.take(picker.chosen)
    positives = picker.chosen[chosen.is_positive_C]
    assert len(positives) == 500
    assert of_class(chosen, False).is_same_category_C.sum() == wanted_same_C[positives].sum()
    assert np.mean(wanted_same_C[positives]) == pytest.approx(share, abs=0.06)


@pytest.mark.parametrize("only", [True, False])
def test_where_negatives_of_one_category_relation_run_out_the_others_replace_them(only):
    candidates = pairs_of([0.31] * 80, [True, False] * 40, is_same=only)
    assert by_class(alike(candidates, 20, wanted_same=not only)) == (20, 20)


def test_the_wanted_category_relation_takes_precedence_over_the_nearer_negative():
    candidates = pairs_of([0.3, 0.303, 0.3], [True, False, False], is_same=[True, False, True])
    assert alike(candidates, 1, wanted_same=False).tfidf_C.tolist() == [0.3, 0.303]
    assert alike(candidates, 1, wanted_same=True).tfidf_C.tolist() == [0.3, 0.3]


def test_a_positive_without_a_near_negative_is_released():
    candidates = pairs_of(
        [0.1, 0.3, 0.3, 0.5], [True, True, False, False], ratio=[0.5, 0.5, 0.5, 0.9], a=[0, 0, 0, 0], b=[1, 2, 3, 4]
    )
    picker = picker_of(candidates, 1)
    match_classes(picker, np.ones(4, dtype=bool), 2)
    # The first positive released the text that both share.
    assert picker.chosen.tolist() == [1, 2]


def test_tfidf_and_lengths_do_not_separate_the_classes(plenty):
    rng = np.random.default_rng(1)
    # Positives have more words in common, and more similar lengths.
    odds = plenty.tfidf_C / 0.6 * plenty.feature_CF[:, 1]
    candidates = plenty.take(rng.random(len(plenty)) < np.where(plenty.is_positive_C, odds, 1 - odds))
    assert spearmanr(candidates.tfidf_C, candidates.is_positive_C).statistic > 0.3
    chosen = alike(candidates, 1000, wanted_same=rng.random(len(candidates)) < 0.5)
    assert by_class(chosen) == (1000, 1000)
    for feature in (0, 1):
        assert abs(spearmanr(chosen.feature_CF[:, feature], chosen.is_positive_C).statistic) < 0.03
