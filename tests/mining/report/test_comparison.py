import math
from dataclasses import fields, replace

import numpy as np
import pytest

from mining.corpus.embeddings import Vectors
from mining.matching.target import Target
from mining.report.comparison import View, match_report, view_of, view_of_target
from mining.sampling.features import Candidates, join
from simile.artifacts import AdversarialAuc, Pair
from simile.scoring import load
from training.baseline import make_baseline


def texts(rng, num, *, num_words=6) -> list[str]:
    return [" ".join(rng.choice(list("abcdefgh"), num_words)) for _ in range(num)]


def random_view(seed, num=1500, *, shift=0.0, num_words=6, has_baseline=True) -> View:
    """Return pairs with random features and texts of their own; the positives' TF-IDF is shifted."""
    rng = np.random.default_rng(seed)
    is_positive_P = rng.random(num) < 0.5
    ends = zip(texts(rng, num, num_words=num_words), texts(rng, num, num_words=num_words), strict=True)
    return View(
        np.arange(num) * 2,
        np.arange(num) * 2 + 1,
        pairs=as_objects(Pair(f"{seed} {i} {a}", f"{seed} {i} {b}") for i, (a, b) in enumerate(ends)),
        is_positive_C=is_positive_P,
        tfidf_C=rng.normal(0.3, 0.05, num).clip(0, 1).round(4) + shift * is_positive_P,
        length_ratio_C=rng.random(num),
        is_same_category_C=rng.random(num) < 0.5,
        baseline_C=rng.normal(0.4, 0.1, num) if has_baseline else np.full(num, np.nan),
    )


def as_objects(pairs) -> np.ndarray:
    return np.array(list(pairs), dtype=object)


def target_of(view: View, *, weights=None, is_labelled=True) -> Target:
    like = Candidates(*(getattr(view, field.name) for field in fields(Candidates)))
    weight_T = np.ones(len(view)) if weights is None else np.array(weights, dtype=np.float64)
    return Target(tuple(view.pairs), like, weight_T, (0.0, 1.0), is_labelled, 0, None, True)


def view(tfidf, is_positive, *, is_same=False) -> View:
    num = len(tfidf)
    return View(
        np.arange(num) * 2,
        np.arange(num) * 2 + 1,
        np.array(tfidf, dtype=np.float64),
        np.full(num, 0.5),
        np.full(num, np.nan),
        np.array(is_positive, dtype=bool),
        np.broadcast_to(np.asarray(is_same, dtype=bool), num).copy(),
        as_objects(Pair(f"one {i}", f"other {i}") for i in range(num)),
    )


# Views


def test_view_of_pairs_has_their_features():
    pairs = [
        Pair("abcd", "ab", 1, tfidf=0.25, same_category=True),
        Pair("x", "xyzzy", 0, tfidf=0.5, same_category=False),
        Pair("abc", "cde", 0, tfidf=0.0),
    ]
    seen = view_of(pairs, None)
    assert seen.pairs.tolist() == pairs
    assert seen.is_positive_C.tolist() == [True, False, False]
    assert seen.is_same_category_C.tolist() == [True, False, False]
    assert not seen.has_baseline
    assert seen.matched_features().tolist() == [[0.25, 0.5, 1], [0.5, 0.2, 0], [0, 1, 0]]


def test_length_ratio_does_not_depend_on_the_order():
    seen = view_of([Pair("abcd", "abc", 1, tfidf=0.0), Pair("abc", "abcd", 0, tfidf=0.0)], None)
    assert seen.length_ratio_C.tolist() == [0.75, 0.75]


def test_view_of_a_target_is_rounded_as_mined_pairs_are():
    target = target_of(view([0.123456, 0.2], [1, 0], is_same=[False, True]))
    seen = view_of_target(target)
    assert seen.matched_features().tolist() == [[0.1235, 0.5, 0], [0.2, 0.5, 1]]
    assert seen.is_positive_C.tolist() == [True, False]
    assert (tuple(seen.pairs), seen.has_baseline) == (target.pairs, False)


def test_baseline_is_one_more_feature():
    seen = view_of_target(target_of(random_view(0, 10)))
    assert seen.matched_features().shape == (10, 4)
    np.testing.assert_array_equal(seen.matched_features()[:, 3], seen.baseline_C)


def test_part_of_a_view_has_the_features_of_its_pairs():
    whole = random_view(0, 10)
    some = whole.take(np.array([7, 2]))
    assert some.pairs.tolist() == [whole.pairs[7], whole.pairs[2]]
    np.testing.assert_array_equal(some.matched_features(), whole.matched_features()[[7, 2]])
    assert some.is_positive_C.tolist() == whole.is_positive_C[[7, 2]].tolist()


# Match report


@pytest.fixture(scope="module")
def same():
    """Return the report on a target and the very same pairs."""
    target = random_view(0)
    return match_report(target, target_of(target), None, seed=0)


@pytest.fixture(scope="module")
def alike():
    """Return the report on other pairs of the target's distribution."""
    return match_report(random_view(1), target_of(random_view(2)), None, seed=0)


@pytest.fixture(scope="module")
def shifted():
    """Return the report on positives that have more words in common than the target's."""
    return match_report(random_view(1, shift=0.2), target_of(random_view(2)), None, seed=0)


def test_equal_pairs_have_no_distance_and_are_indistinguishable(same):
    assert same.distance == {"positive": 0, "negative": 0}
    # It is below 0.5 because the classifier may have trained on the twin of a test pair, with the opposite label.
    assert all(0.3 < auc < 0.5 for aucs in same.adversarial.values() for auc in (aucs.matched, aucs.all))


def test_pairs_of_the_same_distribution_are_near_and_indistinguishable(alike):
    assert max(alike.distance.values()) < 0.15
    assert set(alike.distance) == set(alike.adversarial) == {"positive", "negative"}
    for auc in alike.adversarial.values():
        assert (auc.matched, auc.all) == (pytest.approx(0.5, abs=0.06), pytest.approx(0.5, abs=0.06))


def test_pairs_of_another_distribution_are_distinguished_in_the_class_that_has_it(shifted):
    assert shifted.distance["positive"] > 0.6
    assert shifted.distance["negative"] < 0.15
    assert shifted.adversarial["positive"].matched > 0.95
    assert shifted.adversarial["positive"].all > 0.95
    assert shifted.adversarial["negative"].matched == pytest.approx(0.5, abs=0.06)


def test_shares_of_the_joint_distribution_sum_to_one(same, alike, shifted):
    for report in (same, alike, shifted):
        for name in ("positive", "negative", "all"):
            for side in ("target", "mined"):
                assert math.fsum(getattr(cell.share(name), side) for cell in report.joint) == pytest.approx(1)


def test_every_cell_of_the_joint_distribution_holds_a_pair(same, alike, shifted):
    for report in (same, alike, shifted):
        assert all(cell.all.target or cell.all.mined for cell in report.joint)
        places = [(*cell.tfidf, *cell.length_ratio, *cell.baseline, cell.same_category) for cell in report.joint]
        assert len(set(places)) == len(places) <= 3 * 2 * 3 * 2


def test_distance_is_half_the_sum_of_the_shares_differences(shifted):
    for name, distance in shifted.distance.items():
        gaps = [abs(cell.share(name).target - cell.share(name).mined) for cell in shifted.joint]
        assert distance == pytest.approx(sum(gaps) / 2)


def test_joint_distribution_of_a_few_pairs():
    target = view([0.0, 0.1, 0.1, 0.3, 0.3, 0.0], [1, 1, 0, 0, 1, 0])
    mined = view([0.2, 0.2, 0.2, 0.05], [1, 1, 0, 0], is_same=[False, False, False, True])
    report = match_report(mined, target_of(target), None, seed=0)
    # The terciles of the target's sorted TF-IDF lie at 5/3 and 10/3 of the steps between neighbouring pairs.
    edges = [0.067, 0.167]
    cells = {
        (None, edges[0], False): [(1 / 3, 0), (1 / 3, 0), (1 / 3, 0)],
        (None, edges[0], True): [(0, 0), (0, 1 / 2), (0, 1 / 4)],
        (edges[0], edges[1], False): [(1 / 3, 0), (1 / 3, 0), (1 / 3, 0)],
        (edges[1], None, False): [(1 / 3, 1), (1 / 3, 1 / 2), (1 / 3, 3 / 4)],
    }
    assert {
        (*cell.tfidf, cell.same_category): [
            (cell.share(name).target, cell.share(name).mined) for name in ("positive", "negative", "all")
        ]
        for cell in report.joint
    } == {place: [pytest.approx(pair) for pair in shares] for place, shares in cells.items()}
    assert report.distance == pytest.approx({"positive": 2 / 3, "negative": 2 / 3})
    # There are too few pairs for an AUC.
    assert report.adversarial == dict.fromkeys(("positive", "negative"), AdversarialAuc(matched=None, all=None))


def test_further_features_distinguish_pairs_that_were_matched():
    mined, target = random_view(1, num_words=9), random_view(2)
    auc = match_report(mined, target_of(target, is_labelled=False), None, seed=0).adversarial["all"]
    assert auc.matched == pytest.approx(0.5, abs=0.06)
    assert auc.all > 0.95


def test_common_ngrams_distinguish_pairs_that_were_matched():
    def with_common(of: View, num: int) -> View:
        """Return the view with equally long texts that have ``num`` words in common."""
        rng = np.random.default_rng(3)
        words = ["".join(word) for word in rng.choice(list("abcdefgh"), (500, 5))]
        rows = [rng.permutation(words)[:10].tolist() for _ in of.pairs]
        pairs = as_objects(Pair(" ".join(row[:5]), " ".join(row[5 - num : 10 - num])) for row in rows)
        return replace(of, pairs=pairs)

    mined, target = with_common(random_view(1), 2), with_common(random_view(2), 1)
    auc = match_report(mined, target_of(target, is_labelled=False), None, seed=0).adversarial["all"]
    assert auc.matched == pytest.approx(0.5, abs=0.06)
    assert auc.all > 0.95


def test_with_imputed_labels_only_all_pairs_together_are_compared():
    mined, target = random_view(1), random_view(2)
    report = match_report(mined, target_of(target, is_labelled=False), None, seed=0)
    assert set(report.distance) == set(report.adversarial) == {"all"}
    assert report.distance["all"] < 0.1
    assert report.adversarial["all"].matched == pytest.approx(0.5, abs=0.06)


def test_pairs_of_weight_zero_are_left_out():
    kept = random_view(2, 300)
    other = replace(kept, baseline_C=kept.baseline_C - 1)
    target = target_of(join([kept, other]), weights=[0.5] * 300 + [0] * 300)
    assert match_report(kept, target, None, seed=0).distance == {"positive": 0, "negative": 0}


def test_pairs_count_in_proportion_to_their_weight():
    target = view([0.1] * 2000 + [0.3] * 1000, [1, 0] * 1500)
    weights = [0.25] * 2000 + [1.0] * 1000
    report = match_report(view([0.1, 0.3, 0.3], [1, 1, 1]), target_of(target, weights=weights), None, seed=0)
    # A quarter of two thirds of the pairs against a whole third.
    shares = [cell.all.target for cell in report.joint]
    assert shares == pytest.approx([1 / 3, 2 / 3], abs=0.03)


def test_a_class_without_mined_pairs_is_left_out():
    mined = view([0.1, 0.3], [1, 1])
    report = match_report(mined, target_of(view([0.1, 0.3, 0.2], [1, 1, 0])), None, seed=0)
    assert set(report.distance) == set(report.adversarial) == {"positive"}


def test_match_report_depends_on_the_seed():
    mined, target = random_view(1, 400), target_of(random_view(2, 400), is_labelled=False)
    one, again, other = (match_report(mined, target, None, seed=seed).adversarial for seed in (1, 1, 2))
    assert one == again != other


# The baseline's embeddings


@pytest.fixture(scope="module")
def scorer(make_base, tmp_path_factory):
    bundle = make_baseline(str(make_base("bert")), tmp_path_factory.mktemp("baseline") / "tiny")
    return load(bundle.path, device="cpu", precision="fp32")


def test_baseline_score_of_a_view_is_the_bundles_score(scorer):
    pairs = [Pair("my password", "the password", 1, tfidf=0.5), Pair("a room", "my account", 0, tfidf=0.0)]
    seen = view_of(pairs, Vectors(scorer, [text for pair in pairs for text in (pair.text_a, pair.text_b)]))
    assert seen.baseline_C == pytest.approx(scorer.score([(pair.text_a, pair.text_b) for pair in pairs]), abs=1e-6)


def test_embeddings_distinguish_pairs_that_were_matched(scorer):
    others = ["contract", "delivery", "transfer", "anything", "tomorrow", "question", "remember"]
    rng = np.random.default_rng(0)

    def positives(seed, words) -> View:
        """Return pairs that differ in one word of eight letters."""
        swaps = [(text, rng.permutation(words)[:2]) for text in texts(rng, 800)]
        pairs = as_objects(Pair(f"{text} {a}", f"{text} {b}") for text, (a, b) in swaps)
        return replace(random_view(seed, 800), pairs=pairs, is_positive_C=np.ones(800, dtype=bool))

    mined, target = positives(1, ["password", "accounts"]), positives(2, others)
    vectors = Vectors(
        scorer, [text for of in (mined, target) for pair in of.pairs for text in (pair.text_a, pair.text_b)]
    )
    plain, embedded = (
        match_report(mined, target_of(target), given, seed=0).adversarial["positive"] for given in (None, vectors)
    )
    assert embedded.matched == plain.matched == pytest.approx(0.5, abs=0.08)
    assert embedded.all > max(0.9, plain.all + 0.1)
