import tracemalloc

import numpy as np
import pytest

from serving.cache import _OVERHEAD_BYTES, Cache, Embedding


def embedding(value: float, dimension: int = 100) -> Embedding:
    return Embedding(np.full(dimension, value, dtype=np.float32), 3, is_cut=False, num_unknown=0)


def test_cache_returns_the_embedding_of_the_encoder_and_the_text():
    cache = Cache(10_000)
    cache.put(0, 0, "a", embedding(1))
    cache.put(1, 0, "a", embedding(2))
    assert cache.get(0, 0, "a").vector_D[0] == 1
    assert cache.get(1, 0, "a").vector_D[0] == 2
    assert cache.get(0, 0, "b") is None


def test_cache_evicts_the_least_recently_used_embedding():
    cache = Cache(3 * (1 + 100 * 4 + _OVERHEAD_BYTES))
    for text in "abc":
        cache.put(0, 0, text, embedding(0))
    cache.get(0, 0, "a")
    cache.put(0, 0, "d", embedding(0))
    assert [text for text in "abcd" if cache.get(0, 0, text)] == ["a", "c", "d"]


def test_cache_stays_within_its_bytes():
    cache = Cache(20_000)
    for i in range(200):
        cache.put(0, 0, f"text {i} " * (i % 7), embedding(i))
        assert cache.entries.currsize <= 20_000
    assert len(cache.entries) > 10


@pytest.mark.parametrize("max_bytes", [0, 500])
def test_embedding_larger_than_the_cache_is_not_cached(max_bytes):
    cache = Cache(max_bytes)
    cache.put(0, 0, "a", embedding(1))
    assert (len(cache.entries), cache.entries.currsize) == (0, 0)


def test_putting_a_text_again_changes_nothing():
    cache = Cache(10_000)
    cache.put(0, 0, "a", embedding(1))
    before = cache.entries.currsize
    cache.put(0, 0, "a", embedding(1))
    assert (len(cache.entries), cache.entries.currsize) == (1, before)


@pytest.mark.parametrize("letter", ["a", "ж", "\U0001f600"])
def test_counted_bytes_agree_with_the_memory_used(letter):
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    cache = Cache(2**24)
    for i in range(2000):
        cache.put(
            0, 0, f"{i}{letter * 50}", Embedding(np.zeros(384, dtype=np.float32), 1000 + i, is_cut=False, num_unknown=0)
        )
    used = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert cache.entries.currsize == pytest.approx(used, rel=0.1)
