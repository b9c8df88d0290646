"""Documents, however many: their word frequencies, and a sample of them that is enough to mine from.

One pass, in memory that follows the sample and the vocabulary. Shape suffix: V = words of the vocabulary.
"""

import random
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer

from simile.artifacts import Document, text_key
from simile.errors import InputError
from simile.progress import Progress
from simile.scoring import words

_MIN_OF_GROUP = 32
"""Documents of a group that are kept before whole groups are let go."""


@dataclass(frozen=True, slots=True)
class Corpus:
    """What one pass over the documents leaves."""

    rows: tuple[Document, ...]
    """The sample, in the documents' order."""
    tfidf: TfidfVectorizer
    """Of all documents, sublinear in the term frequency, as every lexical figure here uses it."""
    num_read: int
    num_cut: int
    """Documents whose text was too long."""
    num_without_group: int
    num_without_category: int

    @property
    def have_groups(self) -> bool:
        """Whether any document names its group."""
        return self.num_without_group < self.num_read

    @property
    def have_categories(self) -> bool:
        """Whether any document names its category."""
        return self.num_without_category < self.num_read


def gather(documents: Iterable[Document], *, room: int, seed: int, always: Collection[str] | None = None) -> Corpus:
    """Return the documents' word frequencies and at most about ``room`` of them.

    Too many documents are thinned from the largest groups first, then group by group: a group of few documents makes
    no pairs.

    Args:
        documents: in any number.
        room: documents to keep.
        seed: of the sample.
        always: keys of texts to keep in any case; where given, groups are not what says the meaning, and documents
            without one are as good as others.

    Raises:
        InputError: there is no word in them.
    """
    sample = _Sample(room, seed)
    frequency: Counter[str] = Counter()
    num_read = num_cut = num_without_group = num_without_category = 0
    for number, document in enumerate(_counted(documents), 1):
        num_read = number
        num_cut += document.is_cut
        num_without_group += document.group is None
        num_without_category += document.category is None
        frequency.update(set(words(document.text)))
        sample.add(number, document, is_wanted=always is not None and text_key(document.text) in always)
    if not frequency:
        raise InputError(f"got {num_read} texts without a single word of two letters, need words for TF-IDF")
    rows = sample.rows(needs_group=always is None and num_without_group < num_read)
    tfidf = _vectorizer(frequency, num_read)
    return Corpus(rows, tfidf, num_read, num_cut, num_without_group, num_without_category)


def _counted(documents: Iterable[Document]) -> Iterator[Document]:
    with Progress("reading", None, "documents") as progress:
        for document in documents:
            yield document
            progress.advance()


def _vectorizer(frequency: Counter[str], num_documents: int) -> TfidfVectorizer:
    """Return what ``TfidfVectorizer(sublinear_tf=True).fit`` gives for documents of these frequencies."""
    vocabulary = sorted(frequency)
    vectorizer = TfidfVectorizer(sublinear_tf=True, vocabulary={word: i for i, word in enumerate(vocabulary)})
    frequency_V = np.array([frequency[word] for word in vocabulary], dtype=np.float64)
    vectorizer.idf_ = np.log((1 + num_documents) / (1 + frequency_V)) + 1
    return vectorizer


class _Sample:
    """A random sample that is spread over the groups: of each the documents with the lowest keys, up to a limit."""

    def __init__(self, room: int, seed: int) -> None:
        self._room = room
        self._random = random.Random(seed)
        self._kept: dict[tuple[str | None, str | None], list[tuple[float, int, Document]]] = {}
        self._key_of_group: dict[tuple[str | None, str | None], float] = {}
        self._gone: set[tuple[str | None, str | None]] = set()
        """Groups that are let go: later documents of them would be fragments."""
        self._num_kept = 0
        self._most_kept = 2 * room

    def add(self, number: int, document: Document, *, is_wanted: bool) -> None:
        """Meet a document."""
        # Without a group, documents are spread over the categories.
        group = (document.group, None if document.group is not None else document.category)
        self._key_of_group.setdefault(group, self._random.random())
        key = -1.0 if is_wanted else self._random.random()
        if group in self._gone and not is_wanted:
            return
        self._kept.setdefault(group, []).append((key, number, document))
        self._num_kept += 1
        if self._num_kept > self._most_kept:
            self._thin()

    def rows(self, *, needs_group: bool) -> tuple[Document, ...]:
        """Return what is kept, in the order in which it was met; where they need a group, only those and the wanted."""
        if needs_group:
            self._kept = {
                group: [entry for entry in entries if group[0] is not None or entry[0] < 0]
                for group, entries in self._kept.items()
            }
            self._num_kept = sum(map(len, self._kept.values()))
        if self._num_kept > self._room:
            self._thin()
        kept = sorted((number, document) for entries in self._kept.values() for _, number, document in entries)
        return tuple(document for _, document in kept)

    def _thin(self) -> None:
        limit = max(_MIN_OF_GROUP, fair_limit(np.array([*map(len, self._kept.values())]), self._room))
        for group, entries in self._kept.items():
            if len(entries) > limit:
                num_wanted = sum(key < 0 for key, _, _ in entries)
                self._kept[group] = sorted(entries, key=lambda entry: entry[:2])[: max(limit, num_wanted)]
        num_kept = 0
        has_room = True
        # Documents that are alone in their group make no positive pair: they come last.
        for group in sorted(self._kept, key=lambda group: (len(self._kept[group]) < 2, self._key_of_group[group])):
            entries = self._kept[group]
            has_room = has_room and num_kept + len(entries) <= self._room
            if not has_room:
                self._gone.add(group)
                self._kept[group] = entries = [entry for entry in entries if entry[0] < 0]
            num_kept += len(entries)
        self._kept = {group: entries for group, entries in self._kept.items() if entries}
        self._num_kept = num_kept
        # What must be kept may be more than there is room for: the next time only when it has doubled.
        self._most_kept = 2 * max(self._room, num_kept)


def fair_limit(sizes: NDArray[np.int64], total: int) -> int:
    """Return the largest number that each size may be cut to so that their sum stays within the total (at least 1)."""
    low, high = 1, max(1, int(sizes.max(initial=1)))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if np.minimum(sizes, middle).sum() <= total else (low, middle - 1)
    return low
