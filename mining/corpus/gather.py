"""The corpus to mine from: a bounded sample of the documents, and the word frequencies of all of them.

Shape suffix: V = words of the vocabulary.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

from mining.corpus.labels import AllLabels, Contradictions
from mining.corpus.sample import Sample
from mining.corpus.sketch import Sampling, Sketch, sketch_of
from mining.corpus.sketch_file import open_sketches
from simile.artifacts import Document
from simile.errors import InputError
from simile.scoring import words


@dataclass(frozen=True, slots=True)
class Corpus:
    """What is known about the documents once all of them have been read."""

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


def gather(documents: Iterable[Document], sampling: Sampling) -> Corpus:
    """Return the documents' word frequencies and a sample of them, from one pass."""
    return joined([sketch_of(documents, sampling)])


def gather_sketches(paths: Sequence[Path], sampling: Sampling) -> Corpus:
    """Return what `gather` returns for the documents that these files are the sketches of."""
    with open_sketches(paths, sampling) as sketches:
        return joined(sketches)


def joined(sketches: Iterable[Sketch]) -> Corpus:
    """Return the documents' word frequencies and their sample, from the sketches of all shards in their order.

    The result is the same whatever the shards are.
    """
    labels, frequency = AllLabels(), Counter[str]()
    sample: Sample | None = None
    num_read = num_cut = 0
    for sketch in sketches:
        labels.add(sketch.labels)
        frequency.update(sketch.frequency)
        if sample is None:
            sample = sketch.sample
        else:
            entries = (
                entry._replace(number=num_read + entry.number, document=labels.settled(entry.document))
                for entry in sketch.sample.entries()
            )
            kept = sketch.sample
            sample.join(entries, kept.max_per_group, kept.end, has_groups=kept.has_groups)
        num_read += sketch.num_read
        num_cut += sketch.num_cut
    if not frequency or sample is None:
        raise InputError(f"got {num_read:,} documents without a word, need words for TF-IDF")
    contradictions, notes = labels.summary()
    return Corpus(
        sample.rows(),
        _vectorizer(frequency, num_read),
        num_read,
        num_cut,
        labels.num_without("group"),
        labels.num_without("category"),
        contradictions,
        notes,
    )


def _vectorizer(frequency: Counter[str], num_documents: int) -> TfidfVectorizer:
    """Return the vectorizer that fitting on documents with these word frequencies would give."""
    vocabulary = sorted(frequency)
    numbers = {word: i for i, word in enumerate(vocabulary)}
    vectorizer = TfidfVectorizer(sublinear_tf=True, analyzer=words, vocabulary=numbers)
    frequency_V = np.array([frequency[word] for word in vocabulary], dtype=np.float64)
    vectorizer.idf_ = np.log((1 + num_documents) / (1 + frequency_V)) + 1
    return vectorizer
