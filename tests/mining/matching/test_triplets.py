import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mining.matching.triplets import Triplet, triplets, write_triplets
from mining.sampling.features import Candidates
from simile.artifacts import Document

NAMES = ["anchor", "positive", "negative"]
ROWS = [Document(str(i), f"text {i}") for i in range(20)]


def pairs_of(*pairs) -> Candidates:
    """Return the candidates of pairs given as (first text, second text, is positive, TF-IDF)."""
    a, b, is_positive, tfidf = zip(*pairs, strict=True) if pairs else [()] * 4
    unknown, is_same = np.full(len(pairs), np.nan), np.zeros(len(pairs), dtype=bool)
    indices = (np.array(ends, dtype=np.int64) for ends in (a, b))
    return Candidates(*indices, np.array(tfidf), unknown, unknown, np.array(is_positive, dtype=bool), is_same)


def numbers(rows: list[Triplet]) -> list[tuple[int, int, int]]:
    return [tuple(int(row[name].removeprefix("text ")) for name in NAMES) for row in rows]


def test_a_positive_pair_takes_the_negative_of_the_nearest_tfidf_cosine():
    chosen = pairs_of((0, 1, True, 0.30))
    pool = pairs_of((0, 2, False, 0.10), (1, 3, False, 0.29), (0, 4, False, 0.32), (5, 6, False, 0.30))
    assert numbers(triplets(ROWS, chosen, pool)) == [(1, 0, 3)]


def test_the_anchor_is_the_text_that_the_negative_belongs_to():
    pool = pairs_of((0, 7, False, 0.3))
    assert numbers(triplets(ROWS, pairs_of((0, 1, True, 0.3)), pool)) == [(0, 1, 7)]
    assert numbers(triplets(ROWS, pairs_of((5, 7, True, 0.3)), pool)) == [(7, 5, 0)]


def test_a_negative_is_taken_once_for_each_anchor():
    chosen = pairs_of((0, 1, True, 0.3), (0, 2, True, 0.3), (0, 3, True, 0.3), (4, 9, True, 0.3))
    pool = pairs_of((0, 9, False, 0.3), (0, 8, False, 0.5))
    # The third pair has none left; the last one takes a negative pair from its other end.
    assert numbers(triplets(ROWS, chosen, pool)) == [(0, 1, 9), (0, 2, 8), (9, 4, 0)]


def test_chosen_negatives_and_positives_of_the_pool_make_no_triplet():
    chosen = pairs_of((0, 1, False, 0.3), (2, 3, True, 0.3))
    assert triplets(ROWS, chosen, pairs_of((0, 5, False, 0.3), (2, 4, True, 0.3), (1, 6, False, 0.3))) == []
    assert triplets(ROWS, pairs_of(), pairs_of()) == []


@st.composite
def some_pairs(draw):
    ends = draw(st.sets(st.tuples(st.integers(0, 18), st.integers(1, 19)).filter(lambda ends: ends[0] < ends[1])))
    # Texts with equal remainders mean the same.
    return pairs_of(*((a, b, a % 3 == b % 3, draw(st.sampled_from([0.1, 0.2, 0.3]))) for a, b in sorted(ends)))


@given(some_pairs(), some_pairs())
def test_every_triplet_is_a_chosen_pair_with_one_of_the_pools_negatives(chosen, pool):
    rows = numbers(triplets(ROWS, chosen, pool))
    chosen_positives, pool_negatives = (
        {
            frozenset(ends)
            for *ends, is_positive in zip(pairs.a_C.tolist(), pairs.b_C.tolist(), pairs.is_positive_C, strict=True)
            if is_positive == label
        }
        for pairs, label in ((chosen, True), (pool, False))
    )
    positives = [frozenset({anchor, positive}) for anchor, positive, _ in rows]
    assert len(set(positives)) == len(positives)
    assert set(positives) <= chosen_positives
    assert {frozenset({anchor, negative}) for anchor, _, negative in rows} <= pool_negatives
    used = {(anchor, negative) for anchor, _, negative in rows}
    assert len(used) == len(rows)
    # A pair is left out only if neither of its texts has a negative left.
    for pair in chosen_positives - set(positives):
        assert all((end, *(ends - {end})) in used for end in pair for ends in pool_negatives if end in ends)


def test_written_triplets_are_read_back_the_same(tmp_path):
    texts = [("an ant", 'a "quoted"\nant', "Füße 中文"), ("b", "c", "\u2028")]
    rows = [dict(zip(NAMES, of_row, strict=True)) for of_row in texts]
    write_triplets(tmp_path / "triplets.jsonl", iter(rows))
    lines = (tmp_path / "triplets.jsonl").read_text().split("\n")
    assert lines.pop() == ""
    assert [json.loads(line) for line in lines] == rows
    assert list(json.loads(lines[0])) == NAMES
