from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer

from mining.candidates import BIN_WIDTH, Candidates, sample_candidates
from mining.mine import fit_tfidf
from mining.recipes import Wanted, bands, matched, shape_of
from simile.artifacts import Document
from simile.errors import InputError

WORDS = ["ant", "bee", "cat", "dog", "elk", "fox", "gnu", "hen", "ibex", "jay"]


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


def transformed(documents):
    texts = [row.text for row in documents]
    return TfidfVectorizer(sublinear_tf=True).fit_transform(texts)


def brute_force(documents, tfidf_NW, band):
    """Every pair in the band: its cosine, whether it is positive, whether it is of one category."""
    dense = tfidf_NW.toarray()
    cosine_NN = np.triu(dense @ dense.T, k=1)
    found, at_the_edge = {}, set()
    for a, b in zip(*np.nonzero(cosine_NN), strict=True):
        cosine, one, other = float(cosine_NN[a, b]), documents[a], documents[b]
        if min(abs(cosine - end) for end in band) < 1e-9:
            at_the_edge.add((a, b))
        elif band[0] < cosine < band[1]:
            is_same = one.category is not None and one.category == other.category
            found[a, b] = (cosine, one.group == other.group, is_same)
    return found, at_the_edge


def as_dict(candidates: Candidates):
    pairs = list(zip(candidates.a_C.tolist(), candidates.b_C.tolist(), strict=True))
    assert len(set(pairs)) == len(pairs)
    facts = zip(
        candidates.tfidf_C.tolist(),
        candidates.is_positive_C.tolist(),
        candidates.is_same_category_C.tolist(),
        strict=True,
    )
    return dict(zip(pairs, facts, strict=True))


def assert_same(found, expected, at_the_edge):
    assert set(found) - at_the_edge == set(expected)
    for pair, (cosine, is_positive, is_same) in expected.items():
        assert abs(found[pair][0] - cosine) < 1e-9
        assert found[pair][1:] == (is_positive, is_same)


some_bands = st.sampled_from([(0.0, 1.0), (0.05, 0.5), (0.31, 0.87)])


@given(small_corpora(), some_bands, st.integers(0, 2))
def test_with_room_for_all_the_sample_is_every_pair_in_the_band(documents, band, seed):
    tfidf_NW = transformed(documents)
    found = as_dict(sample_candidates(documents, tfidf_NW, band=band, per_cell=10**6, seed=seed))
    assert_same(found, *brute_force(documents, tfidf_NW, band))


def test_with_room_for_all_the_sample_is_every_pair_across_blocks(helpdesk):
    documents = helpdesk.rows[::3]
    assert len(documents) > 2 * 256
    tfidf_NW = transformed(documents)
    done: list[int] = []
    sample = sample_candidates(documents, tfidf_NW, band=(0.05, 0.5), per_cell=10**6, seed=0, on_progress=done.append)
    assert_same(as_dict(sample), *brute_force(documents, tfidf_NW, (0.05, 0.5)))
    assert sum(done) == len(documents)


def cells(candidates: Candidates) -> Counter:
    columns = (candidates.bin_C, candidates.is_positive_C, candidates.is_same_category_C)
    return Counter(zip(*(column.tolist() for column in columns), strict=True))


@given(small_corpora(), some_bands, st.integers(1, 4))
def test_a_cell_holds_what_there_is_up_to_its_limit(documents, band, per_cell):
    tfidf_NW = transformed(documents)
    everything = cells(sample_candidates(documents, tfidf_NW, band=band, per_cell=10**6, seed=0))
    sample = cells(sample_candidates(documents, tfidf_NW, band=band, per_cell=per_cell, seed=0))
    assert sample == {cell: min(per_cell, count) for cell, count in everything.items()}


def test_sample_depends_on_the_seed_and_on_nothing_else(helpdesk):
    documents = helpdesk.rows[:400]
    tfidf_NW = transformed(documents)
    one, again, other = (
        list(as_dict(sample_candidates(documents, tfidf_NW, band=(0.05, 0.5), per_cell=10, seed=seed)))
        for seed in (1, 1, 2)
    )
    assert one == again
    assert set(one) != set(other)


def test_every_pair_of_a_cell_is_as_likely_to_be_drawn():
    # 24 texts of one word each, all alike: 276 pairs in one cell, 23 of them drawn; 600 draws.
    documents = [Document(str(i), "ant", "x", "g") for i in range(24)]
    tfidf_NW = transformed(documents)
    drawn = Counter()
    for seed in range(600):
        drawn.update(list(as_dict(sample_candidates(documents, tfidf_NW, band=(0.0, 1.0), per_cell=23, seed=seed))))
    counts = np.array([drawn[a, b] for a in range(24) for b in range(a + 1, 24)])
    expected = 600 * 23 / 276
    # Pearson's statistic of 275 degrees of freedom: mean 275, standard deviation 23.5.
    assert ((counts - expected) ** 2 / expected).sum() < 275 + 5 * 23.5


def candidates_of(*, tfidf, is_positive, is_same=None, a=None, b=None) -> Candidates:
    num = len(tfidf)
    return Candidates(
        np.arange(num) * 2 if a is None else np.array(a),
        np.arange(num) * 2 + 1 if b is None else np.array(b),
        np.array(tfidf, dtype=np.float64),
        np.array(is_positive, dtype=bool),
        np.zeros(num, dtype=bool) if is_same is None else np.array(is_same, dtype=bool),
    )


@st.composite
def some_candidates(draw):
    pairs = sorted(draw(st.sets(st.tuples(st.integers(0, 12), st.integers(13, 25)), min_size=1, max_size=60)))
    pairs = draw(st.permutations(pairs))
    many = {"min_size": len(pairs), "max_size": len(pairs)}
    return candidates_of(
        tfidf=draw(st.lists(st.sampled_from([0.06, 0.11, 0.12, 0.13, 0.3]), **many)),
        is_positive=draw(st.lists(st.booleans(), **many)),
        is_same=draw(st.lists(st.booleans(), **many)),
        a=[pair[0] for pair in pairs],
        b=[pair[1] for pair in pairs],
    )


some_wanted = st.builds(
    Wanted,
    num_pairs=st.integers(2, 40),
    same_category=st.sampled_from([0.0, 0.5, 1.0]),
    max_uses=st.integers(1, 10),
)
some_shapes = st.none() | st.just({2: 0.5, 4: 0.25, 12: 0.25}) | st.just({4: 1.0})


@settings(max_examples=100)
@given(some_candidates(), some_wanted, some_shapes)
def test_matched_has_as_many_of_each_class_in_every_bin(candidates, wanted, shape):
    chosen = candidates.take(matched(candidates, wanted, shape))
    positive = Counter(chosen.bin_C[chosen.is_positive_C].tolist())
    negative = Counter(chosen.bin_C[~chosen.is_positive_C].tolist())
    assert positive == negative
    assert set(positive) <= set(shape or positive)
    assert len(chosen.a_C) <= wanted.num_pairs
    uses = Counter(
        (p, end) for ends in (chosen.a_C, chosen.b_C) for p, end in zip(chosen.is_positive_C, ends, strict=True)
    )
    assert max(uses.values(), default=0) <= wanted.max_uses


def test_matched_follows_the_shape_where_the_candidates_allow():
    num = 4000
    tfidf = np.random.default_rng(0).uniform(0.05, 0.5, num)
    candidates = candidates_of(tfidf=tfidf, is_positive=np.arange(num) % 2 == 0)
    shape = {4: 0.5, 8: 0.3, 12: 0.2}
    chosen = candidates.take(matched(candidates, Wanted(100, 0.0, 20), shape))
    assert Counter(chosen.bin_C.tolist()) == {4: 50, 8: 30, 12: 20}


def test_matched_without_a_shape_fills_bins_by_what_they_can_give():
    # Bin 4 has 30 positives and 10 negatives, bin 8 has 30 and 30: three quarters come from bin 8.
    tfidf = [0.11] * 40 + [0.21] * 60
    is_positive = [True] * 30 + [False] * 10 + [True] * 30 + [False] * 30
    candidates = candidates_of(tfidf=tfidf, is_positive=is_positive)
    chosen = candidates.take(matched(candidates, Wanted(40, 0.0, 20)))
    assert Counter(chosen.bin_C.tolist()) == {4: 10, 8: 30}


def test_a_bin_that_runs_short_leaves_its_share_to_the_others():
    tfidf = [0.11] * 4 + [0.21] * 60
    candidates = candidates_of(tfidf=tfidf, is_positive=[True, False] * 32)
    chosen = candidates.take(matched(candidates, Wanted(40, 0.0, 20), {4: 0.5, 8: 0.5}))
    assert Counter(chosen.bin_C.tolist()) == {4: 4, 8: 36}


@pytest.mark.parametrize("recipe", ["matched", "bands"])
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_negatives_of_one_category_have_the_share_wanted(recipe, share):
    num = 900
    candidates = candidates_of(tfidf=[0.31] * num, is_positive=np.arange(num) % 3 == 0, is_same=np.arange(num) % 3 == 1)
    wanted = Wanted(200, share, 20)
    index = matched(candidates, wanted) if recipe == "matched" else bands(candidates, wanted, (0.3, 0.5), (0.15, 0.45))
    chosen = candidates.take(index)
    assert chosen.is_positive_C.sum() == 100
    assert chosen.is_same_category_C[~chosen.is_positive_C].sum() == round(share * 100)


@pytest.mark.parametrize("recipe", ["matched", "bands"])
@pytest.mark.parametrize("only", [True, False])
def test_where_one_kind_of_negative_runs_out_the_other_stands_in(recipe, only):
    candidates = candidates_of(tfidf=[0.31] * 80, is_positive=[True, False] * 40, is_same=[only] * 80)
    wanted = Wanted(40, 0.5, 20)
    index = matched(candidates, wanted) if recipe == "matched" else bands(candidates, wanted, (0.3, 0.5), (0.15, 0.45))
    assert candidates.take(index).is_positive_C.sum() == 20
    assert len(index) == 40


def test_bands_draws_each_class_from_its_own_band():
    tfidf = np.random.default_rng(0).uniform(0, 1, 2000)
    candidates = candidates_of(tfidf=tfidf, is_positive=np.arange(2000) % 2 == 0)
    chosen = candidates.take(bands(candidates, Wanted(100, 0.0, 20), (0.6, 0.8), (0.1, 0.3)))
    positive_C = chosen.tfidf_C[chosen.is_positive_C]
    negative_C = chosen.tfidf_C[~chosen.is_positive_C]
    assert (len(positive_C), len(negative_C)) == (50, 50)
    assert 0.6 <= positive_C.min() <= positive_C.max() <= 0.8
    assert 0.1 <= negative_C.min() <= negative_C.max() <= 0.3


@given(st.lists(st.floats(0, 1), min_size=1, max_size=50))
def test_shape_is_the_share_of_each_bin(tfidf):
    expected = Counter(int(value // BIN_WIDTH) for value in tfidf)
    # Floor division and division round differently at an edge.
    if all(int(value // BIN_WIDTH) == int(value / BIN_WIDTH) for value in tfidf):
        assert shape_of(tfidf) == pytest.approx({bin_: count / len(tfidf) for bin_, count in expected.items()})


def test_texts_without_a_word_have_no_tfidf():
    with pytest.raises(InputError, match="got 2 texts without a single word of two letters"):
        fit_tfidf(["a", "?"])
