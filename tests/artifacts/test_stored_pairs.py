"""Pairs beyond what memory holds: the same ones, in the same order."""

import pickle

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from simile.artifacts import Pair, read_pairs
from simile.artifacts.stored_pairs import StoredPairs

PAIRS = tuple(
    Pair(
        text_a=f"text {number} é",
        text_b=f"other {number}",
        label=number % 2,
        group_a=f"g{number % 3}" if number % 5 else None,
        tfidf=number / 7,
        same_category=[None, True, False][number % 3],
        tier=[None, "target", "matched", "group"][number % 4],
    )
    for number in range(2345)
)


def test_stored_pairs_are_those_that_were_given():
    stored = StoredPairs(iter(PAIRS))
    assert tuple(stored) == PAIRS
    assert len(stored) == len(PAIRS)
    assert [stored[place] for place in (0, 999, 1000, 2344, -1)] == [PAIRS[place] for place in (0, 999, 1000, 2344, -1)]
    assert stored[990:1010] == PAIRS[990:1010]
    assert tuple(pickle.loads(pickle.dumps(stored))) == PAIRS
    with pytest.raises(IndexError):
        stored[2345]


def test_scores_are_stored_exactly():
    pairs = [Pair("a", "b", score=score) for score in (0.1, 1 / 3, 5.0)]
    assert list(StoredPairs(pairs)) == pairs


def test_large_file_is_read_as_a_small_one(tmp_path, monkeypatch):
    table = pa.table(
        {name: [getattr(pair, name) for pair in PAIRS] for name in ("text_a", "text_b", "label", "group_a")}
    )
    pq.write_table(table, tmp_path / "pairs.parquet", row_group_size=100)
    small = read_pairs(tmp_path / "pairs.parquet")
    monkeypatch.setattr("simile.artifacts.stored_pairs.MAX_IN_MEMORY", 2344)
    large = read_pairs(tmp_path / "pairs.parquet")
    assert isinstance(small.rows, tuple)
    assert isinstance(large.rows, StoredPairs)
    assert tuple(large.rows) == small.rows
    assert (large.sha256, large.is_labelled, large.is_graded, large.have_groups) == (small.sha256, True, False, False)
