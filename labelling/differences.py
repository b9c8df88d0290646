"""Which words of two texts differ, so that a person sees at once what the question hangs on."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher

Segment = tuple[str, bool]
"""A piece of a text, and whether it differs from the other text."""
_OWN = "[\u3040-\u30ff\u3400-\u9fff]"
"""Characters of scripts without spaces (kana and ideographs), each of which counts as a word."""
_WORD = re.compile(rf"{_OWN}|(?!{_OWN})\w(?:(?:(?!{_OWN})\S)*(?!{_OWN})\w)?")
_MAX_WORDS, _MAX_MATCHES = 1000, 20_000
"""Words per text, and pairs of equal words, up to which texts are aligned: 600 repetitions of one word take 10 s. In
larger ones, the words that differ are those that the other text does not have."""
_MIN_COMMON = 1 / 3
"""Share of the shorter text's words from which on differences are marked: in texts that have only "my" and "the" in
common, the marks would cover everything and be in the way of reading."""


def marked(text_a: str, text_b: str) -> tuple[list[Segment], list[Segment]]:
    """Return both texts in segments, in one each where they have few words in common.

    Words are compared without case; punctuation and spaces never differ.
    """
    words_a, words_b = (list(_WORD.finditer(text)) for text in (text_a, text_b))
    equal_a, equal_b = _equal([word[0].casefold() for word in words_a], [word[0].casefold() for word in words_b])
    if len(equal_a) < _MIN_COMMON * len(words_a) and len(equal_b) < _MIN_COMMON * len(words_b):
        return _segments(text_a, [], set()), _segments(text_b, [], set())
    return _segments(text_a, words_a, equal_a), _segments(text_b, words_b, equal_b)


def _equal(words_a: Sequence[str], words_b: Sequence[str]) -> tuple[set[int], set[int]]:
    """Return the indices of the words of each text that the other one has, too."""
    nums_a, nums_b = Counter(words_a), Counter(words_b)
    num_matches = sum(num * nums_b[word] for word, num in nums_a.items())
    if max(len(words_a), len(words_b)) > _MAX_WORDS or num_matches > _MAX_MATCHES:
        common = {*words_a}.intersection(words_b)
        return _of(common, words_a), _of(common, words_b)
    blocks = SequenceMatcher(None, words_a, words_b, autojunk=False).get_matching_blocks()
    return (
        {block.a + offset for block in blocks for offset in range(block.size)},
        {block.b + offset for block in blocks for offset in range(block.size)},
    )


def _of(common: set[str], words: Iterable[str]) -> set[int]:
    return {i for i, word in enumerate(words) if word in common}


def _segments(text: str, words: Sequence[re.Match[str]], equal: set[int]) -> list[Segment]:
    """Return the text in segments; what stands between two differing words belongs to them."""
    segments: list[Segment] = []
    end, i = 0, 0
    while i < len(words):
        first = i
        while i < len(words) and i not in equal:
            i += 1
        if i > first:
            start, stop = words[first].start(), words[i - 1].end()
            segments += [(text[end:start], False)] if start > end else []
            segments.append((text[start:stop], True))
            end = stop
        i += 1
    return [*segments, (text[end:], False)] if end < len(text) else segments
