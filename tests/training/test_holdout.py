"""A dev set held out of pairs: whole components, both classes, or none at all."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simile.artifacts import MIN_DEV_PAIRS, Pair, PairSet
from simile.artifacts.texts import group_key, text_key
from training.holdout import hold_out


def pair_set(rows, sha256="0" * 64):
    return PairSet("train", tuple(rows), sha256)


def labelled(edges, *, graded=False):
    """Return pairs of numbered texts, with labels or scores by turns."""
    values = [{"score": number % 7 / 7} if graded else {"label": number % 2} for number in range(len(edges))]
    return pair_set(Pair(f"text {a}", f"text {b}", **value) for (a, b), value in zip(edges, values, strict=True))


def keys(pairs):
    """Return the keys of the texts and groups in the pairs."""
    texts = {("text", text_key(text)) for pair in pairs.texts for text in pair}
    groups = {group for row in pairs.rows for group in (row.group_a, row.group_b) if group is not None}
    return texts | {("group", group_key(group)) for group in groups}


def check_split(pairs, split, share):
    """Check that the split is a valid one: complete, disjoint, of both classes and about as large as wanted."""
    kept, dev = split
    assert sorted([*kept.rows, *dev.rows], key=repr) == sorted(pairs.rows, key=repr)
    assert not keys(kept) & keys(dev)
    assert (kept.name, dev.name) == (pairs.name, "dev-held-out")
    assert len({pairs.sha256, kept.sha256, dev.sha256}) == 3
    assert len(dev.rows) >= MIN_DEV_PAIRS
    for part in split:
        assert len(set(part.target_P)) > 1
        assert [pairs.rows.index(row) for row in part.rows] == sorted(pairs.rows.index(row) for row in part.rows)
    assert len(dev.rows) <= 1.5 * np.ceil(share * len(pairs.rows)) + 1.5


@pytest.mark.parametrize("graded", [False, True])
def test_separate_pairs_are_held_out_by_their_share(graded):
    pairs = labelled([(number, -number - 1) for number in range(2000)], graded=graded)
    kept, dev = hold_out(pairs, 0.1, 0)
    check_split(pairs, (kept, dev), 0.1)
    assert len(dev.rows) == 200
    assert graded or sum(dev.target_P) == 100


def test_classes_are_held_out_in_proportion():
    pairs = pair_set(Pair(f"a {number}", f"b {number}", label=int(number % 20 == 0)) for number in range(2000))
    _, dev = hold_out(pairs, 0.1, 0)
    assert (len(dev.rows), sum(dev.target_P)) == (200, 10)


@given(
    components=st.lists(st.tuples(st.integers(1, 40), st.booleans()), min_size=30, max_size=80),
    seed=st.integers(0, 5),
    graded=st.booleans(),
)
def test_every_split_is_valid(components, seed, graded):
    edges, start = [], 0
    for size, is_star in components:
        # A star has its centre in every pair, a chain each text in two.
        edges += [(start if is_star else start + number, start + number + 1) for number in range(size)]
        start += size + 1
    random.Random(seed).shuffle(edges)
    pairs = labelled(edges, graded=graded)
    split = hold_out(pairs, 0.2, seed)
    assert split == hold_out(pairs, 0.2, seed)
    if split:
        check_split(pairs, split, 0.2)
    else:
        assert len(edges) * 0.2 < 1.5 * MIN_DEV_PAIRS


@pytest.mark.parametrize("is_star", [False, True])
def test_one_component_is_not_split(is_star):
    assert hold_out(labelled([(0 if is_star else number, number + 1) for number in range(3000)]), 0.1, 0) is None


def test_large_component_trains_and_the_rest_is_held_out():
    star, others = [(0, number) for number in range(1, 3001)], [(-number, -number - 1) for number in range(1, 1001, 2)]
    kept, dev = hold_out(labelled(star + others), 0.1, 0)
    assert len(dev.rows) == 350
    assert {row.text_a for row in dev.rows}.isdisjoint({"text 0"})
    assert len(kept.rows) + len(dev.rows) == 3500


@pytest.mark.parametrize("num", [0, 1, 99, 900])
def test_too_few_pairs_are_not_split(num):
    assert hold_out(labelled([(number, -number - 1) for number in range(num)]), 0.1, 0) is None


@pytest.mark.parametrize("field", ["label", "score"])
def test_pairs_of_one_value_are_not_split(field):
    rows = [Pair(f"a {number}", f"b {number}", **{field: 1}) for number in range(2000)]
    assert hold_out(pair_set(rows), 0.1, 0) is None


def test_only_positive_pair_stays_in_training():
    rows = [Pair(f"a {number}", f"b {number}", label=int(number == 5)) for number in range(2000)]
    assert hold_out(pair_set(rows), 0.1, 0) is None


def test_spellings_of_a_text_or_a_group_are_one():
    spelt = ["My  card", "my card", "MY CARD"]
    rows = [Pair(f"{spelt[number % 3]} {number // 3}", f"b {number}", label=number % 2) for number in range(3000)]
    check_split(pair_set(rows), hold_out(pair_set(rows), 0.1, 0), 0.1)
    groups = ["Cards", "cards ", "CARDS"]
    rows = [
        Pair(
            f"a {number}",
            f"b {number}",
            label=number % 2,
            group_a=f"{groups[number % 3]} {number // 3}",
            group_b=f"own {number}" if number % 2 else None,
        )
        for number in range(3000)
    ]
    check_split(pair_set(rows), hold_out(pair_set(rows), 0.1, 0), 0.1)


def test_seed_and_source_tell_splits_apart():
    pairs = labelled([(number, -number - 1) for number in range(2000)])
    _, dev = hold_out(pairs, 0.1, 0)
    _, other = hold_out(pairs, 0.1, 1)
    _, same_rows = hold_out(pair_set(pairs.rows, sha256="1" * 64), 0.1, 0)
    assert dev.rows != other.rows
    assert same_rows.rows == dev.rows
    assert len({dev.sha256, other.sha256, same_rows.sha256}) == 3
