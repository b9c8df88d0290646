import json
import unicodedata
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.stats import spearmanr

from mining.config import MineConfig
from mining.corpus.split import distinct, split_documents
from mining.mine import mine, write_mined
from simile.artifacts import Document, Pair, PairSet, read_labelled_pairs, text_key
from simile.errors import InputError
from simile.scoring import load
from tests.mining.corpora import corpus


def texts_of(pairs) -> set[str]:
    return {text_key(text) for pair in pairs for text in (pair.text_a, pair.text_b)}


def html_escaped(text: str) -> str:
    return "".join(f"&#{ord(sign)};" for sign in text)


def by_label(pairs) -> Counter:
    return Counter(pair.label for pair in pairs)


def alone(pairs) -> float:
    """Return the Spearman that TF-IDF alone reaches."""
    return spearmanr([pair.tfidf for pair in pairs], [pair.label for pair in pairs]).statistic


@pytest.fixture(scope="module")
def mined(helpdesk):
    return mine(helpdesk, MineConfig(pairs=4000, dev_share=0.05, test_share=0.2))


def test_tfidf_alone_does_not_order_the_helpdesk_pairs(mined):
    assert set(mined.sets) == {"pairs", "dev-seen", "dev-unseen", "test-seen", "test-unseen"}
    assert len(mined.sets["pairs"]) == 4000
    for pairs in mined.sets.values():
        assert abs(alone(pairs)) < 0.05


def test_tfidf_alone_does_not_order_the_helpdesk_pairs_that_the_defaults_give(helpdesk):
    pairs = mine(helpdesk, MineConfig(dev_share=0)).sets["pairs"]
    assert by_label(pairs) == {0: 7500, 1: 7500}
    assert {pair.tier for pair in pairs} == {"matched"}
    assert abs(alone(pairs)) < 0.05


def test_order_of_the_pairs_does_not_reveal_the_label(mined):
    labels = [pair.label for pair in mined.sets["pairs"]]
    assert abs(spearmanr(range(len(labels)), labels).statistic) < 0.05


def test_most_negatives_are_near_misses_of_one_category(mined):
    same = [pair.same_category for pair in mined.sets["pairs"] if pair.label == 0]
    assert np.mean(same) == pytest.approx(0.7, abs=0.02)


def test_another_seed_gives_other_pairs(helpdesk, mined):
    other = mine(helpdesk, MineConfig(pairs=4000, test_share=0.2, seed=1))
    assert len(set(other.sets["pairs"]) & set(mined.sets["pairs"])) < 1000


def test_strategy_bands_has_the_shortcut_that_matched_removes(helpdesk):
    mined = mine(helpdesk, MineConfig(strategy="bands", pairs=400))
    pairs = mined.sets["pairs"]
    assert by_label(pairs) == {0: 200, 1: 200}
    assert all(0.30 <= pair.tfidf <= 0.50 for pair in pairs if pair.label)
    assert all(0.15 <= pair.tfidf <= 0.45 for pair in pairs if not pair.label)
    assert alone(pairs) > 0.3
    assert np.mean([pair.same_category for pair in pairs if not pair.label]) == pytest.approx(0.7, abs=0.01)
    # Held-out sets have no shortcut with any strategy.
    assert abs(alone(mined.sets["dev-unseen"])) < 0.05


def test_curriculum_goes_from_pairs_with_a_shortcut_to_pairs_without(helpdesk):
    sets = mine(helpdesk, MineConfig(strategy="curriculum", pairs=1200, dev_share=0)).sets
    phases = [sets[f"phase{i}"] for i in (1, 2, 3)]
    assert [by_label(phase) for phase in phases] == [{0: 200, 1: 200}] * 3
    assert sets["pairs"] == [pair for phase in phases for pair in phase]
    assert len({frozenset((pair.text_a, pair.text_b)) for pair in sets["pairs"]}) == 1200
    easy, medium, hard = (alone(phase) for phase in phases)
    assert easy > 0.8
    assert medium > 0.8
    assert abs(hard) < 0.05
    gaps = [mean_tfidf(phase, 1) - mean_tfidf(phase, 0) for phase in phases]
    assert gaps[0] > 2 * gaps[1] > gaps[2]


def mean_tfidf(pairs, label: int) -> float:
    return np.mean([pair.tfidf for pair in pairs if pair.label == label])


def as_target(pairs) -> PairSet:
    return PairSet("target", tuple(pairs), "0" * 64)


def histogram(pairs, label: int) -> np.ndarray:
    tfidf = [pair.tfidf for pair in pairs if pair.label == label]
    return np.histogram(tfidf, np.linspace(0, 1, 21))[0] / len(tfidf)


@pytest.fixture(scope="module")
def target(helpdesk) -> PairSet:
    """Pairs of another difficulty than the corpus itself gives: mostly of high overlap, few of one category."""
    pairs = mine(helpdesk, MineConfig(pairs=600, dev_share=0, band=(0.1, 0.4), same_category=0.4, seed=5)).sets["pairs"]
    return as_target(sorted(pairs, key=lambda pair: pair.tfidf)[150:])


def test_target_is_followed_and_its_texts_are_kept_out(helpdesk, target):
    mined = mine(helpdesk, MineConfig(pairs=1000), target)
    assert mined.facts.dropped["text of held-out pairs"] == len(texts_of(target.rows))
    for pairs in mined.sets.values():
        assert not texts_of(pairs) & texts_of(target.rows)
    pairs = mined.sets["pairs"]
    assert len(pairs) == 1000
    for label in (0, 1):
        assert np.abs(histogram(pairs, label) - histogram(target.rows, label)).sum() / 2 < 0.05
        share = [np.mean([pair.same_category for pair in rows if pair.label == label]) for rows in (pairs, target.rows)]
        assert share[0] == pytest.approx(share[1], abs=0.05)
    assert abs(alone(pairs)) < 0.05


def test_target_without_labels_is_followed_over_all_pairs(helpdesk, target):
    unlabelled = as_target(replace(pair, label=None) for pair in target.rows)
    mined = mine(helpdesk, MineConfig(pairs=1000, dev_share=0), unlabelled)
    pairs = mined.sets["pairs"]
    assert by_label(pairs) == {0: 500, 1: 500}
    assert abs(alone(pairs)) < 0.05
    edges = np.linspace(0, 1, 21)
    both = (pairs, target.rows)
    shares = [np.histogram([pair.tfidf for pair in rows], edges)[0] / len(rows) for rows in both]
    assert np.abs(shares[0] - shares[1]).sum() / 2 < 0.05
    share = [np.mean([pair.same_category for pair in rows]) for rows in both]
    assert share[0] == pytest.approx(share[1], abs=0.05)


def test_shortcut_of_the_target_is_not_followed(helpdesk):
    with_shortcut = mine(helpdesk, MineConfig(strategy="bands", pairs=600, dev_share=0, seed=5)).sets["pairs"]
    assert alone(with_shortcut) > 0.3
    mined = mine(helpdesk, MineConfig(pairs=400, dev_share=0), as_target(with_shortcut))
    assert len(mined.sets["pairs"]) > 20
    assert abs(alone(mined.sets["pairs"])) < 0.05


def test_band_leaves_out_pairs_of_the_target(helpdesk, target):
    mined = mine(helpdesk, MineConfig(pairs=200, dev_share=0, band=(0.2, 0.3)), target)
    assert mined.target.num_outside == sum(not 0.2 <= pair.tfidf <= 0.3 for pair in target.rows)
    assert all(0.2 - 1e-4 <= pair.tfidf <= 0.3 + 1e-4 for pair in mined.sets["pairs"])


def test_target_without_a_pair_in_the_band_is_refused(helpdesk, target):
    with pytest.raises(
        InputError, match=r"target target: got TF-IDF cosines of 0\.\d+-0\.\d+, need some in the band 0\.9-1"
    ):
        mine(helpdesk, MineConfig(pairs=200, band=(0.9, 1.0)), target)


class Untouched:
    """A baseline that must not embed anything."""

    members = ("any",)

    def embed(self, texts, on_progress):
        pytest.fail(f"{len(texts)} texts were embedded")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([Pair("an ant", "a bee", label=1)], "got pairs of one label only, need both"),
        ([Pair("an ant", "a bee", score=0.5)], "got graded scores, need label"),
    ],
)
def test_target_that_cannot_be_followed_is_refused_before_anything_is_read_or_embedded(helpdesk, rows, message):
    documents = iter(helpdesk)
    with pytest.raises(InputError, match=message):
        mine(documents, MineConfig(pairs=200), as_target(rows), baseline=Untouched())
    assert next(documents) is helpdesk[0]


def test_held_out_texts_are_recognized_regardless_of_case_and_white_space(helpdesk):
    held_out = [f"  {row.text.upper()}\n" for row in helpdesk[::10]]
    mined = mine(helpdesk, MineConfig(pairs=500), held_out=held_out)
    assert mined.facts.dropped["text of held-out pairs"] == len(held_out)
    for pairs in mined.sets.values():
        assert not texts_of(pairs) & {text_key(text) for text in held_out}


def test_duplicate_texts_are_left_out_and_counted():
    documents = corpus()
    doubled = [replace(row, id=f"{row.id}+", text=row.text.upper()) for row in documents[:7]]
    mined = mine(documents + doubled, MineConfig(pairs=100))
    assert mined.facts.dropped["duplicate text"] >= 7
    assert all(text == text.lower() for pairs in mined.sets.values() for p in pairs for text in (p.text_a, p.text_b))


def test_one_category_is_enough():
    pairs = mine(corpus(category="only"), MineConfig(pairs=200)).sets["pairs"]
    assert by_label(pairs) == {0: 100, 1: 100}
    assert all(pair.same_category for pair in pairs)


def test_without_categories_pairs_do_not_state_their_category_relation():
    pairs = mine(corpus(category=None), MineConfig(pairs=200)).sets["pairs"]
    assert by_label(pairs) == {0: 100, 1: 100}
    assert all(pair.same_category is None for pair in pairs)


def test_without_groups_categories_label_the_pairs():
    rows = [replace(row, category=row.group, group=None) for row in corpus()]
    mined = mine(rows, MineConfig(pairs=200))
    category = {row.text: row.category for row in rows}
    assert mined.facts.labels == "categories"
    for pair in mined.sets["pairs"]:
        assert (pair.group_a, pair.group_b) == (category[pair.text_a], category[pair.text_b])
        assert pair.label == (pair.group_a == pair.group_b)


def test_documents_without_a_category_are_counted_once():
    rows = [replace(row, category=row.group if i % 10 else None, group=None) for i, row in enumerate(corpus())]
    facts = mine(rows, MineConfig(pairs=100)).facts
    assert facts.dropped["no category"] == 15
    assert (facts.sampled, facts.not_sampled) == (129, 0)


def test_held_out_text_is_recognized_where_the_document_is_cut():
    text = " ".join(f"word{i}" for i in range(30_000))
    document = Document("long", text[:20_000], None, "g", is_cut=True)
    kept, dropped = distinct([document], [text])
    assert kept == []
    assert dropped["text of held-out pairs"] == 1


def test_with_groups_these_label_the_pairs(mined):
    assert mined.facts.labels == "groups"


def test_documents_without_a_group_are_left_out_and_counted_where_others_have_one():
    rows = [replace(row, group=None) if i % 10 == 0 else row for i, row in enumerate(corpus())]
    mined = mine(rows, MineConfig(pairs=100))
    assert mined.facts.dropped["no group"] == 15
    assert mined.facts.labels == "groups"
    assert texts_of(mined.sets["pairs"]).isdisjoint({text_key(row.text) for row in rows if row.group is None})


def test_neither_group_nor_category_is_refused():
    with pytest.raises(InputError, match="got documents without 'group' and without 'category'"):
        mine(corpus(category=None, group=None), MineConfig(pairs=10))


def test_groups_of_one_document_each_are_refused():
    rows = [replace(row, group=row.id) for row in corpus()]
    with pytest.raises(InputError, match="got 144 groups of one document each, need at least one group with two"):
        mine(rows, MineConfig(pairs=10))


def test_one_group_alone_is_refused():
    rows = [replace(row, group="all") for row in corpus()]
    with pytest.raises(
        InputError, match=r"^got 144 documents of one group, 'all', need at least two for negative pairs$"
    ):
        mine(rows, MineConfig(pairs=10))


def test_one_category_alone_is_refused():
    rows = [replace(row, group=None) for row in corpus()]
    with pytest.raises(InputError, match="got 144 documents of one category, 'one', need at least two"):
        mine(rows, MineConfig(pairs=10))


def test_documents_that_positives_connect_with_each_other_are_refused():
    rows = [Document(str(i), f"word{i} shared") for i in range(10)]
    links = PairSet("known", tuple(Pair(rows[0].text, row.text) for row in rows[1:]), "0" * 64)
    with pytest.raises(
        InputError, match="got 10 documents of one component of positives and groups, need at least two"
    ):
        mine(rows, MineConfig(pairs=10), positives=links)


@pytest.mark.parametrize("num_groups", [1, 3])
def test_documents_that_nearly_all_repeat_another_are_refused_as_such(num_groups):
    rows = [Document(str(i), f"a Card{i % 3} was  lost", None, f"g{i % num_groups}") for i in range(300)]
    rows = [replace(row, text=row.text.upper()) if i % 2 else row for i, row in enumerate(rows)]
    reasons = r"297 of 300 documents were left out as repetitions \(duplicate text 297\): need more different texts"
    with pytest.raises(InputError, match=rf"^got too few different texts, {reasons}$"):
        mine(rows, MineConfig(pairs=10))


def test_too_few_pairs_of_documents_that_mostly_repeat_another_are_refused_as_such():
    rows = corpus(4, 5)
    copies = [replace(row, id=f"{row.id}-{i}") for row in rows for i in range(3)]
    with pytest.raises(InputError, match=r"pairs .*40 of 60 documents were left out as repetitions") as caught:
        mine(copies, MineConfig(pairs=1000, band=(0.0, 1.0), require=True))
    assert "wider band" not in str(caught.value)


@pytest.mark.parametrize(
    "config",
    [
        MineConfig(pairs=1000, band=(0.0, 1.0), require=True),
        MineConfig(pairs=1000, strategy="bands", positive_band=(0.0, 1.0), negative_band=(0.0, 0.9), require=True),
    ],
    ids=["the band is open", "every positive pair was taken"],
)
def test_another_band_is_no_remedy_where_it_has_no_more_pairs(config):
    with pytest.raises(InputError, match="need more documents per group, or more groups, fewer pairs"):
        mine(corpus(6, 3), config)


# Groups that share a text


def in_two_groups(num_groups: int = 12, num_shared: int = 6) -> list[Document]:
    """Return documents of which some texts are in the next group too, in another spelling."""
    rows = corpus(num_groups)
    shared = [row for row in rows if int(row.group[1:]) % 2 == 0][: 12 * num_shared : 12]
    return rows + [
        replace(row, id=f"{row.id}-again", text=f"{row.text.upper()}\u200b ", group=f"G{int(row.group[1:]) + 1} ")
        for row in shared
    ]


STRATEGIES = [
    MineConfig(pairs=600, dev_share=0.3, test_share=0.2, band=(0.0, 1.0), triplets=True),
    MineConfig(pairs=600, dev_share=0.3, strategy="bands", negative_band=(0.0, 1.0)),
    MineConfig(pairs=600, dev_share=0.3, strategy="curriculum", band=(0.0, 1.0)),
]


@pytest.mark.parametrize("config", STRATEGIES, ids=lambda config: config.strategy)
def test_groups_that_share_a_text_make_no_negative_pair(config):
    mined = mine(in_two_groups(), config)
    assert mined.facts.contradictions == 6
    assert not contradictory(mined)
    # The same groups make negative pairs where they share no text.
    assert contradictory(mine(corpus(), config))


def contradictory(mined) -> list[tuple[str, str]]:
    """Return the negative pairs of texts, and the negatives of triplets, of groups that share a text."""
    number = {row.text: int(row.group.strip()[1:]) for row in in_two_groups()}
    ends = [(pair.text_a, pair.text_b) for pairs in mined.sets.values() for pair in pairs if pair.label == 0]
    ends += [(triplet["anchor"], triplet["negative"]) for triplet in mined.triplets]
    return [(a, b) for a, b in ends if number[a] // 2 == number[b] // 2]


def test_texts_that_are_all_in_the_only_two_groups_are_named_where_they_leave_no_negative_pair():
    rows = corpus(2)
    rows += [replace(rows[0], id="again", group="g1")]
    with pytest.raises(InputError, match=r"got no pairs of both classes .*\(1 texts are in several groups, which make"):
        mine(rows, MineConfig(pairs=10, band=(0.0, 1.0)))


def test_components_of_groups_that_share_a_text_make_no_negative_pair():
    known = [(a.text, b.text) for a, b in pairwise(corpus()) if a.group == b.group]
    positives = PairSet("known", tuple(Pair(a, b) for a, b in known), "0" * 64)
    config = MineConfig(pairs=400, band=(0.0, 1.0), dev_share=0)
    assert not contradictory(mine(in_two_groups(), config, positives=positives))
    assert contradictory(mine(corpus(), config, positives=positives))


# Spellings of one group


@pytest.mark.parametrize("spelled", [lambda name: f"{name} ", str.upper, lambda name: f"{name}\u200b", html_escaped])
def test_groups_that_differ_only_in_spelling_are_one(spelled):
    rows = corpus()
    config = MineConfig(pairs=400, test_share=0.3)
    mixed = [
        replace(row, group=spelled(row.group), category=spelled(row.category)) if i % 2 else row
        for i, row in enumerate(rows)
    ]
    mined, expected = mine(mixed, config), mine(rows, config)
    assert mined.sets == expected.sets
    assert len(mined.notes) == 2
    assert "12 spellings of a group differ" in mined.notes[0]


def test_held_out_texts_in_another_form_are_left_out():
    rows = [replace(row, text=row.text.replace("e", "\u00e9")) for row in corpus()]
    held_out = [unicodedata.normalize("NFD", row.text) for row in rows[::10]]
    mined = mine(rows, MineConfig(pairs=200), held_out=held_out)
    assert mined.facts.dropped["text of held-out pairs"] == 15
    assert not {text_key(text) for text in held_out} & set().union(*map(texts_of, mined.sets.values()))


def test_band_without_pairs_leaves_pairs_of_the_groups():
    pairs = mine(corpus(), MineConfig(pairs=10, band=(0.98, 0.99))).sets["pairs"]
    assert [pair.tier for pair in pairs] == ["group"] * 10
    with pytest.raises(InputError, match=r"got no pairs of both classes \(bands\)"):
        mine(corpus(), MineConfig(pairs=10, strategy="bands", positive_band=(0.98, 0.99)))


def chinese(*, with_marks: bool) -> list[Document]:
    """Return texts of nine groups, each about a thing of its own, with a beginning and an end that the groups share."""
    things = ["退款申请", "航班改签", "优惠券", "银行卡", "快递包裹", "手机信号", "账户密码", "发票抬头", "会员积分"]
    before = ["我的", "请问", "为什么", "你好", "想问一下", "昨天"]
    after = ["还没到", "怎么办", "不成功", "有问题", "已经三天了"]
    mark = "\uff0c" if with_marks else ""
    texts = [(g, f"{a}{mark}{thing}{b}") for g, thing in enumerate(things) for a in before for b in after]
    return [Document(str(i), text, None, f"g{group}") for i, (group, text) in enumerate(texts)]


@pytest.mark.parametrize("with_marks", [True, False])
def test_pairs_of_chinese_texts_are_matched_by_the_characters_that_they_share(with_marks):
    pairs = mine(chinese(with_marks=with_marks), MineConfig(pairs=200, dev_share=0)).sets["pairs"]
    assert len(pairs) >= 50
    assert abs(alone(pairs)) < 0.2
    assert all(set(pair.text_a) & set(pair.text_b) - {"\uff0c"} for pair in pairs)


def test_without_shares_there_are_training_pairs_only():
    assert set(mine(corpus(), MineConfig(pairs=100, dev_share=0)).sets) == {"pairs"}


def test_held_out_set_without_both_classes_is_left_out():
    # Documents of two groups share words; those of the other groups do not and make no pair when held out.
    rows = [Document(f"{i}", f"shared words first{i}own second{i}own", "x", f"g{i % 2}") for i in range(20)]
    rows += [Document(f"l{g}-{i}", f"a{g}x{i} b{g}x{i}", "x", f"lonely{g}") for g in range(4) for i in range(5)]
    outcomes = set()
    for seed in range(10):
        config = MineConfig(pairs=4, dev_share=0.3, seed=seed, band=(0.05, 1.0))
        held_out = {row.group for row in split_documents(rows, dev_share=0.3, test_share=0, seed=seed)["dev-unseen"]}
        try:
            sets = mine(rows, config).sets
        except InputError:
            assert held_out & {"g0", "g1"}
            continue
        assert ("dev-unseen" in sets) == (held_out == {"g0", "g1"})
        outcomes.add("dev-unseen" in sets)
    assert False in outcomes


def test_facts_count_documents_and_groups(mined, helpdesk):
    split = mined.facts.split
    assert mined.facts.documents == len(helpdesk) == sum(size.documents for size in split.values())
    assert mined.facts.groups == len({row.group for row in helpdesk})
    num_groups = {name: size.groups for name, size in split.items()}
    assert num_groups == {"train": 116, "dev-unseen": 8, "test-unseen": 32, "dev-seen": 69, "test-seen": 116}
    assert (mined.facts.wanted, mined.facts.band, mined.facts.cut) == (4000, (0.05, 0.50), 0)


def test_written_sets_are_read_back_the_same(mined, tmp_path):
    write_mined(mined, tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {f"{name}.jsonl" for name in mined.sets}
    for name, pairs in mined.sets.items():
        assert read_labelled_pairs(tmp_path / f"{name}.jsonl").rows == tuple(pairs)


def test_held_out_groups_are_spread_over_the_categories(helpdesk):
    split = split_documents(helpdesk, dev_share=0.2, test_share=0.0, seed=0)
    of_group = {row.group: row.category for row in split["dev-unseen"]}
    # A fifth of 156 groups, in twos, so that each has a hard negative of its own category.
    assert len(of_group) == 32
    assert all(num >= 2 for num in Counter(of_group.values()).values())
    assert len(set(of_group.values())) >= 4


def test_every_document_is_in_exactly_one_set(helpdesk):
    split = split_documents(helpdesk, dev_share=0.1, test_share=0.2, seed=3)
    ids = [row.id for rows in split.values() for row in rows]
    assert sorted(ids) == sorted(row.id for row in helpdesk)


@pytest.mark.parametrize(
    "setting",
    [
        {"band": (0.5, 0.05)},
        {"band": (0.2, 0.2)},
        {"positive_band": (0.5, 0.3)},
        {"negative_band": (0.0, 1.5)},
        {"test_share": 0.95},
        {"dev_share": 0.5, "test_share": 0.4},
        {"dev_share": -0.1},
        {"pairs": 1},
        {"same_category": 1.1},
        {"max_uses": 0},
        {"strategy": "random"},
        {"paris": 100},
        {"band": (float("nan"), 0.5)},
    ],
    ids=str,
)
def test_impossible_setting_is_refused(setting):
    with pytest.raises(ValidationError):
        MineConfig(**setting)


@pytest.mark.parametrize(("size", "test_share"), [(4, 0.1), (5, 0.25), (6, 0.2), (28, 0.25)])
def test_small_groups_yield_no_more_than_their_share(size, test_share):
    rows = corpus(40, size)
    split = split_documents(rows, dev_share=0.1, test_share=test_share, seed=0)
    num_of_set = {name: len(members) for name, members in split.items()}
    unseen = num_of_set["dev-unseen"] + num_of_set["test-unseen"]
    for name, share in (("dev-seen", 0.1), ("test-seen", test_share)):
        assert num_of_set[name] == pytest.approx(share * (len(rows) - unseen), abs=4)
        assert min(Counter(row.group for row in split[name]).values()) >= 2
    assert sum(num_of_set.values()) == len(rows)


@pytest.mark.parametrize(("num_groups", "num_held_out"), [(6, 2), (11, 2), (12, 4), (40, 8)])
def test_as_many_groups_as_the_gate_needs_are_held_out_where_there_are_many(num_groups, num_held_out):
    split = split_documents(corpus(num_groups, 8), dev_share=0.05, test_share=0.2, seed=0)
    assert len({row.group for row in split["test-unseen"]}) == num_held_out
    assert len({row.group for row in split["dev-unseen"]}) == 2


@pytest.mark.parametrize("size", [1, 3])
def test_groups_too_small_to_yield_documents_do_not_raise_the_share_of_others(size):
    tiny = [Document(f"s{i}", f"lonely {i}", "one", f"alone{i // size}") for i in range(600 * size)]
    split = split_documents([*corpus(20, 10), *tiny], dev_share=0.1, test_share=0.1, seed=0)
    for name in ("dev-seen", "test-seen"):
        assert 10 <= len(split[name]) <= 20
        assert max(Counter(row.group for row in split[name]).values()) == 2


def test_group_of_one_document_is_not_held_out():
    rows = [*corpus(20, 8), *(Document(f"s{i}", f"lonely {i}", "one", f"alone{i}") for i in range(60))]
    split = split_documents(rows, dev_share=0.2, test_share=0.1, seed=0)
    held_out = [row for name in ("dev-unseen", "test-unseen") for row in split[name]]
    assert held_out
    assert not any(str(row.group).startswith("alone") for row in held_out)


def test_peaked_target_is_followed(helpdesk):
    pool = mine(helpdesk, MineConfig(pairs=4000, dev_share=0, seed=5)).sets["pairs"]
    near = [pair for pair in pool if 0.05 <= pair.tfidf < 0.075]
    far = [pair for pair in pool if pair.tfidf >= 0.1]
    target = as_target((*near[:300], *far[:100]))
    pairs = mine(helpdesk, MineConfig(pairs=1000, dev_share=0), target).sets["pairs"]
    share = [np.mean([pair.tfidf < 0.075 for pair in rows]) for rows in (pairs, target.rows)]
    assert share[0] == pytest.approx(share[1], abs=0.03)


def test_pairs_without_a_word_in_common_are_mined_where_the_target_has_them(helpdesk):
    rows = [
        Pair(f"{a.text} extra", f"{b.text} more", label)
        for label in (0, 1)
        for a, b in without_common_words(helpdesk, is_positive=bool(label))
    ]
    pairs = mine(helpdesk, MineConfig(pairs=200, dev_share=0), as_target(rows)).sets["pairs"]
    assert len(pairs) == 200
    assert sum(pair.tfidf == 0 for pair in pairs) > 100


def without_common_words(documents, *, is_positive: bool) -> list[tuple[Document, Document]]:
    """Return pairs of documents without a word in common."""
    pairs = [
        (a, b)
        for a, b in zip(documents, documents[1:] if is_positive else documents[40:], strict=False)
        if (a.group == b.group) == is_positive and not {*a.text.lower().split()} & {*b.text.lower().split()}
    ]
    return pairs[:60]


def test_fewer_pairs_than_wanted_are_written_and_refused_if_all_are_required():
    pairs = mine(corpus(), MineConfig(pairs=1_000_000, dev_share=0)).sets["pairs"]
    # Every pair of documents of one group is among them.
    assert sum(pair.label for pair in pairs) == 12 * 66
    assert sum(pair.label == 0 for pair in pairs) == 12 * 66
    with pytest.raises(InputError, match=r"yield 1,584 of 1,000,000 pairs .*, or no --require to accept those"):
        mine(corpus(), MineConfig(pairs=1_000_000, dev_share=0, require=True))


def test_near_duplicates_are_left_out_and_counted(helpdesk):
    near = [replace(row, id=f"{row.id}+", text=f"{row.text}!") for row in helpdesk[:9] if len(row.text) > 40]
    target = as_target([Pair(f"{helpdesk[50].text}!!", "nothing like it", 1), Pair("one thing", "another one", 0)])
    kept, dropped = distinct([*helpdesk[:100], *near], [text for pair in target.texts for text in pair])
    assert len(near) > 3
    assert dropped == {
        "text of held-out pairs": 0,
        "near-duplicate of a held-out text": 1,
        "duplicate text": 0,
        "near-duplicate text": len(near),
    }
    assert kept == [row for row in helpdesk[:100] if row != helpdesk[50]]


def test_known_positives_replace_groups():
    documents = corpus(30, 8)
    by_group = {group: [row for row in documents if row.group == group] for group in {row.group for row in documents}}
    known = [Pair(a.text, b.text, 1) for rows in by_group.values() for a, b in pairwise(rows)]
    rows = [replace(row, group=None) for row in documents]
    mined = mine(rows, MineConfig(pairs=100, band=(0.0, 1.0)), positives=PairSet("links", tuple(known), "0" * 64))
    pairs = mined.sets["pairs"]
    linked = {frozenset((pair.text_a, pair.text_b)) for pair in known}
    group = {row.text: row.group for row in documents}
    assert by_label(pairs) == {0: 50, 1: 50}
    for pair in pairs:
        assert (frozenset((pair.text_a, pair.text_b)) in linked) == pair.label
        assert pair.label == 1 or group[pair.text_a] != group[pair.text_b]
        assert (pair.group_a, pair.group_b) == (None, None)
    assert mined.facts.labels == "pairs"


def test_triplets_are_written_beside_the_pairs(helpdesk, tmp_path):
    mined = mine(helpdesk, MineConfig(pairs=400, dev_share=0, triplets=True))
    write_mined(mined, tmp_path)
    group = {row.text: row.group for row in helpdesk}
    rows = [json.loads(line) for line in (tmp_path / "triplets.jsonl").read_text().splitlines()]
    assert len(rows) > 150
    for row in rows:
        assert list(row) == ["anchor", "positive", "negative"]
        assert group[row["anchor"]] == group[row["positive"]] != group[row["negative"]]


def test_false_negatives_need_a_baseline():
    with pytest.raises(InputError, match="got --false-negatives report without a baseline, need --baseline"):
        mine(corpus(), MineConfig(pairs=10, false_negatives="report"))


def test_more_documents_than_needed_are_sampled(helpdesk, monkeypatch):
    monkeypatch.setattr("mining.config.MIN_DOCUMENTS", 1000)
    mined = mine(iter(helpdesk), MineConfig(pairs=200, dev_share=0))
    assert mined.facts.documents == len(helpdesk)
    assert 900 < mined.facts.sampled <= 1000
    assert len(mined.sets["pairs"]) == 200


@pytest.mark.parametrize("labelled_by", ["groups", "categories"])
def test_target_is_followed_where_documents_have_groups_or_categories_only(helpdesk, target, labelled_by):
    if labelled_by == "groups":
        rows = [replace(row, category=None) for row in helpdesk]
    else:
        rows = [replace(row, category=row.group, group=None) for row in helpdesk]
    pairs = mine(rows, MineConfig(pairs=600, dev_share=0), target).sets["pairs"]
    assert by_label(pairs) == {0: 300, 1: 300}
    assert abs(alone(pairs)) < 0.05


def test_dev_set_that_cannot_follow_the_target_is_easier_and_large_enough(helpdesk):
    pairs = mine(helpdesk, MineConfig(pairs=4000, dev_share=0, seed=5)).sets["pairs"]
    target = as_target(sorted(pairs, key=lambda pair: pair.tfidf)[-100:])
    mined = mine(helpdesk, MineConfig(pairs=100, dev_share=0.05, test_share=0.05), target)
    low, _ = mined.facts.band
    assert mined.facts.unlike_target == ("dev-unseen",)
    dev = mined.sets["dev-unseen"]
    assert len(dev) >= 100
    assert abs(alone(dev)) < 0.05
    assert min(pair.tfidf for pair in dev) < low
    # Test sets are as hard as the target or absent, and so are the training pairs.
    assert not set(mined.sets) & {"test-seen", "test-unseen"}
    assert min(pair.tfidf for pair in mined.sets["pairs"] if pair.tier == "target") >= low


# Tiers


def test_labelled_target_is_the_dev_set_so_that_no_document_is_held_out(helpdesk):
    pairs = mine(helpdesk, MineConfig(pairs=400, dev_share=0, seed=5)).sets["pairs"]
    assert not {"dev-seen", "dev-unseen"} & mine(helpdesk, MineConfig(pairs=200), as_target(pairs)).sets.keys()
    few = mine(helpdesk, MineConfig(pairs=200), as_target(pairs[:40]))
    assert "dev-unseen" in few.sets


def test_tiers_go_on_where_the_target_has_no_more_pairs(helpdesk):
    narrow = mine(helpdesk, MineConfig(pairs=300, dev_share=0, seed=5, band=(0.4, 0.5))).sets["pairs"]
    some = [row for i, row in enumerate(helpdesk) if i % 12 == 0]
    pairs = mine(some, MineConfig(), as_target(narrow)).sets["pairs"]
    assert {pair.tier for pair in pairs} == {"target", "matched"}
    assert abs(alone(pairs)) < 0.1
    # A band that was asked for is not left but for the tier of the groups.
    pairs = mine(some, MineConfig(band=(0.3, 0.6)), as_target(narrow)).sets["pairs"]
    assert {pair.tier for pair in pairs} == {"target", "group"}
    groups = Counter(pair.group_a for pair in pairs if pair.label and pair.tier == "group")
    assert len(groups) > 50


def test_negatives_of_the_groups_are_partly_near_each_other(helpdesk, tiny):
    rows, baseline = helpdesk[::10], load(tiny.path, device="cpu", precision="fp32")
    mined = mine(rows, MineConfig(pairs=40_000, dev_share=0, max_uses=200, band=(0.9, 1.0)), baseline=baseline)
    pairs = mined.sets["pairs"]
    ends = [(pair.text_a, pair.text_b) for pair in pairs if pair.label == 0 and pair.tier == "group"]
    texts = sorted({text for pair in ends for text in pair})
    index = {text: i for i, text in enumerate(texts)}
    embedding_ND = baseline.embed(texts)
    similarity = embedding_ND @ embedding_ND.T
    score = np.array([similarity[index[a], index[b]] for a, b in ends])
    random = similarity[np.triu_indices(len(texts), 1)]
    # About half of them are above what nine tenths of random pairs are below.
    assert 0.3 < np.mean(score > np.quantile(random, 0.9)) < 0.8
