from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm, spearmanr
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics import roc_auc_score

from mining.corpus.embeddings import Vectors
from mining.matching.target import (
    Target,
    categories_of_groups,
    check_target,
    impute,
    read_target,
    settle_same_category,
    without_shortcut,
)
from mining.sampling.cells import tfidf_bins
from mining.sampling.features import Candidates
from simile.artifacts import Document, Pair, PairSet
from simile.errors import InputError
from simile.scoring import load
from training.baseline import make_baseline

# Each word is in one of four texts, so all have the same weight.
TFIDF = TfidfVectorizer(sublinear_tf=True).fit(["ant", "bee", "cat", "dog"])
HALF, NOTHING = ("ant bee", "ant cat"), ("ant", "dog")


def pair_set(pairs) -> PairSet:
    return PairSet("test", tuple(pairs), "0" * 64)


def read(pairs, *, categories=None, band=None, vectors=None) -> Target:
    return read_target(pair_set(pairs), TFIDF, vectors, categories or {}, band=band)


def target_of(
    tfidf, is_positive=False, *, is_same=False, baseline=np.nan, shortcut=None, knows_categories=True
) -> Target:
    num = len(tfidf)
    features = [np.broadcast_to(np.asarray(of, dtype=float), num).copy() for of in (tfidf, 0.5, baseline)]
    is_positive_T, is_same_T = (
        np.broadcast_to(np.asarray(of, dtype=bool), num).copy() for of in (is_positive, is_same)
    )
    like = Candidates(np.arange(num) * 2, np.arange(num) * 2 + 1, *features, is_positive_T, is_same_T)
    pairs = tuple(Pair(f"a{i}", f"b{i}") for i in range(num))
    return Target(pairs, like, np.ones(num), (0.0, 1.0), True, 0, shortcut, np.full(num, knows_categories))


# Refused targets


def test_graded_target_is_refused():
    with pytest.raises(InputError, match=r"target test: got graded scores, need label 0\|1 or no label"):
        check_target(pair_set([Pair("ant", "bee", score=0.5), Pair("ant", "cat", score=0.1)]))


@pytest.mark.parametrize("label", [0, 1])
def test_target_with_one_label_only_is_refused(label):
    with pytest.raises(InputError, match="target test: got pairs of one label only, need both"):
        check_target(pair_set([Pair(*HALF, label=label), Pair(*NOTHING, label=label)]))


@pytest.mark.parametrize("labels", [(0, 1), (None, None)])
def test_target_with_both_labels_or_none_is_accepted(labels):
    check_target(pair_set(Pair(*HALF, label=label) for label in labels))


# Reading


def test_features_are_those_of_the_texts():
    target = read([Pair(*HALF, label=1), Pair(*NOTHING, label=0), Pair("bee cat", "bee", label=0)])
    # The pairs share half of the words, none, and one of two.
    assert target.as_candidates.tfidf_C == pytest.approx([1 / 2, 0, 1 / np.sqrt(2)])
    assert target.as_candidates.length_ratio_C == pytest.approx([1, 1, 3 / 7])
    assert np.isnan(target.as_candidates.baseline_C).all()
    assert target.as_candidates.is_positive_C.tolist() == [True, False, False]
    assert target.weight_T.tolist() == [1, 1, 1]
    assert (target.is_labelled, target.num_outside) == (True, 0)
    # The band extends to the edges of the lowest and highest bin, which are 0.025 wide.
    assert target.band == pytest.approx((0.0, 0.725))


def test_repeated_words_count_less_each_time():
    # A word that occurs twice counts 1 + ln 2 instead of 2.
    target = read([Pair("ant ant bee", "bee", label=1), Pair(*NOTHING, label=0)])
    assert target.as_candidates.tfidf_C[0] == pytest.approx(1 / np.hypot(1 + np.log(2), 1))


def test_repeated_texts_have_one_number():
    like = read([Pair("ant", "bee", label=1), Pair("cat", "ant", label=0), Pair("bee", "cat", label=0)]).as_candidates
    pairs = set(zip(like.a_C.tolist(), like.b_C.tolist(), strict=True))
    assert pairs == {(0, 1), (0, 2), (1, 2)}


def test_pairs_without_labels_are_not_labelled():
    target = read([Pair(*HALF), Pair(*NOTHING)])
    assert not target.is_labelled
    assert target.shortcut is None
    assert not target.as_candidates.is_positive_C.any()


def test_baseline_is_the_bundles_score(make_base, tmp_path):
    scorer = load(make_baseline(str(make_base("bert")), tmp_path / "tiny").path, device="cpu", precision="fp32")
    pairs = [HALF, NOTHING, ("bee cat", "a password that I forgot")]
    vectors = Vectors(scorer, [text for pair in pairs for text in pair])
    target = read([Pair(*texts, label=i % 2) for i, texts in enumerate(pairs)], vectors=vectors)
    assert target.as_candidates.baseline_C == pytest.approx(scorer.score(pairs), abs=1e-6)


def test_pairs_outside_the_band_are_left_out_and_counted():
    rows = [
        Pair(*NOTHING, label=0),
        Pair(*HALF, label=1),
        Pair("cat dog", "cat ant", label=0),
        Pair("ant", "ant", label=1),
    ]
    target = read(rows, band=(0.3, 0.6))
    assert target.pairs == (rows[1], rows[2])
    assert target.as_candidates.is_positive_C.tolist() == [True, False]
    assert target.num_outside == 2
    assert target.band == pytest.approx((0.5, 0.525))


def test_band_is_within_the_one_that_was_asked_for():
    rows = [Pair(*HALF, label=1), Pair("cat dog", "cat ant", label=0)]
    assert read([Pair("ant bee", "ant", 1), Pair("cat dog", "cat", 0)], band=(0.705, 1)).band == pytest.approx(
        (0.705, 0.725)
    )
    assert read(rows, band=(0.4999, 0.51)).band == pytest.approx((0.5, 0.51))
    assert read(rows, band=(0.499999999, 1.0)).band == pytest.approx((0.5, 0.525))


def test_target_without_a_pair_in_the_band_is_refused():
    with pytest.raises(
        InputError, match=r"target test: got TF-IDF cosines of 0\.000-0\.500, need some in the band 0\.6-1"
    ):
        read([Pair(*HALF, label=1), Pair(*NOTHING, label=0)], band=(0.6, 1.0))


def test_target_with_one_label_only_in_the_band_is_refused():
    with pytest.raises(InputError, match=r"target test: got pairs of one label only in the band 0\.1-1, need both"):
        read([Pair(*HALF, label=1), Pair(*NOTHING, label=0)], band=(0.1, 1.0))


def test_shortcut_is_the_spearman_of_tfidf_alone():
    texts = [
        HALF,
        ("ant bee cat", "ant dog cat bee dog"),
        NOTHING,
        ("ant dog", "dog"),
        ("cat", "cat bee dog"),
        ("bee", "ant"),
        ("dog cat", "bee"),
    ]
    labels = [1, 0, 0, 1, 1, 0, 1]
    target = read([Pair(*pair, label=label) for pair, label in zip(texts, labels, strict=True)])
    assert target.shortcut == pytest.approx(spearmanr(target.as_candidates.tfidf_C, labels).statistic)
    # All pairs have as many words in common.
    assert read([Pair(*HALF, label=1), Pair("cat dog", "cat ant", label=0)]).shortcut is None


def test_category_relation_is_the_pairs_own_or_that_of_its_groups():
    categories = {"g1": "x", "g2": "x", "g3": "y"}
    rows = [
        Pair("ant", "bee", 1, group_a="g1", group_b="g2"),
        Pair("ant", "cat", 0, group_a="g1", group_b="g3"),
        Pair("ant", "dog", 0, group_a="g1", group_b="g2", same_category=False),
        Pair("bee", "cat", 0, same_category=True),
    ]
    target = read(rows, categories=categories)
    assert target.knows_category_T.all()
    assert target.as_candidates.is_same_category_C.tolist() == [True, False, False, True]


@pytest.mark.parametrize(
    "unknown",
    [
        Pair("ant", "cat", 0),
        Pair("ant", "cat", 0, group_a="g1"),
        Pair("ant", "cat", 0, group_a="g1", group_b="new"),
        Pair("ant", "cat", 0, group_a="g1", group_b="g4"),
    ],
    ids=["no groups", "one group", "a group of no document", "a group without a category"],
)
def test_category_relation_is_unknown_where_a_pair_does_not_state_it(unknown):
    categories = {"g1": "x", "g2": "x", "g4": None}
    target = read([Pair("ant", "bee", 1, group_a="g1", group_b="g2"), unknown], categories=categories)
    assert target.knows_category_T.tolist() == [True, False]


def test_category_of_a_group_is_that_of_its_first_document():
    rows = [
        Document("0", "a", "x", "g1"),
        Document("1", "b", "y", "g1"),
        Document("2", "c", None, "g2"),
        Document("3", "d", "z", "g2"),
        Document("4", "e", "z", None),
    ]
    assert categories_of_groups(rows) == {"g1": "x", "g2": None}
    assert categories_of_groups([*rows, Document("x", "text", "z", "G1 ")]) == {"g1": "x", "g2": None}


# Removing the shortcut


def histograms(target: Target):
    """Yield the weighted TF-IDF histogram of each class, as shares."""
    bin_T = tfidf_bins(target.as_candidates.tfidf_C)
    for label in (True, False):
        in_class_T = target.as_candidates.is_positive_C == label
        counts = np.bincount(bin_T[in_class_T], weights=target.weight_T[in_class_T], minlength=41)
        yield counts / counts.sum()


def test_weights_give_both_classes_the_mean_of_their_shares():
    target = target_of([0.11, 0.31, 0.31, 0.31, 0.11, 0.11, 0.11, 0.31], [1, 1, 1, 1, 0, 0, 0, 0], shortcut=0.5)
    weight_T = without_shortcut(target).weight_T
    assert weight_T == pytest.approx([2, 2 / 3, 2 / 3, 2 / 3, 2 / 3, 2 / 3, 2 / 3, 2])


@given(st.lists(st.tuples(st.integers(0, 40), st.booleans()), min_size=2, max_size=60))
def test_weighted_classes_have_the_same_distribution_of_tfidf(pairs):
    tfidf, labels = zip(*[(0, True), (0, False), *pairs], strict=True)
    weighted = without_shortcut(target_of(np.array(tfidf) * 0.025, labels, shortcut=-0.3))
    np.testing.assert_allclose(*histograms(weighted), atol=1e-12)
    assert weighted.weight_T.max() <= 3
    # A weight is zero exactly where the other class has no pair in the same bin.
    occupied = {(0, True), (0, False), *pairs}
    has_other = [(bin_, not label) in occupied for bin_, label in zip(tfidf, labels, strict=True)]
    assert (weighted.weight_T > 0).tolist() == has_other


@pytest.mark.parametrize("shortcut", [None, 0.0, 0.05, -0.05])
def test_without_a_shortcut_all_weights_are_equal(shortcut):
    target = target_of([0.1, 0.3, 0.3, 0.3], [1, 1, 1, 0], shortcut=shortcut)
    assert without_shortcut(target) is target


def test_classes_without_a_common_tfidf_cosine_are_refused():
    with pytest.raises(InputError, match="classes have no TF-IDF cosine in common"):
        without_shortcut(target_of([0.1, 0.2], [0, 1], shortcut=1.0))


# Imputed labels


def candidates_of(num=4000, *, baselines=(0.4, 0.6), same=(0.5, 0.5)) -> Candidates:
    """Return negatives and positives with normally distributed baseline scores and a share of one category each."""
    rng = np.random.default_rng(11)
    label = np.arange(num) % 2
    baseline = rng.normal(np.take(baselines, label), 0.1)
    is_same = rng.random(num) < np.take(same, label)
    return target_of(rng.uniform(0, 0.6, num), label, is_same=is_same, baseline=baseline).as_candidates


def imputed(target: Target, candidates: Candidates, seed=0) -> Target:
    bare = replace(
        target,
        is_labelled=False,
        as_candidates=replace(target.as_candidates, is_positive_C=np.zeros(len(target.as_candidates), bool)),
    )
    return impute(bare, candidates, np.random.default_rng(seed))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60), st.integers(0, 5))
def test_half_of_every_stretch_of_tfidf_is_positive(tfidf, seed):
    pairs = imputed(target_of(tfidf), candidates_of(), seed).as_candidates
    stretch_T = tfidf_bins(pairs.tfidf_C) // 2
    for stretch in set(stretch_T.tolist()):
        num, num_positive = np.sum(stretch_T == stretch), pairs.is_positive_C[stretch_T == stretch].sum()
        assert abs(2 * num_positive - num) <= 1


def test_only_labels_are_imputed():
    rng = np.random.default_rng(0)
    target = target_of(rng.uniform(0, 0.6, 50), is_same=rng.random(50) < 0.5, baseline=rng.random(50))
    labelled = imputed(target, candidates_of())
    assert labelled.as_candidates.is_positive_C.sum() in range(20, 30)
    assert not labelled.is_labelled
    assert (labelled.pairs, labelled.band, labelled.shortcut) == (target.pairs, target.band, target.shortcut)
    assert labelled.weight_T.tolist() == target.weight_T.tolist()
    for column in ("a_C", "b_C", "is_same_category_C", "feature_CF"):
        np.testing.assert_array_equal(getattr(labelled.as_candidates, column), getattr(target.as_candidates, column))


def test_imputed_classes_overlap_in_the_baseline_as_the_candidates_do():
    candidates = candidates_of()
    # The target consists of the candidates themselves, whose labels are known.
    labelled = imputed(candidates_target(candidates), candidates)
    classes = [
        labelled.as_candidates.baseline_C[labelled.as_candidates.is_positive_C == label] for label in (False, True)
    ]
    assert [score_T.mean() for score_T in classes] == pytest.approx([0.4, 0.6], abs=0.02)
    assert [score_T.std() for score_T in classes] == pytest.approx([0.1, 0.1], abs=0.01)
    auc = roc_auc_score(labelled.as_candidates.is_positive_C, labelled.as_candidates.baseline_C)
    assert auc == pytest.approx(norm.cdf(0.2 / 0.1 / np.sqrt(2)), abs=0.02)


def candidates_target(candidates: Candidates) -> Target:
    return replace(target_of([0.1] * len(candidates)), as_candidates=candidates)


def test_imputed_classes_have_the_categories_that_the_candidates_have():
    candidates = candidates_of(baselines=(0.5, 0.5), same=(0.3, 0.9))
    labelled = imputed(candidates_target(candidates), candidates)
    for label, share in ((True, 0.9), (False, 0.3)):
        in_class_T = labelled.as_candidates.is_positive_C == label
        assert labelled.as_candidates.is_same_category_C[in_class_T].mean() == pytest.approx(share, abs=0.04)


def test_unknown_categories_do_not_affect_the_labels():
    candidates = candidates_of(baselines=(0.5, 0.5), same=(0.0, 1.0))
    target = replace(candidates_target(candidates), knows_category_T=np.zeros(len(candidates), dtype=bool))
    labelled = imputed(target, candidates)
    assert (
        abs(np.corrcoef(labelled.as_candidates.is_positive_C, labelled.as_candidates.is_same_category_C)[0, 1]) < 0.05
    )


def test_labels_are_random_where_the_candidates_classes_are_alike():
    target = target_of(np.full(2000, 0.1), is_same=np.arange(2000) % 2 == 0, baseline=np.linspace(0, 1, 2000))
    labelled = imputed(target, candidates_of(baselines=(0.5, 0.5)))
    assert labelled.as_candidates.is_positive_C.sum() == 1000
    assert roc_auc_score(labelled.as_candidates.is_positive_C, target.as_candidates.baseline_C) == pytest.approx(
        0.5, abs=0.06
    )


def test_imputed_labels_depend_on_the_seed():
    target, candidates = target_of(np.full(100, 0.1), baseline=0.5), candidates_of()
    one, again, other = (imputed(target, candidates, seed).as_candidates.is_positive_C.tolist() for seed in (1, 1, 2))
    assert one == again != other


# Unknown category relations


def test_known_category_relations_are_kept():
    target = target_of([0.1] * 4, [1, 0, 1, 0])
    some = replace(target, knows_category_T=np.array([True, True, False, False]))
    assert not target.as_candidates.is_same_category_C.any()
    like = settle_same_category(some, "categories", 1.0, np.random.default_rng(0)).as_candidates
    assert like.is_same_category_C.tolist() == [False, False, True, True]


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_unknown_negatives_are_of_one_category_by_the_given_share(share):
    target = target_of(np.full(4000, 0.1), np.arange(4000) % 2, knows_categories=False)
    like = settle_same_category(target, "categories", share, np.random.default_rng(0)).as_candidates
    assert like.is_same_category_C[like.is_positive_C].all()
    # The standard deviation of 2000 draws is 0.01.
    assert like.is_same_category_C[~like.is_positive_C].mean() == pytest.approx(share, abs=0.04 if share % 1 else 0)


def test_where_categories_label_the_pairs_exactly_the_positives_are_of_one():
    target = target_of([0.1] * 4, [1, 0, 1, 0], is_same=[0, 1, 0, 1])
    like = settle_same_category(target, "labels", 0.7, np.random.default_rng(0)).as_candidates
    assert like.is_same_category_C.tolist() == [True, False, True, False]


def test_without_categories_no_pair_is_of_one():
    target = target_of([0.1] * 4, [1, 0, 1, 0], is_same=[1, 1, 0, 1])
    assert not settle_same_category(
        target, "nothing", 0.7, np.random.default_rng(0)
    ).as_candidates.is_same_category_C.any()
