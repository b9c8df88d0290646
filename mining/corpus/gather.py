"""A bounded sample of the documents to mine from, and the word frequencies of all of them, in one pass.

Shape suffix: V = words of the vocabulary.
"""

import random
from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer

from mining.corpus.labels import Contradictions, Labels
from simile.artifacts import Document, text_key
from simile.errors import InputError
from simile.progress import Progress
from simile.scoring import words

_MIN_DOCUMENTS_PER_GROUP = 32
"""Groups are thinned to this size before any group is left out as a whole."""

_Group = tuple[str | None, str | None]
"""A document's group and, only if it has none, its category."""


@dataclass(frozen=True, slots=True)
class Corpus:
    """The result of one pass over the documents."""

    rows: tuple[Document, ...]
    """The sample, in the documents' order."""
    tfidf: TfidfVectorizer
    """Fitted on all documents, with sublinear term frequency; every TF-IDF cosine in mining comes from it."""
    num_read: int
    num_cut: int
    """Number of documents whose text was too long and was cut."""
    num_without_group: int
    num_without_category: int
    contradictions: Contradictions
    notes: tuple[str, ...]
    """What is doubtful about the documents' groups and categories, for the user."""


def gather(
    documents: Iterable[Document], *, max_documents: int, seed: int, required: Collection[str] | None = None
) -> Corpus:
    """Return the documents' word frequencies and a sample of about ``max_documents`` of them at most.

    The largest groups are thinned first. If that is not enough, groups are left out as a whole, because a group of
    few documents yields no pairs. Texts with a ``required`` key are always kept, even if they exceed the limit; with
    such texts, meaning does not depend on groups, and documents without a group are sampled as well.
    """
    sample, labels = _Sample(max_documents, seed), Labels()
    frequency: Counter[str] = Counter()
    num_read = num_cut = 0
    with Progress("reading", None, "documents") as progress:
        for num_read, document in enumerate(map(labels.settled, documents), 1):
            num_cut += document.is_cut
            frequency.update(set(words(document.text)))
            sample.add(num_read, document, is_required=required is not None and text_key(document.text) in required)
            progress.advance()
    if not frequency:
        raise InputError(f"got {num_read:,} documents without a word, need words for TF-IDF")
    num_without_group, num_without_category = labels.num_without["group"], labels.num_without["category"]
    rows = sample.rows(needs_group=required is None and num_without_group < num_read)
    return Corpus(
        rows,
        _vectorizer(frequency, num_read),
        num_read,
        num_cut,
        num_without_group,
        num_without_category,
        labels.contradictions,
        tuple(labels.notes()),
    )


def _vectorizer(frequency: Counter[str], num_documents: int) -> TfidfVectorizer:
    """Return the vectorizer that fitting on documents with these word frequencies would give."""
    vocabulary = sorted(frequency)
    numbers = {word: i for i, word in enumerate(vocabulary)}
    vectorizer = TfidfVectorizer(sublinear_tf=True, analyzer=words, vocabulary=numbers)
    frequency_V = np.array([frequency[word] for word in vocabulary], dtype=np.float64)
    vectorizer.idf_ = np.log((1 + num_documents) / (1 + frequency_V)) + 1
    return vectorizer


class _Sample:
    """A random sample spread over the groups: each group keeps the documents with its lowest random keys.

    Required documents have the key -1, which sorts before all others.
    """

    def __init__(self, max_documents: int, seed: int) -> None:
        self._max_documents = max_documents
        self._random = random.Random(seed)
        self._kept: dict[_Group, list[tuple[float, int, Document]]] = {}
        self._key_of_group: dict[_Group, float] = {}
        self._left_out: set[_Group] = set()
        """Groups that were left out as a whole: their later documents would be fragments of a group."""
        self._num_kept = 0
        self._thin_above = 2 * max_documents

    def add(self, number: int, document: Document, *, is_required: bool) -> None:
        """Offer a document to the sample."""
        group = (document.group, None if document.group is not None else document.category)
        self._key_of_group.setdefault(group, self._random.random())
        key = -1.0 if is_required else self._random.random()
        if group in self._left_out and not is_required:
            return
        self._kept.setdefault(group, []).append((key, number, document))
        self._num_kept += 1
        if self._num_kept > self._thin_above:
            self._thin()

    def rows(self, *, needs_group: bool) -> tuple[Document, ...]:
        """Return the sample in the documents' order; with ``needs_group``, without those that have no group."""
        if needs_group:
            self._kept = {
                group: [entry for entry in entries if group[0] is not None or entry[0] < 0]
                for group, entries in self._kept.items()
            }
            self._num_kept = sum(map(len, self._kept.values()))
        if self._num_kept > self._max_documents:
            self._thin()
        kept = sorted((number, document) for entries in self._kept.values() for _, number, document in entries)
        return tuple(document for _, document in kept)

    def _thin(self) -> None:
        sizes = np.array([*map(len, self._kept.values())])
        limit = max(_MIN_DOCUMENTS_PER_GROUP, fair_limit(sizes, self._max_documents))
        for group, entries in self._kept.items():
            if len(entries) > limit:
                num_required = sum(key < 0 for key, _, _ in entries)
                self._kept[group] = sorted(entries, key=lambda entry: entry[:2])[: max(limit, num_required)]
        num_kept, is_full = 0, False
        # A document that is alone in its group makes no positive pair, so such groups come last.
        for group in sorted(self._kept, key=lambda group: (len(self._kept[group]) < 2, self._key_of_group[group])):
            entries = self._kept[group]
            is_full = is_full or num_kept + len(entries) > self._max_documents
            if is_full:
                self._left_out.add(group)
                self._kept[group] = entries = [entry for entry in entries if entry[0] < 0]
            num_kept += len(entries)
        self._kept = {group: entries for group, entries in self._kept.items() if entries}
        self._num_kept = num_kept
        # Required documents may exceed the limit, so the next thinning waits until the sample has doubled.
        self._thin_above = 2 * max(self._max_documents, num_kept)


def fair_limit(sizes: NDArray[np.int64], total: int) -> int:
    """Return the largest limit (at least 1) to which all sizes can be cut so that their sum is within the total."""
    limits = range(1, int(sizes.max(initial=1)) + 1)
    return max(1, bisect_right(limits, total, key=lambda limit: int(np.minimum(sizes, limit).sum())))
