from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer

from mining.corpus.sample import fair_limit
from mining.sampling.candidates import SamplingSpec, num_comparisons, sample_negatives, sample_positives
from mining.sampling.cells import Cells, capacity_like, even_capacity, tfidf_bins
from mining.sampling.features import Candidates, Features, IndexPairs, join
from simile.artifacts import Document

WORDS = ["ant", "bee", "cat", "dog", "elk", "fox", "gnu", "hen", "ibex", "jay"]
CELLS = Cells()
EVERYTHING = 10**6


@st.composite
def small_corpora(draw):
    texts = draw(
        st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=6).map(" ".join), min_size=2, max_size=25)
    )
    group = st.integers(0, 4)
    return [Document(str(i), text, *named(draw(group))) for i, text in enumerate(texts)]


def named(group: int) -> tuple[str | None, str]:
    """Return the category and the name of a group; the first group has no category."""
    return (None if group == 0 else "xy"[group % 2]), f"g{group}"


def features_of(documents, embedding_ND=None) -> Features:
    texts = [row.text for row in documents]
    return Features(documents, TfidfVectorizer(sublinear_tf=True).fit_transform(texts), embedding_ND)


def sample(
    documents, band, *, num=EVERYTHING, num_wanted=EVERYTHING, seed=0, on_progress=lambda num: None
) -> Candidates:
    """Sample both classes, up to about ``num`` candidates in each TF-IDF bin."""
    features, rng = features_of(documents), np.random.default_rng(seed)
    spec = SamplingSpec(band, CELLS, even_capacity(band, 41 * num), num_wanted)
    return join([sample_positives(features, spec, rng), sample_negatives(features, spec, rng, on_progress)])


def brute_force(documents, band):
    """Return for every pair in the band its cosine, whether it is positive, and whether it is of one category."""
    dense = features_of(documents).tfidf_NW.toarray()
    cosine_NN = dense @ dense.T
    pairs, at_the_edge = {}, set()
    for b in range(len(documents)):
        for a in range(b):
            cosine, one, other = float(cosine_NN[a, b]), documents[a], documents[b]
            if min(abs(cosine - end) for end in band) < 1e-9 and cosine > 1e-9 and cosine < 1 - 1e-9:
                at_the_edge.add((a, b))
            elif band[0] - 1e-9 <= cosine <= band[1] + 1e-9:
                is_same = one.category is not None and one.category == other.category
                pairs[a, b] = (cosine, one.group == other.group, is_same)
    return pairs, at_the_edge


def pairs_of(candidates: Candidates) -> list[tuple[int, int]]:
    return list(zip(candidates.a_C.tolist(), candidates.b_C.tolist(), strict=True))


def assert_same(candidates, expected, at_the_edge):
    pairs = pairs_of(candidates)
    assert len(set(pairs)) == len(pairs)
    assert set(pairs) - at_the_edge == set(expected)
    for i, pair in enumerate(pairs):
        if pair in expected:
            cosine, is_positive, is_same = expected[pair]
            assert candidates.tfidf_C[i] == pytest.approx(cosine, abs=1e-9)
            assert (candidates.is_positive_C[i], candidates.is_same_category_C[i]) == (is_positive, is_same)


some_bands = st.sampled_from([(0.0, 1.0), (0.05, 0.5), (0.31, 0.87)])


@given(small_corpora(), some_bands, st.integers(0, 2))
def test_with_capacity_for_all_the_sample_is_every_pair_in_the_band(documents, band, seed):
    assert_same(sample(documents, band, seed=seed), *brute_force(documents, band))


def test_with_capacity_for_all_the_sample_is_every_pair_across_tiles(helpdesk):
    documents = helpdesk[::3]
    assert len(documents) > 2 * 512
    comparisons: list[int] = []
    candidates = sample(documents, (0.05, 0.5), on_progress=comparisons.append)
    assert_same(candidates, *brute_force(documents, (0.05, 0.5)))
    assert sum(comparisons) == num_comparisons(len(documents), EVERYTHING)


def counts(candidates: Candidates) -> Counter:
    return Counter(CELLS.of(candidates).tolist())


@given(small_corpora(), some_bands, st.integers(1, 4))
def test_a_cell_holds_what_there_is_up_to_its_capacity(documents, band, num):
    everything = counts(sample(documents, band))
    capacity = counts_of_capacity(even_capacity(band, 41 * num))
    assert counts(sample(documents, band, num=num)) == {
        cell: min(capacity[cell], count) for cell, count in everything.items()
    }


def counts_of_capacity(capacity) -> list[int]:
    assert capacity.max_of_cell.max() >= 64
    return capacity.max_of_cell.tolist()


def test_sample_depends_on_the_seed_and_on_nothing_else(helpdesk):
    one, again, other = (pairs_of(sample(helpdesk[:400], (0.05, 0.5), num=1, seed=seed)) for seed in (1, 1, 2))
    assert one == again
    assert set(one) != set(other)


def test_every_pair_is_equally_likely_to_be_sampled():
    # 40 documents of one word each, in two groups, make 400 negative pairs of one cell with a capacity of 64.
    documents = [Document(str(i), "ant", None, f"g{i % 2}") for i in range(40)]
    drawn = Counter()
    for seed in range(300):
        candidates = sample(documents, (0.5, 1.0), num=1, seed=seed)
        negatives = candidates.take(~candidates.is_positive_C)
        assert len(negatives) == 64
        drawn.update(pairs_of(negatives))
    times = np.array([drawn[a, b] for a in range(40) for b in range(a + 1, 40) if (a + b) % 2])
    expected = 300 * 64 / 400
    # Pearson's statistic with 399 degrees of freedom: mean 399, standard deviation 28.2; less without replacement.
    assert ((times - expected) ** 2 / expected).sum() < 399 + 5 * 28.2


def test_the_search_ends_at_the_limit_of_comparisons(helpdesk, monkeypatch):
    monkeypatch.setattr("mining.sampling.candidates.MIN_COMPARISONS", 1_000_000)
    comparisons: list[int] = []
    sample(helpdesk, (0.05, 0.5), num_wanted=10, on_progress=comparisons.append)
    assert sum(comparisons) == 1_000_000 < len(helpdesk) ** 2 / 2


def test_the_search_ends_when_every_cell_has_enough(helpdesk):
    features, rng = features_of(helpdesk), np.random.default_rng(0)
    spec = SamplingSpec((0.1, 0.2), CELLS, even_capacity((0.1, 0.2), 1), EVERYTHING)
    everything = sample_negatives(features, spec, rng)
    capacity = capacity_like(CELLS.of(everything), np.ones(len(everything)), 100)
    candidates = sample_negatives(features, SamplingSpec((0.1, 0.2), CELLS, capacity, EVERYTHING), rng)
    counts = np.bincount(CELLS.of(candidates), minlength=len(capacity.max_of_cell))
    assert (counts >= capacity.enough_of_cell).all()


def test_positive_pairs_of_a_large_group_do_not_displace_those_of_small_ones(monkeypatch):
    monkeypatch.setattr("mining.sampling.candidates._MIN_LISTED", 6400)
    documents = [Document(str(i), "ant bee", None, "large" if i < 600 else f"g{i // 2}") for i in range(700)]
    spec = SamplingSpec((0.0, 1.0), CELLS, even_capacity((0.0, 1.0), 41 * EVERYTHING), 10)
    candidates = sample_positives(features_of(documents), spec, np.random.default_rng(0))
    # There are 50 pairs of the small groups, and those of the 113 documents of the large one that make 6,350 pairs.
    assert Counter((candidates.a_C >= 600).tolist()) == {True: 50, False: 113 * 112 // 2}


def test_links_replace_groups_as_the_positive_pairs():
    documents = [Document(str(i), "ant bee", None, "g") for i in range(6)]
    spec = SamplingSpec((0.0, 1.0), CELLS, even_capacity((0.0, 1.0), 41 * EVERYTHING), 10)
    links_L2 = np.array([(4, 1), (1, 4), (2, 3)])
    candidates = sample_positives(features_of(documents), spec, np.random.default_rng(0), links_L2)
    assert sorted(pairs_of(candidates)) == [(1, 4), (2, 3)]


def test_features_of_a_pair_are_those_of_its_texts():
    documents = [Document("0", "ant bee", "x", "g"), Document("1", "ant bee cat dog", "x", "g")]
    embedding_ND = np.array([[1, 0], [0.6, 0.8]], dtype=np.float32)
    pair = IndexPairs(np.array([1]), np.array([0]), np.array([0.5]))
    candidates = features_of(documents, embedding_ND).candidates(pair, is_positive=True)
    assert (candidates.a_C.tolist(), candidates.b_C.tolist()) == ([0], [1])
    assert candidates.feature_CF.tolist()[0] == pytest.approx([0.5, 7 / 15, 0.6])
    assert (candidates.is_positive_C.tolist(), candidates.is_same_category_C.tolist()) == ([True], [True])


def test_the_baselines_cosine_is_unknown_without_a_baseline():
    documents = [Document("0", "ant bee", None, "g"), Document("1", "ant", None, "g")]
    pair = IndexPairs(np.array([0]), np.array([1]), np.array([0.5]))
    candidates = features_of(documents).candidates(pair, is_positive=False)
    assert np.isnan(candidates.feature_CF[0, 2])
    assert not candidates.is_same_category_C[0]


def negatives_of(tfidf, *, is_same=False) -> Candidates:
    """Return negatives that differ in these TF-IDF cosines only."""
    zero_C = np.zeros(len(tfidf), dtype=np.int64)
    is_no_C = np.zeros(len(tfidf), dtype=bool)
    return Candidates(zero_C, zero_C + 1, np.array(tfidf), zero_C + 1.0, zero_C * 0.0, is_no_C, is_no_C | is_same)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_cells_separate_what_bins_separate(tfidf):
    same, other = (negatives_of(tfidf, is_same=is_same) for is_same in (True, False))
    assert not set(CELLS.of(same).tolist()) & set(CELLS.of(other).tolist())
    bin_of_cell = dict(zip(CELLS.of(same).tolist(), tfidf_bins(np.array(tfidf)).tolist(), strict=True))
    assert len(bin_of_cell) == len(set(tfidf_bins(np.array(tfidf)).tolist()))


@pytest.mark.parametrize(("tfidf", "bin_"), [(0.0, 0), (0.0249, 0), (0.025, 1), (0.075, 3), (0.3, 12), (1.0, 40)])
def test_a_cosine_on_an_edge_belongs_to_the_bin_above(tfidf, bin_):
    assert tfidf_bins(np.array([tfidf])).tolist() == [bin_]


def test_capacity_is_proportional_to_the_weighted_pairs():
    like = negatives_of([0.11, 0.21, 0.21])
    capacity = capacity_like(CELLS.of(like), np.array([2.0, 1.0, 1.0]), 1000)
    first, second = (CELLS.of(like.take(np.array([i])))[0] for i in (0, 1))
    assert (capacity.max_of_cell[first], capacity.max_of_cell[second]) == (500, 500)
    assert capacity.max_of_cell.sum() == 1000
    assert capacity.enough_of_cell.sum() == 500


@given(st.lists(st.integers(0, 50), min_size=1, max_size=10), st.integers(1, 200))
def test_fair_limit_is_the_largest_that_keeps_within_the_total(sizes, total):
    limit = fair_limit(np.array(sizes), total)

    def kept(limit):
        return sum(min(size, limit) for size in sizes)

    assert limit == 1 or kept(limit) <= total
    assert limit >= max(sizes) or kept(limit + 1) > total
