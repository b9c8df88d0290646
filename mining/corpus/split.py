"""Which documents train, which ones watch, which ones judge. No text and no held-out group straddles a split."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from mining.corpus.duplicates import first_of_each
from simile.artifacts import Document, text_key
from simile.errors import InputError

_MIN_TRAIN_TEXTS = 2
_MIN_SPLIT_TEXTS = 2
_FEWEST_GROUPS = {"dev": 2, "test": 4}
"""Held out whole. The gate wants four, which are held out where that is a third of all at most."""
_MANY_GROUPS = 12


def distinct(rows: Sequence[Document], held_out: Iterable[str]) -> tuple[list[Document], dict[str, int]]:
    """Return the documents without those that repeat, or nearly repeat, another one or a held-out text.

    And the numbers of those left out, by reason.
    """
    texts_held_out = list(dict.fromkeys(held_out))
    texts = [*texts_held_out, *(row.text for row in rows)]
    dropped = dict.fromkeys(
        ("text of held-out pairs", "near-duplicate of a held-out text", "duplicate text", "near-duplicate text"), 0
    )
    reasons = list(dropped)
    kept: list[Document] = []
    num_held_out = len(texts_held_out)
    firsts = first_of_each(texts, num_fixed=num_held_out).tolist()
    for number, (row, first) in enumerate(zip(rows, firsts[num_held_out:], strict=True), num_held_out):
        if first == number:
            kept.append(row)
            continue
        is_near = text_key(texts[first]) != text_key(row.text)
        dropped[reasons[is_near if first < num_held_out else 2 + is_near]] += 1
    return kept, dropped


def split_documents(
    rows: Sequence[Document], *, dev_share: float, test_share: float, seed: int
) -> dict[str, tuple[Document, ...]]:
    """Return the documents by set: train, and dev-seen, dev-unseen, test-seen, test-unseen where they are asked for.

    Of each share, whole groups go to ``*-unseen``, and of the groups that stay, that share of their documents to
    ``*-seen``.

    Raises:
        InputError: no group has two documents.
    """
    groups = _by_group(rows)
    if not any(len(members) > 1 for members in groups.values()):
        raise InputError(f"got {len(groups)} groups of one document each, need at least one group with two documents")
    rng = np.random.default_rng(seed)
    sets: dict[str, list[Document]] = {"train": []}
    remaining = _hold_out_groups(groups, {"dev": dev_share, "test": test_share}, sets, rng)
    _hold_out_documents(remaining, {"dev": dev_share, "test": test_share}, sets, rng)
    return {name: tuple(members) for name, members in sets.items()}


def _by_group(rows: Iterable[Document]) -> dict[str, list[Document]]:
    groups: dict[str, list[Document]] = defaultdict(list)
    for row in rows:
        groups[str(row.group)].append(row)
    return groups


def _hold_out_groups(
    groups: dict[str, list[Document]],
    shares: dict[str, float],
    sets: dict[str, list[Document]],
    rng: np.random.Generator,
) -> dict[str, list[Document]]:
    """Move whole groups to the unseen sets, spread over the categories, and return the groups that stay."""
    names = _spread_over_categories(groups, rng)
    taken = 0
    for split, share in shares.items():
        if share == 0:
            continue
        # Two by two, as they are spread; negatives need two groups, and so does what is left for training.
        num = max(_FEWEST_GROUPS[split] if len(names) >= _MANY_GROUPS else 2, 2 * round(share * len(names) / 2))
        if len(names) - taken - num >= 2:
            chosen = names[taken : taken + num]
            sets[f"{split}-unseen"] = [row for name in chosen for row in groups[name]]
            taken += num
    held_out = set(names[:taken])
    return {name: members for name, members in groups.items() if name not in held_out}


def _spread_over_categories(groups: dict[str, list[Document]], rng: np.random.Generator) -> list[str]:
    """Return the names of the groups that can be held out, so that each stretch holds categories in their proportion.

    Two groups of one category follow each other, so that a held-out set has near misses.
    """
    categories: dict[str | None, list[str]] = defaultdict(list)
    # A group of one document makes no positive pair: it would be held out for nothing.
    for name in sorted(name for name, members in groups.items() if len(members) > 1):
        categories[groups[name][0].category].append(name)
    chunks = []
    for category in categories.values():
        names = [category[i] for i in rng.permutation(len(category))]
        chunks += [names[i : i + 2] for i in range(0, len(names), 2)]
    # Whole chunks first: a single leftover group would stand alone in its category.
    order = sorted(rng.permutation(len(chunks)), key=lambda i: -len(chunks[i]))
    return [name for i in order for name in chunks[i]]


def _hold_out_documents(
    groups: dict[str, list[Document]],
    shares: dict[str, float],
    sets: dict[str, list[Document]],
    rng: np.random.Generator,
) -> None:
    """Move documents of the groups to the seen sets, to each its share of them, and the rest to train.

    A single document of a group makes no positive pair: what a small group owes is carried to the next one until it is
    two. A group too small to give two ever owes nothing.
    """
    left = {name: [members[i] for i in rng.permutation(len(members))] for name, members in groups.items()}
    names = list(groups)
    for split, share in shares.items():
        held_out: list[Document] = []
        owed = 0.0
        for name in (names[i] for i in rng.permutation(len(names))):
            if len(groups[name]) >= _MIN_TRAIN_TEXTS + _MIN_SPLIT_TEXTS:
                owed += share * len(groups[name])
            num = min(round(owed), len(left[name]) - _MIN_TRAIN_TEXTS)
            if num >= _MIN_SPLIT_TEXTS:
                held_out += left[name][:num]
                left[name] = left[name][num:]
                owed -= num
        if held_out:
            sets[f"{split}-seen"] = held_out
    sets["train"].extend(row for members in left.values() for row in members)
