from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.stats import spearmanr

from mining.candidates import BIN_WIDTH
from mining.config import MineConfig
from mining.mine import fit_tfidf, mine, tfidf_cosines, write_mined
from mining.split import split_documents
from simile.artifacts import Document, Documents, PairSet, read_labelled_pairs, text_key
from simile.errors import InputError

WORDS = [
    "ant",
    "bee",
    "cat",
    "dog",
    "elk",
    "fox",
    "gnu",
    "hen",
    "ibex",
    "jay",
    "kite",
    "lynx",
    "mole",
    "newt",
    "owl",
    "pig",
    "rat",
    "seal",
    "tern",
    "wolf",
]


def corpus(num_groups: int = 12, size: int = 12, *, category: str | None = "one", group: str | None = "g") -> Documents:
    """Random texts; each group has words of its own besides those that all share."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(num_groups):
        for _ in range(size):
            words = [*rng.choice(WORDS, 4), *rng.choice([f"w{number}x{i}" for i in range(6)], 3)]
            name = f"{group}{number}" if group else None
            rows.append(Document(f"d{len(rows)}", " ".join(words), category, name))
    return Documents(tuple(rows), 0)


def texts_of(pairs) -> set[str]:
    return {text_key(text) for pair in pairs for text in (pair.text_a, pair.text_b)}


def by_label(pairs) -> Counter:
    return Counter(pair.label for pair in pairs)


@pytest.fixture(scope="module")
def mined(helpdesk):
    return mine(helpdesk, MineConfig(pairs=4000, test_share=0.2))


def test_tfidf_alone_does_not_order_the_helpdesk_pairs(mined):
    assert set(mined.sets) == {"pairs", "dev-seen", "dev-unseen", "test-seen", "test-unseen"}
    assert len(mined.sets["pairs"]) == 4000
    for pairs in mined.sets.values():
        found = spearmanr([pair.tfidf for pair in pairs], [pair.label for pair in pairs]).statistic
        assert abs(found) < 0.05


def test_tfidf_alone_does_not_order_the_helpdesk_pairs_that_the_defaults_give(helpdesk):
    pairs = mine(helpdesk, MineConfig()).sets["pairs"]
    assert by_label(pairs) == {0: 5000, 1: 5000}
    assert abs(spearmanr([pair.tfidf for pair in pairs], [pair.label for pair in pairs]).statistic) < 0.05


def test_order_of_the_pairs_tells_nothing_of_the_label(mined):
    labels = [pair.label for pair in mined.sets["pairs"]]
    assert abs(spearmanr(range(len(labels)), labels).statistic) < 0.05


def test_most_negatives_are_near_misses_of_one_category(mined):
    same = [pair.same_category for pair in mined.sets["pairs"] if pair.label == 0]
    assert np.mean(same) == pytest.approx(0.7, abs=0.02)


def test_another_seed_gives_other_pairs(helpdesk, mined):
    other = mine(helpdesk, MineConfig(pairs=4000, test_share=0.2, seed=1))
    assert len(set(other.sets["pairs"]) & set(mined.sets["pairs"])) < 1000


def test_bands_recipe_gives_the_shortcut_that_matched_takes_away(helpdesk):
    pairs = mine(helpdesk, MineConfig(recipe="bands", pairs=400)).sets["pairs"]
    assert by_label(pairs) == {0: 200, 1: 200}
    assert all(0.30 <= pair.tfidf <= 0.50 for pair in pairs if pair.label)
    assert all(0.15 <= pair.tfidf <= 0.45 for pair in pairs if not pair.label)
    assert spearmanr([pair.tfidf for pair in pairs], [pair.label for pair in pairs]).statistic > 0.3


def test_target_keeps_its_texts_out_and_gives_its_tfidf_shape(helpdesk):
    pairs = mine(helpdesk, MineConfig(pairs=400, band=(0.1, 0.3), seed=5)).sets["pairs"]
    # Mostly of high overlap, which the corpus itself is not.
    pairs = sorted(pairs, key=lambda pair: pair.tfidf)[100:]
    target = PairSet("target", tuple(pairs), "0" * 64)
    mined = mine(helpdesk, MineConfig(pairs=400), target)

    assert mined.facts["dropped"]["text of held-out pairs"] == len(texts_of(target.rows))
    for found in mined.sets.values():
        assert not texts_of(found) & texts_of(target.rows)

    vectorizer = fit_tfidf([row.text for row in helpdesk.rows])
    shape, wanted = (
        Counter(np.floor(tfidf_cosines(vectorizer, one) / BIN_WIDTH).tolist())
        for one in (PairSet("found", tuple(mined.sets["pairs"]), "0" * 64), target)
    )
    assert len(mined.sets["pairs"]) == 400
    assert set(shape) <= set(wanted)
    distance = sum(abs(shape[bin_] / 400 - wanted[bin_] / len(pairs)) for bin_ in wanted) / 2
    assert distance < 0.02


def test_held_out_texts_are_known_in_other_letters_and_spaces(helpdesk):
    held_out = [f"  {row.text.upper()}\n" for row in helpdesk.rows[::10]]
    mined = mine(helpdesk, MineConfig(pairs=500), held_out=held_out)
    assert mined.facts["dropped"]["text of held-out pairs"] == len(held_out)
    for pairs in mined.sets.values():
        assert not texts_of(pairs) & {text_key(text) for text in held_out}


def test_duplicate_texts_are_left_out_and_counted():
    documents = corpus()
    doubled = [replace(row, id=f"{row.id}+", text=row.text.upper()) for row in documents.rows[:7]]
    mined = mine(replace(documents, rows=documents.rows + tuple(doubled)), MineConfig(pairs=100))
    assert mined.facts["dropped"]["duplicate text"] >= 7
    assert all(text == text.lower() for pairs in mined.sets.values() for p in pairs for text in (p.text_a, p.text_b))


def test_one_category_is_enough():
    pairs = mine(corpus(category="only"), MineConfig(pairs=200)).sets["pairs"]
    assert by_label(pairs) == {0: 100, 1: 100}
    assert all(pair.same_category for pair in pairs)


def test_without_categories_nothing_is_said_of_them():
    pairs = mine(corpus(category=None), MineConfig(pairs=200)).sets["pairs"]
    assert by_label(pairs) == {0: 100, 1: 100}
    assert all(pair.same_category is None for pair in pairs)


def test_without_groups_the_category_is_the_group_and_labels_are_said_to_be_noisy():
    rows = [replace(row, category=row.group, group=None) for row in corpus().rows]
    mined = mine(Documents(tuple(rows), 0), MineConfig(pairs=200))
    category = {row.text: row.category for row in rows}
    assert mined.facts["labels_are_noisy"] is True
    for pair in mined.sets["pairs"]:
        assert (pair.group_a, pair.group_b) == (category[pair.text_a], category[pair.text_b])
        assert pair.label == (pair.group_a == pair.group_b)


def test_with_groups_labels_are_not_said_to_be_noisy(mined):
    assert mined.facts["labels_are_noisy"] is False


def test_documents_without_a_group_beside_some_with_one_are_left_out_and_counted():
    rows = [replace(row, group=None) if i % 10 == 0 else row for i, row in enumerate(corpus().rows)]
    mined = mine(Documents(tuple(rows), 0), MineConfig(pairs=100))
    assert mined.facts["dropped"]["no group"] == 15
    assert mined.facts["labels_are_noisy"] is False
    assert texts_of(mined.sets["pairs"]).isdisjoint({text_key(row.text) for row in rows if row.group is None})


def test_neither_group_nor_category_is_refused():
    with pytest.raises(InputError, match="got documents without 'group' and without 'category'"):
        mine(corpus(category=None, group=None), MineConfig(pairs=10))


def test_groups_of_one_document_each_are_refused():
    rows = [replace(row, group=row.id) for row in corpus().rows]
    with pytest.raises(InputError, match="got 144 groups of one document each, need at least one group with two"):
        mine(Documents(tuple(rows), 0), MineConfig(pairs=10))


def test_one_group_alone_is_refused():
    rows = [replace(row, group="all") for row in corpus().rows]
    with pytest.raises(InputError, match=r"got no pairs of both classes .* need a wider band, more documents a group"):
        mine(Documents(tuple(rows), 0), MineConfig(pairs=10))


def test_band_without_pairs_is_refused():
    with pytest.raises(InputError, match=r"TF-IDF cosine in 0\.98-0\.99 \(matched\)"):
        mine(corpus(), MineConfig(pairs=10, band=(0.98, 0.99)))


def test_texts_without_words_are_refused():
    rows = [Document(str(i), "?" * (i + 1), "x", f"g{i % 2}") for i in range(8)]
    with pytest.raises(InputError, match="without a single word"):
        mine(Documents(tuple(rows), 0), MineConfig(pairs=10))


def test_without_shares_there_are_training_pairs_only():
    assert set(mine(corpus(), MineConfig(pairs=100, dev_share=0)).sets) == {"pairs"}


def test_held_out_set_with_one_class_alone_is_left_out():
    # Two documents of each group are held out; half of each group's documents have a word in common with the others'.
    rows = [
        Document(f"{g}-{i}", f"w{g} v{g} u{g}x{i}" + " bridge" * (i < 3), "x", f"g{g}") for g in "ab" for i in range(6)
    ]
    wide = {"recipe": "bands", "positive_band": (0.0, 1.0), "negative_band": (0.0, 1.0)}
    found = set()
    for seed in range(20):
        split = split_documents(Documents(tuple(rows), 0), dev_share=0.3, test_share=0, held_out_texts=[], seed=seed)
        bridged = {row.group for row in split.sets["dev-seen"] if "bridge" in row.text}
        sets = mine(Documents(tuple(rows), 0), MineConfig(pairs=10, dev_share=0.3, seed=seed, **wide)).sets
        assert ("dev-seen" in sets) == (len(bridged) == 2)
        found.add("dev-seen" in sets)
    assert found == {True, False}


def test_facts_count_what_there_was(mined, helpdesk):
    split = mined.facts["split"]
    assert mined.facts["documents"] == len(helpdesk.rows) == sum(entry["documents"] for entry in split.values())
    assert mined.facts["groups"] == len({row.group for row in helpdesk.rows})
    num_groups = {name: entry["groups"] for name, entry in split.items()}
    assert num_groups == {"train": 108, "dev-unseen": 16, "test-unseen": 32, "dev-seen": 108, "test-seen": 108}
    assert (mined.facts["wanted"], mined.facts["band"], mined.facts["cut"]) == (4000, [0.05, 0.50], 0)


def test_written_sets_are_read_back_the_same(mined, tmp_path):
    write_mined(mined, tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {f"{name}.jsonl" for name in mined.sets}
    for name, pairs in mined.sets.items():
        assert read_labelled_pairs(tmp_path / f"{name}.jsonl").rows == tuple(pairs)


def test_held_out_groups_are_spread_over_the_categories(helpdesk):
    split = split_documents(helpdesk, dev_share=0.2, test_share=0.0, held_out_texts=[], seed=0)
    of_group = {row.group: row.category for row in split.sets["dev-unseen"]}
    # A fifth of 156 groups: two by two, so that each has a near miss of its own category.
    assert len(of_group) == 32
    assert all(num >= 2 for num in Counter(of_group.values()).values())
    assert len(set(of_group.values())) >= 4


def test_every_document_is_in_exactly_one_set(helpdesk):
    split = split_documents(helpdesk, dev_share=0.1, test_share=0.2, held_out_texts=[], seed=3)
    ids = [row.id for rows in split.sets.values() for row in rows]
    assert sorted(ids) == sorted(row.id for row in helpdesk.rows)


@pytest.mark.parametrize(
    "setting",
    [
        {"band": (0.5, 0.05)},
        {"band": (0.2, 0.2)},
        {"positive_band": (0.5, 0.3)},
        {"negative_band": (0.0, 1.5)},
        {"dev_share": 0.5, "test_share": 0.4},
        {"dev_share": -0.1},
        {"pairs": 1},
        {"same_category": 1.1},
        {"max_uses": 0},
        {"recipe": "random"},
        {"paris": 100},
        {"band": (float("nan"), 0.5)},
    ],
    ids=str,
)
def test_impossible_setting_is_refused(setting):
    with pytest.raises(ValidationError):
        MineConfig(**setting)


@pytest.mark.parametrize(("size", "test_share"), [(4, 0.1), (5, 0.25), (6, 0.2), (28, 0.25)])
def test_small_groups_give_no_more_than_their_share(size, test_share):
    rows = corpus(40, size).rows
    split = split_documents(Documents(rows, 0), dev_share=0.1, test_share=test_share, held_out_texts=[], seed=0)
    of_set = {name: len(members) for name, members in split.sets.items()}
    unseen = of_set["dev-unseen"] + of_set["test-unseen"]
    for name, share in (("dev-seen", 0.1), ("test-seen", test_share)):
        assert of_set[name] == pytest.approx(share * (len(rows) - unseen), abs=4)
        assert min(Counter(row.group for row in split.sets[name]).values()) >= 2
    assert sum(of_set.values()) == len(rows)


def test_group_of_one_document_is_not_held_out():
    rows = [*corpus(20, 8).rows, *(Document(f"s{i}", f"lonely {i}", "one", f"alone{i}") for i in range(60))]
    split = split_documents(Documents(tuple(rows), 0), dev_share=0.2, test_share=0.1, held_out_texts=[], seed=0)
    held_out = [row for name in ("dev-unseen", "test-unseen") for row in split.sets[name]]
    assert held_out
    assert not any(str(row.group).startswith("alone") for row in held_out)


def test_peaked_target_is_followed(helpdesk):
    vectorizer = fit_tfidf([row.text for row in helpdesk.rows])
    pool = mine(helpdesk, MineConfig(pairs=4000, dev_share=0, seed=5)).sets["pairs"]
    near = [pair for pair in pool if 0.05 <= pair.tfidf < 0.075]
    far = [pair for pair in pool if pair.tfidf >= 0.1]
    target = PairSet("target", (*near[:300], *far[:100]), "0" * 64)
    mined = mine(helpdesk, MineConfig(pairs=1000, dev_share=0), target)
    assert mined.facts["distance_to_target"] < 0.05
    found_P = np.array([pair.tfidf for pair in mined.sets["pairs"]])
    wanted_P = tfidf_cosines(vectorizer, target)
    assert np.mean(found_P < 0.075) == pytest.approx(np.mean(wanted_P < 0.075), abs=0.03)
