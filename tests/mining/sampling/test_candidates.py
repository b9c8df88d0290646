from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer

from mining.corpus.gather import fair_limit
from mining.sampling.candidates import Wish, num_looks, sample_negatives, sample_positives
from mining.sampling.cells import Cells, tfidf_bins
from mining.sampling.features import Candidates, Features, join
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
    """The category and the name of a group; the first has no category."""
    return (None if group == 0 else "xy"[group % 2]), f"g{group}"


def features_of(documents, embedding_ND=None) -> Features:
    texts = [row.text for row in documents]
    return Features(documents, TfidfVectorizer(sublinear_tf=True).fit_transform(texts), embedding_ND)


def sample(documents, band, *, num=EVERYTHING, num_wanted=EVERYTHING, seed=0, on_progress=None) -> Candidates:
    """Both classes, up to about ``num`` in each TF-IDF bin."""
    features, rng = features_of(documents), np.random.default_rng(seed)
    wish = Wish(band, CELLS, CELLS.even_room(band, 41 * num), num_wanted)
    return join([sample_positives(features, wish, rng), sample_negatives(features, wish, rng, on_progress)])


def brute_force(documents, band):
    """Every pair in the band: its cosine, whether it is positive, whether it is of one category."""
    dense = features_of(documents).tfidf_NW.toarray()
    cosine_NN = dense @ dense.T
    found, at_the_edge = {}, set()
    for b in range(len(documents)):
        for a in range(b):
            cosine, one, other = float(cosine_NN[a, b]), documents[a], documents[b]
            if min(abs(cosine - end) for end in band) < 1e-9 and cosine > 1e-9 and cosine < 1 - 1e-9:
                at_the_edge.add((a, b))
            elif band[0] - 1e-9 <= cosine <= band[1] + 1e-9:
                is_same = one.category is not None and one.category == other.category
                found[a, b] = (cosine, one.group == other.group, is_same)
    return found, at_the_edge


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
def test_with_room_for_all_the_sample_is_every_pair_in_the_band(documents, band, seed):
    assert_same(sample(documents, band, seed=seed), *brute_force(documents, band))


def test_with_room_for_all_the_sample_is_every_pair_across_tiles(helpdesk):
    documents = helpdesk[::3]
    assert len(documents) > 2 * 512
    looks: list[int] = []
    found = sample(documents, (0.05, 0.5), on_progress=looks.append)
    assert_same(found, *brute_force(documents, (0.05, 0.5)))
    assert sum(looks) == num_looks(len(documents), EVERYTHING)


def counts(candidates: Candidates) -> Counter:
    return Counter(CELLS.of(candidates).tolist())


@given(small_corpora(), some_bands, st.integers(1, 4))
def test_a_cell_holds_what_there_is_up_to_its_room(documents, band, num):
    everything = counts(sample(documents, band))
    most = counts_of_room(CELLS.even_room(band, 41 * num))
    assert counts(sample(documents, band, num=num)) == {
        cell: min(most[cell], count) for cell, count in everything.items()
    }


def counts_of_room(room) -> list[int]:
    assert room.most_of_cell.max() >= 64
    return room.most_of_cell.tolist()


def test_sample_depends_on_the_seed_and_on_nothing_else(helpdesk):
    one, again, other = (pairs_of(sample(helpdesk[:400], (0.05, 0.5), num=1, seed=seed)) for seed in (1, 1, 2))
    assert one == again
    assert set(one) != set(other)


def test_every_pair_is_as_likely_to_be_in_the_sample():
    # 40 documents of one word each, in two groups: 400 negative pairs of one cell, which has room for 64.
    documents = [Document(str(i), "ant", None, f"g{i % 2}") for i in range(40)]
    drawn = Counter()
    for seed in range(300):
        found = sample(documents, (0.5, 1.0), num=1, seed=seed)
        negatives = found.take(~found.is_positive_C)
        assert len(negatives) == 64
        drawn.update(pairs_of(negatives))
    times = np.array([drawn[a, b] for a in range(40) for b in range(a + 1, 40) if (a + b) % 2])
    expected = 300 * 64 / 400
    # Pearson's statistic of 399 degrees of freedom: mean 399, standard deviation 28.2; without replacement it is less.
    assert ((times - expected) ** 2 / expected).sum() < 399 + 5 * 28.2


def test_looking_ends_where_the_pairs_wanted_have_been_looked_for(helpdesk, monkeypatch):
    monkeypatch.setattr("mining.sampling.candidates.MIN_LOOKS", 1_000_000)
    looks: list[int] = []
    sample(helpdesk, (0.05, 0.5), num_wanted=10, on_progress=looks.append)
    assert sum(looks) == 1_000_000 < len(helpdesk) ** 2 / 2


def test_looking_ends_where_every_cell_has_enough(helpdesk):
    features, rng = features_of(helpdesk), np.random.default_rng(0)
    wish = Wish((0.1, 0.2), CELLS, CELLS.even_room((0.1, 0.2), 1), EVERYTHING)
    everything = sample_negatives(features, wish, rng)
    room = CELLS.room_like(everything, np.ones(len(everything)), 100)
    found = sample_negatives(features, Wish((0.1, 0.2), CELLS, room, EVERYTHING), rng)
    assert (np.bincount(CELLS.of(found), minlength=len(room.most_of_cell)) >= room.enough_of_cell).all()


def test_positive_pairs_of_a_large_group_leave_room_for_those_of_a_small_one(monkeypatch):
    monkeypatch.setattr("mining.sampling.candidates._MIN_LISTED", 6400)
    documents = [Document(str(i), "ant bee", None, "large" if i < 600 else f"g{i // 2}") for i in range(700)]
    wish = Wish((0.0, 1.0), CELLS, CELLS.even_room((0.0, 1.0), 41 * EVERYTHING), 10)
    found = sample_positives(features_of(documents), wish, np.random.default_rng(0))
    # 50 pairs of the small groups, and of the large one as many documents as make 6,350: 113.
    assert Counter((found.a_C >= 600).tolist()) == {True: 50, False: 113 * 112 // 2}


def test_links_are_the_positive_pairs_where_they_are_given():
    documents = [Document(str(i), "ant bee", None, "g") for i in range(6)]
    wish = Wish((0.0, 1.0), CELLS, CELLS.even_room((0.0, 1.0), 41 * EVERYTHING), 10)
    links_L2 = np.array([(4, 1), (1, 4), (2, 3)])
    found = sample_positives(features_of(documents), wish, np.random.default_rng(0), links_L2)
    assert sorted(pairs_of(found)) == [(1, 4), (2, 3)]


def test_features_of_a_pair_are_what_the_texts_say():
    documents = [Document("0", "ant bee", "x", "g"), Document("1", "ant bee cat dog", "x", "g")]
    embedding_ND = np.array([[1, 0], [0.6, 0.8]], dtype=np.float32)
    found = features_of(documents, embedding_ND).candidates(
        np.array([1]), np.array([0]), np.array([0.5]), is_positive=True
    )
    assert (found.a_C.tolist(), found.b_C.tolist()) == ([0], [1])
    assert found.feature_CF.tolist()[0] == pytest.approx([0.5, 7 / 15, 0.6])
    assert (found.is_positive_C.tolist(), found.is_same_category_C.tolist()) == ([True], [True])


def test_without_a_baseline_its_cosine_is_not_known():
    documents = [Document("0", "ant bee", None, "g"), Document("1", "ant", None, "g")]
    found = features_of(documents).candidates(np.array([0]), np.array([1]), np.array([0.5]), is_positive=False)
    assert np.isnan(found.feature_CF[0, 2])
    assert not found.is_same_category_C[0]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_cells_tell_apart_what_bins_tell_apart(tfidf):
    num = len(tfidf)
    same, other = (
        Candidates(
            np.zeros(num, int),
            np.ones(num, int),
            np.zeros(num, bool),
            np.full(num, is_same),
            np.c_[tfidf, [[1, 0]] * num],
        )
        for is_same in (True, False)
    )
    assert not set(CELLS.of(same).tolist()) & set(CELLS.of(other).tolist())
    bin_of_cell = dict(zip(CELLS.of(same).tolist(), tfidf_bins(np.array(tfidf)).tolist(), strict=True))
    assert len(bin_of_cell) == len(set(tfidf_bins(np.array(tfidf)).tolist()))


@pytest.mark.parametrize(("tfidf", "bin_"), [(0.0, 0), (0.0249, 0), (0.025, 1), (0.075, 3), (0.3, 12), (1.0, 40)])
def test_a_cosine_on_an_edge_belongs_to_the_bin_above(tfidf, bin_):
    assert tfidf_bins(np.array([tfidf])).tolist() == [bin_]


def test_room_follows_the_weighted_pairs():
    like = Candidates(
        np.zeros(3, int),
        np.ones(3, int),
        np.zeros(3, bool),
        np.zeros(3, bool),
        np.array([[0.11, 1, 0], [0.21, 1, 0], [0.21, 1, 0]]),
    )
    room = CELLS.room_like(like, np.array([2.0, 1.0, 1.0]), 1000)
    first, second = (CELLS.of(like.take(np.array([i])))[0] for i in (0, 1))
    assert (room.most_of_cell[first], room.most_of_cell[second]) == (500, 500)
    assert room.most_of_cell.sum() == 1000
    assert room.enough_of_cell.sum() == 500


@given(st.lists(st.integers(0, 50), min_size=1, max_size=10), st.integers(1, 200))
def test_fair_limit_is_the_largest_that_keeps_within_the_total(sizes, total):
    limit = fair_limit(np.array(sizes), total)

    def kept(most):
        return sum(min(size, most) for size in sizes)

    assert limit == 1 or kept(limit) <= total
    assert limit >= max(sizes) or kept(limit + 1) > total
