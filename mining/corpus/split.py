"""Assignment of the documents to training, dev and test sets; no text and no held-out group is in two sets."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from mining.corpus.duplicates import first_of_each
from simile.artifacts import Document, text_key
from simile.errors import InputError

_MIN_TRAIN_TEXTS, _MIN_SPLIT_TEXTS = 2, 2
_MIN_GROUPS = {"dev": 2, "test": 4}
"""Groups that are held out as a whole, at least, where there are `_MANY_GROUPS`: the evaluation gate needs four."""
_MANY_GROUPS = 12

_Sets = dict[str, list[Document]]
"""Documents by the name of their group or of their set."""


def distinct(rows: Sequence[Document], held_out: Iterable[str]) -> tuple[list[Document], dict[str, int]]:
    """Return the documents that do not repeat, or nearly repeat, another one or a held-out text.

    The second value is the number of documents left out, by reason.
    """
    texts_held_out = list(dict.fromkeys(held_out))
    texts = [*texts_held_out, *(row.text for row in rows)]
    reasons = "text of held-out pairs", "near-duplicate of a held-out text", "duplicate text", "near-duplicate text"
    dropped = dict.fromkeys(reasons, 0)
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

    A share of the groups goes to ``*-unseen`` as a whole, and the same share of the documents of the remaining groups
    goes to ``*-seen``.
    """
    groups: _Sets = defaultdict(list)
    for row in rows:
        groups[str(row.group)].append(row)
    if not any(len(members) > 1 for members in groups.values()):
        raise InputError(f"got {len(groups)} groups of one document each, need at least one group with two documents")
    rng = np.random.default_rng(seed)
    sets: _Sets = {"train": []}
    shares = {"dev": dev_share, "test": test_share}
    _hold_out_documents(_hold_out_groups(groups, shares, sets, rng), shares, sets, rng)
    return {name: tuple(members) for name, members in sets.items()}


def _hold_out_groups(groups: _Sets, shares: dict[str, float], sets: _Sets, rng: np.random.Generator) -> _Sets:
    """Move whole groups to the unseen sets, spread over the categories, and return the groups that stay."""
    names = _spread_over_categories(groups, rng)
    taken = 0
    for part, share in shares.items():
        # Groups are ordered in pairs. Negatives need two groups, and so do the groups left for training.
        num = max(_MIN_GROUPS[part] if len(names) >= _MANY_GROUPS else 2, 2 * round(share * len(names) / 2))
        if share and len(names) - taken - num >= 2:
            chosen = names[taken : taken + num]
            sets[f"{part}-unseen"] = [row for name in chosen for row in groups[name]]
            taken += num
    held_out = set(names[:taken])
    return {name: members for name, members in groups.items() if name not in held_out}


def _spread_over_categories(groups: _Sets, rng: np.random.Generator) -> list[str]:
    """Return the groups that can be held out in an order in which every stretch has the categories in proportion.

    Groups of one category are placed in twos, so that a held-out set has hard negatives.
    """
    categories: dict[str | None, list[str]] = defaultdict(list)
    # A group of one document makes no positive pair, so nothing is gained by holding it out.
    for name in sorted(name for name, members in groups.items() if len(members) > 1):
        categories[groups[name][0].category].append(name)
    chunks = []
    for category in categories.values():
        names = [category[i] for i in rng.permutation(len(category))]
        chunks += [names[i : i + 2] for i in range(0, len(names), 2)]
    # Full chunks come first: a single leftover group would be alone in its category.
    order = sorted(rng.permutation(len(chunks)), key=lambda i: -len(chunks[i]))
    return [name for i in order for name in chunks[i]]


def _hold_out_documents(groups: _Sets, shares: dict[str, float], sets: _Sets, rng: np.random.Generator) -> None:
    """Move each seen set's share of the documents of every group to that set, and the rest to train.

    A single document of a group makes no positive pair, so the share of a small group is carried over to the next
    group until it amounts to two documents. Groups too small to give two documents are not counted.
    """
    left = {name: [members[i] for i in rng.permutation(len(members))] for name, members in groups.items()}
    names = list(groups)
    for part, share in shares.items():
        held_out: list[Document] = []
        carried_over = 0.0
        for name in (names[i] for i in rng.permutation(len(names))):
            if len(groups[name]) >= _MIN_TRAIN_TEXTS + _MIN_SPLIT_TEXTS:
                carried_over += share * len(groups[name])
            num = min(round(carried_over), len(left[name]) - _MIN_TRAIN_TEXTS)
            if num >= _MIN_SPLIT_TEXTS:
                held_out += left[name][:num]
                left[name] = left[name][num:]
                carried_over -= num
        if held_out:
            sets[f"{part}-seen"] = held_out
    sets["train"].extend(row for members in left.values() for row in members)
