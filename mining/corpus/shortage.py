"""Reasons why documents yield few pairs or none, whatever their words are."""

from collections import Counter
from collections.abc import Mapping, Sequence

from mining.corpus.meaning import Meaning
from simile.artifacts import Document
from simile.errors import InputError


def require_pairable(meaning: Meaning, rows: Sequence[Document], repeated: Mapping[str, int]) -> None:
    """Refuse, by an `InputError`, documents without two groups, or with hardly any text that is not ``repeated``.

    Args:
        meaning: the documents with their groups.
        rows: those of them that repeat no other.
        repeated: the number of the others, by reason.
    """
    sizes = Counter(row.group for row in rows)
    if (why := repetition(meaning, repeated)) and (len(sizes) < 2 or max(sizes.values()) < 2):
        raise InputError(f"got too few different texts, {why}")
    if len(sizes) < 2:
        (name,), kind = sizes, "category" if meaning.source == "categories" else "group"
        one = "one component of positives and groups" if meaning.links else f"one {kind}, {name!r}"
        raise InputError(f"got {len(rows):,} documents of {one}, need at least two for negative pairs")


def repetition(meaning: Meaning, repeated: Mapping[str, int]) -> str | None:
    """Return how many documents are left out as repetitions and what is needed, or None where they are the minority."""
    num_all, num_repeated = len(meaning.rows), sum(repeated.values())
    if num_repeated <= num_all / 2:
        return None
    reasons = ", ".join(f"{reason} {num:,}" for reason, num in repeated.items() if num)
    left_out = f"{num_repeated:,} of {num_all:,} documents were left out as repetitions ({reasons})"
    return f"{left_out}: need more different texts"


def num_positives(rows: Sequence[Document], meaning: Meaning) -> int:
    """Return the number of positive pairs that the documents have at most, whatever the band is."""
    if meaning.links:
        return len(meaning.links.among([row.text for row in rows]))
    return sum(size * (size - 1) // 2 for size in Counter(row.group for row in rows).values())
