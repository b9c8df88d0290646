"""Hashes of training texts that are too many for memory: the set and the file that a frozenset gives."""

import hashlib

import pytest

from simile.artifacts import TextHashes, texts_digest
from simile.artifacts.text_hashes import texts_content


def sha256(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


@pytest.mark.parametrize("num", [0, 1, 7, 300])
def test_hashes_are_distinct_and_in_order(num, monkeypatch):
    # Repeated hashes are met across the borders of what is read at once.
    monkeypatch.setattr("simile.artifacts.text_hashes._ROWS", 4)
    given = [sha256(number % 100) for number in range(num)]
    hashes = TextHashes(given)
    assert list(hashes) == sorted(set(given))
    assert len(hashes) == len(set(given))
    assert all(one in hashes for one in given)
    assert sha256(1000) not in hashes
    assert hashes & {*given[:3], sha256(1000)} == set(given[:3])
    assert b"".join(texts_content(hashes)) == b"".join(texts_content(frozenset(given)))
    assert texts_digest(hashes) == texts_digest(given)


def test_bytes_of_zero_at_the_end_are_part_of_a_hash():
    hashes = ["ab" * 31 + "00", "ab" * 30 + "0000", "00" * 32]
    assert list(TextHashes(hashes)) == sorted(hashes)
    assert "00" * 32 in TextHashes(hashes)
    assert "ab" * 31 + "01" not in TextHashes(hashes)
