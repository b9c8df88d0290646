"""What one pass over documents, or over one shard of them, counts and samples."""

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from mining.corpus.labels import Labels, LabelTable
from mining.corpus.sample import Entry, Sample, hash64
from simile.artifacts import Document, text_key
from simile.progress import Progress
from simile.scoring.lexical import words


@dataclass(frozen=True, slots=True)
class Sampling:
    """How documents are sampled; `mining.corpus.sample` says how large the sample is at most."""

    max_documents: int
    seed: int
    required: Collection[str] | None = None
    """Keys of the texts that are always sampled. With such texts, meaning does not depend on groups, and documents
    without a group are sampled as well."""


@dataclass(frozen=True, slots=True)
class Sketch:
    """The counts and the sample of one shard of the documents."""

    num_read: int
    num_cut: int
    """Number of documents whose text was too long and was cut."""
    frequency: Counter[str]
    """Number of documents by word."""
    labels: LabelTable
    sample: Sample


def sketch_of(documents: Iterable[Document], sampling: Sampling) -> Sketch:
    """Return the sketch of these documents, which are read once."""
    seed, required = sampling.seed, sampling.required
    sample, labels = Sample(sampling.max_documents, seed, by_group=required is None), Labels()
    frequency = Counter[str]()
    num_read = num_cut = 0
    with Progress("reading", None, "documents") as progress:
        for num_read, document in enumerate(documents, 1):
            num_cut += document.is_cut
            frequency.update(set(words(document.text)))
            key = text_key(document.text)
            text_hash = hash64(key, seed)
            settled = labels.settled(document, text_hash)
            sample.add(Entry(text_hash, num_read, settled, required is not None and key in required))
            progress.advance()
    return Sketch(num_read, num_cut, frequency, labels.table(), sample)
