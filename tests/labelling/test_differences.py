"""Marked words: both texts stay whole, and what differs is marked."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labelling.differences import marked

TEXTS = st.text(st.sampled_from("aAbc 私我,.?'-\n<\u0301"), max_size=40)


def words(segments):
    return [text for text, is_different in segments if is_different]


@given(TEXTS, TEXTS)
def test_segments_joined_are_the_texts(text_a, text_b):
    for text, segments in zip((text_a, text_b), marked(text_a, text_b), strict=True):
        assert "".join(piece for piece, _ in segments) == text
        assert all(piece for piece, _ in segments)


@given(TEXTS)
def test_nothing_differs_between_a_text_and_itself(text):
    assert [words(segments) for segments in marked(text, text)] == [[], []]


@pytest.mark.parametrize(
    ("text_a", "text_b", "only_a", "only_b"),
    [
        ("How do I cancel?", "how can I cancel it", ["do"], ["can", "it"]),
        ("It's here, now.", "it's HERE now", [], []),
        ("dog bites man", "man bites dog", ["bites man"], ["man bites"]),
        ("pay with a red card", "pay by card", ["with a red"], ["by"]),
        ("我想取消订单", "我要取消订单", ["想"], ["要"]),
        ("costs 3.50", "costs 3.40", ["3.50"], ["3.40"]),
    ],
)
def test_differing_words_are_marked(text_a, text_b, only_a, only_b):
    assert [words(segments) for segments in marked(text_a, text_b)] == [only_a, only_b]


def test_nothing_is_marked_in_texts_with_few_common_words():
    text_a, text_b = "Where is my parcel? It is late.", "When will the order finally come to my house"
    assert marked(text_a, text_b) == ([(text_a, False)], [(text_b, False)])


@pytest.mark.parametrize("piece", ["a b ", "a!", "!a", "x ", "字"])
@pytest.mark.parametrize("num", [140, 500, 10_000])
def test_repetitive_texts_are_marked_within_a_second(piece, num):
    text_a, text_b = piece * num, f"{piece[::-1]} c " * (num // 2)
    start = time.process_time()
    marked(text_a, text_b)
    assert time.process_time() - start < 1


def test_words_that_a_long_text_lacks_are_marked():
    common = "word " * 2000
    assert [words(segments) for segments in marked(f"{common} old end", f"{common} new end")] == [["old"], ["new"]]
