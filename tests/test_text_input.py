import numpy as np
import pandas as pd
import pytest

from simile.errors import InputError
from simile.text_input import checked_pairs, checked_texts, text_fault

NEED = "need a non-empty text"
A, B = ["card lost", "hi"], ["where is my card", "hello"]
PAIRS = [*zip(A, B, strict=True)]
BAD_TEXTS = [
    (None, f"got None, {NEED}"),
    (float("nan"), f"got nan, {NEED}"),
    (5, f"got int, {NEED}"),
    (b"secret", f"got bytes, {NEED}"),
    (["secret"], f"got list, {NEED}"),
    ("", f"got an empty text, {NEED}"),
    (" \n", f"got an empty text, {NEED}"),
    ("\u2003", f"got an empty text, {NEED}"),
    ("secret \ud83d", "got a text with half a surrogate pair at character 7, need Unicode text"),
]


@pytest.mark.parametrize(
    "pairs",
    [
        PAIRS,
        zip(A, B, strict=True),
        (pair for pair in PAIRS),
        [[*pair] for pair in PAIRS],
        np.array(PAIRS),
        pd.DataFrame({"a": A, "b": B}).values,
        pd.DataFrame({"a": A, "b": B}).itertuples(index=False),
        dict(PAIRS).items(),
    ],
)
def test_any_iterable_of_two_texts_each_is_pairs(pairs):
    checked = checked_pairs(pairs)
    assert checked == PAIRS
    assert {type(text) for pair in checked for text in pair} == {str}


@pytest.mark.parametrize("texts", [A, tuple(A), iter(A), np.array(A), np.array(A, dtype=object), pd.Series(A)])
def test_any_iterable_of_texts_is_texts(texts):
    checked = checked_texts(texts)
    assert checked == A
    assert {*map(type, checked)} == {str}


@pytest.mark.parametrize(("text", "fault"), BAD_TEXTS)
def test_what_is_no_text_is_named_with_its_place_and_not_quoted(text, fault):
    assert text_fault(text) == fault
    with pytest.raises(InputError) as caught:
        checked_pairs([("a", "b"), ("a", text)])
    assert str(caught.value) == f"pairs[1][1]: {fault}"
    with pytest.raises(InputError) as caught:
        checked_texts(["a", text])
    assert str(caught.value) == f"texts[1]: {fault}"
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("pair", "got"),
    [
        ("ab", "str"),
        (b"ab", "bytes"),
        ({"text_a": "a", "text_b": "b"}, "dict"),
        ({"a", "b"}, "set"),
        (None, "NoneType"),
        (7, "int"),
        ((), "0 elements"),
        (("a",), "1 elements"),
        (["a", "b", "c"], "3 elements"),
    ],
)
def test_what_is_no_pair_is_named_with_its_place(pair, got):
    with pytest.raises(InputError) as caught:
        checked_pairs([("a", "b"), pair])
    assert str(caught.value) == f"pairs[1]: got {got}, need two strings"


@pytest.mark.parametrize("value", ["card", b"card", {"a": "b"}, {"a"}, None, 5])
def test_what_is_no_list_is_refused_as_a_whole(value):
    got = type(value).__name__
    with pytest.raises(InputError, match=f"^texts: got {got}, need a list of texts$"):
        checked_texts(value)
    with pytest.raises(InputError, match=f"^pairs: got {got}, need a list of pairs$"):
        checked_pairs(value)
