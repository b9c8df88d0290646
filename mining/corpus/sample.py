"""A bounded random sample of documents, spread over their groups, that does not depend on how they were sharded.

Each text and each group has a priority: its hash with the seed. A group keeps its texts of lowest priority, and the
groups of lowest priority stay (bottom-k sampling: Cohen & Kaplan 2007, doi:10.1145/1281100.1281133). What a shard
discards would be discarded among all documents too, so that the samples of shards make up the sample of all documents.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from hashlib import blake2b
from operator import itemgetter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simile.artifacts import Document, group_key

_MIN_DOCUMENTS_PER_GROUP = 32
"""Groups are thinned to this size before any group is left out as a whole."""
_POOL = 2
"""Multiple of the sample that is collected, so that groups of one document can make way for larger ones at the end."""
_SLACK = 1.25
"""Multiple of the pool at which it is thinned."""
ABOVE_ALL = 2**64
"""Higher than every priority, and than every number of documents."""

_Group = tuple[str | None, str | None]
"""A document's group and, only if it has none, its category."""


class Entry(NamedTuple):
    """A document that is offered to the sample."""

    priority: int
    """That of its text; `hash64` makes it."""
    number: int
    """Its place among all documents."""
    document: Document
    is_required: bool
    """Whether it is kept in any case."""


def hash64(text: str, seed: int, *, of: str = "text") -> int:
    """Return a hash of 64 bits that is the same on every machine; ``of`` keeps texts and groups apart."""
    data = text.encode(errors="surrogatepass")
    return int.from_bytes(blake2b(data, digest_size=8, key=seed.to_bytes(8), person=of.encode()).digest())


class Sample:
    """A random sample of about ``max_documents`` at most.

    The largest groups are thinned first. If that is not enough, groups are left out as a whole, because a group of few
    documents yields no pairs. Required documents are kept even if they exceed the limit. With ``by_group``, documents
    without a group are of no use once any document has one.
    """

    def __init__(self, max_documents: int, seed: int, *, by_group: bool) -> None:
        self._max_documents, self._seed, self._by_group = max_documents, seed, by_group
        self._priority_of_group: dict[_Group, int] = {}
        self._required: list[Entry] = []
        self.has_groups = False
        self._start()

    def _start(self) -> None:
        self._kept: dict[_Group, list[Entry]] = {}
        self._num_kept = 0
        self.max_per_group = self.end = ABOVE_ALL
        """Documents per group at most, and the priority from which groups are left out. Both only ever fall."""
        self._end_of_group: dict[_Group, int] = {}
        """The priority from which the documents of a full group are left out."""

    def add(self, entry: Entry) -> None:
        """Offer a document; those of one shard come in their order."""
        document = entry.document
        if entry.is_required:
            self._required.append(entry)
            return
        if self._by_group and self.has_groups != (document.group is not None):
            if self.has_groups:
                return
            self.has_groups = True
            self._start()
        group = (document.group, None if document.group is not None else document.category)
        if self._priority_of(group) >= self.end or entry.priority >= self._end_of_group.get(group, ABOVE_ALL):
            return
        self._kept.setdefault(group, []).append(entry)
        self._num_kept += 1
        if self._num_kept > _SLACK * _POOL * self._max_documents:
            self._thin()

    def join(self, entries: Iterable[Entry], max_per_group: int, end: int, *, has_groups: bool) -> None:
        """Add what the sample of the next shard has kept."""
        if self._by_group and has_groups and not self.has_groups:
            self.has_groups = True
            self._start()
        if has_groups == self.has_groups or not self._by_group:
            self.max_per_group, self.end = min(self.max_per_group, max_per_group), min(self.end, end)
        for entry in entries:
            self.add(entry)

    def entries(self) -> list[Entry]:
        """Return all that later shards leave a chance, in the documents' order."""
        self._thin()
        kept = [entry for of_group in self._kept.values() for entry in of_group]
        return sorted([*self._required, *kept], key=_NUMBER)

    def rows(self) -> tuple[Document, ...]:
        """Return the sample in the documents' order."""
        self._thin()
        # A document that is alone in its group makes no positive pair, so such groups come last.
        _, ranked, num_fitting = self._ranked(1, partial(self._rank, last=1))
        chosen = [entry for _, of_group in ranked[:num_fitting] for entry in of_group]
        return tuple(entry.document for entry in sorted([*self._required, *chosen], key=_NUMBER))

    def _priority_of(self, group: _Group) -> int:
        priority = self._priority_of_group.get(group)
        if priority is None:
            kind, name = ("group", group[0]) if group[0] is not None else ("category", group[1])
            priority = 0 if name is None else hash64(group_key(name), self._seed, of=kind)
            self._priority_of_group[group] = priority
        return priority

    def _thin(self) -> None:
        """Discard what is in no sample of these documents and others."""
        by_priority = partial(self._rank, last=0)
        self.max_per_group, ranked, num_fitting = self._ranked(_POOL, by_priority)
        if num_fitting < len(ranked):
            self.end = self._priority_of(ranked[num_fitting][0])
        self._kept = dict(ranked[:num_fitting])
        self._num_kept = sum(map(len, self._kept.values()))
        full = {group: entries for group, entries in self._kept.items() if len(entries) == self.max_per_group}
        self._end_of_group = {group: max(entry.priority for entry in entries) for group, entries in full.items()}

    def _rank(self, group: _Group, size: int, *, last: int) -> tuple[bool, int]:
        """Return the rank of a group, by its priority; groups of the size ``last`` come last."""
        return size == last, self._priority_of(group)

    def _ranked(
        self, multiple: int, rank: Callable[[_Group, int], tuple[bool, int]]
    ) -> tuple[int, Sequence[tuple[_Group, list[Entry]]], int]:
        """Return the limit per group, the thinned groups by rank, and how many of these fit.

        What fits is this multiple of the sample's size, required documents included.
        """
        capacity = max(0, multiple * self._max_documents - len(self._required))
        kept = {group: entries for group, entries in self._kept.items() if self._priority_of(group) < self.end}
        sizes, limit = np.array([*map(len, kept.values())], dtype=np.int64), self.max_per_group
        if sizes.sum() > capacity:
            limit = min(limit, max(_MIN_DOCUMENTS_PER_GROUP, fair_limit(sizes, capacity)))
        for group, entries in kept.items():
            if len(entries) > limit:
                kept[group] = sorted(entries, key=_PRIORITY)[:limit]
        ranked = sorted(kept.items(), key=lambda item: rank(item[0], len(item[1])))
        sizes = np.array([len(entries) for _, entries in ranked], dtype=np.int64)
        return limit, ranked, int(np.searchsorted(np.cumsum(sizes), capacity, side="right"))


_NUMBER = itemgetter(1)
_PRIORITY = itemgetter(0, 1)


def fair_limit(sizes: NDArray[np.int64], total: int) -> int:
    """Return the largest limit (at least 1) to which all sizes can be cut so that their sum is within the total."""
    limits = range(1, int(sizes.max(initial=1)) + 1)
    return max(1, bisect_right(limits, total, key=lambda limit: int(np.minimum(sizes, limit).sum())))
