"""Properties of the pairs mined from any corpus, tested on small random ones."""

from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer

from mining.config import MineConfig
from mining.corpus.gather import gather
from mining.corpus.sketch import Sampling
from mining.corpus.split import distinct, split_documents
from mining.mine import MIN_HELD_OUT, Mined, mine
from simile.artifacts import Document, Pair, PairSet, group_key
from simile.errors import InputError
from tests.mining.corpora import WORDS


@pytest.fixture(autouse=True, scope="module")
def small_test_sets():
    """Leave the test sets of these small corpora, which would be too small to judge by."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mining.mine.MIN_TEST_PAIRS", 2)
        yield


@dataclass(frozen=True)
class Case:
    """A corpus, and what was mined from it."""

    documents: tuple[Document, ...]
    config: MineConfig
    held_out: tuple[str, ...]
    mined: Mined

    def document(self, text: str) -> Document:
        return next(row for row in self.documents if row.text == text)

    @property
    def parts(self) -> dict[str, list[Pair]]:
        """All sets except a curriculum's phases, which are parts of the training pairs."""
        return {name: pairs for name, pairs in self.mined.sets.items() if not name.startswith("phase")}

    @property
    def unseen_groups(self) -> dict[str, set[str]]:
        return {
            name: {group for pair in pairs for group in (pair.group_a, pair.group_b)}
            for name, pairs in self.mined.sets.items()
            if name.endswith("-unseen")
        }


some_texts = st.lists(st.sampled_from(WORDS), min_size=2, max_size=7).map(" ".join)


@st.composite
def corpora(draw) -> tuple[Document, ...]:
    """Draw documents of some groups, each in a category.

    Some texts occur twice, with other case and white space, in the same group or in another one, which may be spelled
    in another way.
    """
    rows = []
    for group in range(draw(st.integers(2, 8))):
        category = draw(st.sampled_from("xyz"))
        for text in draw(st.lists(some_texts, min_size=1, max_size=9)):
            rows.append(Document(f"d{len(rows)}", text, category, f"g{group}"))
    for row in draw(st.lists(st.sampled_from(rows), max_size=3)):
        group = draw(st.sampled_from([row.group, f"{row.group.upper()} ", "G0\u200b", "g1"]))
        rows.append(Document(f"d{len(rows)}", row.text.upper().replace(" ", "  "), row.category, group))
    return tuple(draw(st.permutations(rows)))


some_configs = st.builds(
    MineConfig,
    strategy=st.sampled_from(["matched", "matched", "bands", "curriculum"]),
    pairs=st.integers(2, 120),
    band=st.sampled_from([(0.0, 1.0), None, (0.2, 0.9)]),
    positive_band=st.sampled_from([(0.3, 0.5), (0.1, 0.9)]),
    negative_band=st.sampled_from([(0.15, 0.45), (0.0, 0.8)]),
    same_category=st.sampled_from([0.0, 0.5, 0.7, 1.0]),
    max_uses=st.integers(1, 20),
    dev_share=st.sampled_from([0.0, 0.1, 0.3]),
    test_share=st.sampled_from([0.0, 0.25]),
    seed=st.integers(0, 3),
)


@st.composite
def cases_or_none(draw) -> Case | None:
    documents, config = draw(corpora()), draw(some_configs)
    held_out = tuple(draw(st.lists(st.sampled_from([row.text for row in documents]), max_size=2)))
    try:
        return Case(documents, config, held_out, mine(documents, config, held_out=held_out))
    except InputError:
        return None


some_cases = cases_or_none().filter(lambda case: case is not None)
quick = settings(max_examples=20, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])


def same(text: str) -> str:
    """Return the text without the differences between duplicates."""
    return " ".join(text.lower().split())


def texts_of(pairs) -> set[str]:
    return {text for pair in pairs for text in (pair.text_a, pair.text_b)}


@quick
@given(some_cases)
def test_no_pair_occurs_twice_and_no_text_is_paired_with_itself(case):
    for pairs in case.mined.sets.values():
        ends = [frozenset((same(pair.text_a), same(pair.text_b))) for pair in pairs]
        assert all(len(both) == 2 for both in ends)
        assert len(set(ends)) == len(ends)


@quick
@given(some_cases)
def test_labels_groups_and_categories_are_those_of_the_documents(case):
    for pair in (pair for pairs in case.mined.sets.values() for pair in pairs):
        a, b = case.document(pair.text_a), case.document(pair.text_b)
        assert (group_key(pair.group_a), group_key(pair.group_b)) == (group_key(a.group), group_key(b.group))
        assert pair.label == (pair.group_a == pair.group_b)
        assert pair.same_category == (a.category == b.category)


@quick
@given(some_cases)
def test_no_negative_pair_is_of_two_groups_that_share_a_text(case):
    texts_of_group = defaultdict(set)
    for row in case.documents:
        texts_of_group[group_key(row.group)].add(same(row.text))
    for pair in (pair for pairs in case.mined.sets.values() for pair in pairs if pair.label == 0):
        assert not texts_of_group[group_key(pair.group_a)] & texts_of_group[group_key(pair.group_b)]


@quick
@given(some_cases)
def test_tfidf_is_the_cosine_and_lies_in_the_band(case):
    texts = [row.text for row in case.documents]
    tfidf_NW = TfidfVectorizer(sublinear_tf=True).fit_transform(texts)
    dense = dict(zip(texts, tfidf_NW.toarray(), strict=True))
    for name, pairs in case.mined.sets.items():
        for pair in pairs:
            cosine = float(dense[pair.text_a] @ dense[pair.text_b])
            assert pair.tfidf == pytest.approx(cosine, abs=6e-5)
            low, high = band_of(case.config, name, pair)
            assert low - 1e-9 <= cosine <= high + 1e-9


def band_of(config: MineConfig, name: str, pair: Pair) -> tuple[float, float]:
    if name == "pairs" and config.strategy == "bands":
        return config.positive_band if pair.label else config.negative_band
    # Held-out sets take pairs outside of the default band too where they would have too few.
    if pair.tier == "group" or config.band is None:
        return (0, 1)
    # The easy phases may take pairs from anywhere.
    is_easy = name in ("phase1", "phase2") or (name == "pairs" and config.strategy == "curriculum")
    return (0, 1) if is_easy else config.band


@quick
@given(some_cases)
def test_no_text_is_in_more_pairs_of_a_class_than_allowed(case):
    for pairs in case.mined.sets.values():
        usage_count = Counter((pair.label, text) for pair in pairs for text in (pair.text_a, pair.text_b))
        assert max(usage_count.values()) <= case.config.max_uses


@quick
@given(some_cases)
def test_there_are_never_more_pairs_than_wanted_and_as_many_of_each_class(case):
    assert "pairs" in case.mined.sets
    for name, pairs in case.mined.sets.items():
        count = Counter((pair.label, pair.tier) for pair in pairs)
        assert all(count[0, tier] == count[1, tier] > 0 for _, tier in count if tier != "group")
        assert count[0, "group"] <= count[1, "group"]
        assert {pair.label for pair in pairs} == {0, 1}
        assert len(pairs) <= (MIN_HELD_OUT if name.startswith(("dev", "test")) else case.config.pairs)


@quick
@given(some_cases)
def test_tfidf_does_not_separate_the_classes(case):
    for name, pairs in case.mined.sets.items():
        if name.startswith(("dev", "test")) or (name == "pairs" and case.config.strategy == "matched"):
            matched = [pair for pair in pairs if pair.tier != "group"]
            if not matched:
                continue
            means = [np.mean([pair.tfidf for pair in matched if pair.label == label]) for label in (0, 1)]
            # The means differ no more than a positive and its negative may, apart from rounding.
            assert abs(means[0] - means[1]) <= 0.2 * max(0.02, spread_of_positives(case, name)) + 1e-4


def spread_of_positives(case: Case, name: str) -> float:
    """Return the standard deviation of the TF-IDF cosines of all positive pairs that the set could hold."""
    config, texts = case.config, [row.text for row in case.documents]
    documents = gather(case.documents, Sampling(len(texts), 0)).rows
    rows, _ = distinct(documents, case.held_out)
    split = split_documents(rows, dev_share=config.dev_share, test_share=config.test_share, seed=config.seed)
    members = split["train" if name == "pairs" else name]
    dense = TfidfVectorizer(sublinear_tf=True).fit(texts).transform([row.text for row in members]).toarray()
    ends = [(a, b) for a, b in combinations(range(len(members)), 2) if members[a].group == members[b].group]
    low, high = config.band or (0.0, 1.0)
    return float(np.std([cosine for a, b in ends if low - 1e-9 <= (cosine := dense[a] @ dense[b]) <= high + 1e-9]))


@quick
@given(some_cases)
def test_held_out_texts_are_in_no_pair(case):
    held_out = {same(text) for text in case.held_out}
    for pairs in case.mined.sets.values():
        assert not held_out & {same(text) for text in texts_of(pairs)}


@quick
@given(some_cases, st.integers(0, 3))
def test_no_text_of_the_target_is_in_a_pair_of_any_tier(case, seed):
    labelled = [pair for pairs in case.parts.values() for pair in pairs]
    rng = np.random.default_rng(seed)
    rows = tuple(replace(labelled[i], tier=None) for i in rng.permutation(len(labelled))[:6])
    try:
        mined = mine(case.documents, case.config, PairSet("target", rows, "0" * 64))
    except InputError:
        return
    target = {same(text) for text in texts_of(rows)}
    assert not target & {same(text) for pairs in mined.sets.values() for text in texts_of(pairs)}


@quick
@given(some_cases)
def test_tiers_follow_each_other_and_are_those_of_the_strategy(case):
    tiers = [pair.tier for pair in case.mined.sets["pairs"]]
    assert set(tiers) <= ({"matched", "group"} if case.config.strategy == "matched" else {None})
    assert tiers == sorted(tiers, key=["matched", "group", None].index)
    assert {pair.tier for name, pairs in case.mined.sets.items() for pair in pairs if name != "pairs"} <= {None}


@quick
@given(some_cases)
def test_no_text_is_in_two_sets(case):
    for left, right in combinations(case.parts.values(), 2):
        assert not {same(text) for text in texts_of(left)} & {same(text) for text in texts_of(right)}


@quick
@given(some_cases)
def test_no_held_out_group_is_in_another_set(case):
    for name, groups in case.unseen_groups.items():
        for other, pairs in case.mined.sets.items():
            if other != name:
                assert not groups & {group for pair in pairs for group in (pair.group_a, pair.group_b)}


@quick
@given(some_cases)
def test_seen_sets_hold_only_groups_of_the_training_set(case):
    training = {row.group for row in case.documents} - set().union(*case.unseen_groups.values(), set())
    for name, pairs in case.mined.sets.items():
        if name.endswith("-seen"):
            assert {group for pair in pairs for group in (pair.group_a, pair.group_b)} <= training


@quick
@given(some_cases)
def test_the_same_seed_gives_the_same_pairs_in_the_same_order(case):
    again = mine(case.documents, case.config, held_out=case.held_out)
    assert again.sets == case.mined.sets
    assert again.facts == case.mined.facts
