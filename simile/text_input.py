"""Checks of texts and pairs that a caller or a file gives, in the same words wherever texts come in."""

from collections.abc import Iterable, Mapping
from typing import Any

from simile.errors import InputError

NEED_PAIR = "need two strings"
_NO_SEQUENCE = (str, bytes, Mapping, set, frozenset)
"""Iterables whose elements are not what their caller means, or have no order."""


def text_fault(value: object, name: str = "") -> str | None:
    """Return what was got and what is needed; None for a string that has a visible character and that UTF-8 can encode.

    Only with a ``name``, that of a file's field, the value is quoted: other callers' texts belong into no log.
    """
    if isinstance(value, str) and value.strip():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            return f"got {name or 'a text'} with half a surrogate pair at character {error.start}, need Unicode text"
        return None
    if isinstance(value, str) and not name:
        return "got an empty text, need a non-empty text"
    got = f"{name} {value!r:.60}".strip() if name or value is None or isinstance(value, float) else type(value).__name__
    return f"got {got}, need a non-empty text"


def _is_sequence(value: object, dimensions: tuple[int, ...]) -> bool:
    """Return whether the value has elements in order; a table is none, because it gives the names of its columns."""
    is_iterable = isinstance(value, Iterable) and not isinstance(value, _NO_SEQUENCE) and not hasattr(value, "columns")
    return is_iterable and getattr(value, "ndim", dimensions[0]) in dimensions


def checked_texts(texts: Iterable[Any]) -> list[str]:
    """Return the texts of any iterable, such as a list, a generator or a column of a table.

    Raises:
        InputError: the argument is a single string or no iterable, or an element is no text; the message has its index.
    """
    if not _is_sequence(texts, (1,)):
        raise InputError(f"texts: got {type(texts).__name__}, need a list of texts")
    checked = list(texts)
    for i, text in enumerate(checked):
        if fault := text_fault(text):
            raise InputError(f"texts[{i}]: {fault}")
    # Strings of NumPy become plain ones.
    return [str(text) for text in checked]


def checked_pairs(pairs: Iterable[Any]) -> list[tuple[str, str]]:
    """Return the pairs of any iterable, each two texts in order, such as tuples, lists or rows of an array.

    Raises:
        InputError: the argument is no list of pairs, or an element is not two texts; the message has its index.
    """
    if not _is_sequence(pairs, (1, 2)):
        raise InputError(f"pairs: got {type(pairs).__name__}, need a list of pairs")
    checked = []
    for i, pair in enumerate(pairs):
        is_sequence = _is_sequence(pair, (1,))
        texts = tuple(pair) if is_sequence else ()
        if len(texts) != 2:
            got = f"{len(texts)} elements" if is_sequence else type(pair).__name__
            raise InputError(f"pairs[{i}]: got {got}, {NEED_PAIR}")
        for j, text in enumerate(texts):
            if fault := text_fault(text):
                raise InputError(f"pairs[{i}][{j}]: {fault}")
        checked.append((str(texts[0]), str(texts[1])))
    return checked
