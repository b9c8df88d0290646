"""What a worker does: it loads the bundle once, and computes shards one after the other.

Shape suffixes: P = pairs, N = texts, D = dimensions.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa

from simile.artifacts.bulk_manifest import BulkPartCounts, BulkWork
from simile.artifacts.bundle_files import require_digest
from simile.bulk.parts import Whole, described, written_part
from simile.bulk.tables import Shard, blocks, row_texts
from simile.errors import InputError
from simile.scoring import Device, Precision, Scorer, load, probability, require_finite
from simile.scoring.quantized import int8_embeddings
from simile.scoring.streaming import StreamScorer

OnRows = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class BulkJob:
    """All that a worker needs to know before its first shard; it can be sent to another machine."""

    work: BulkWork
    bundle: str
    """Path of the bundle."""
    device: Device
    precision: Precision
    verify_key: str | None
    """Path of the public key by whose private key the bundle must be signed."""
    earlier_precision: str | None
    """Precision of the parts that exist already."""
    out: str


class Compute(Protocol):
    """What is added to the rows of an input."""

    @property
    def added(self) -> pa.Schema:
        """The columns that are added."""

    def __call__(self, stream: StreamScorer, texts: list[list[str]]) -> list[pa.Array]:
        """Return the columns that are added to rows with these texts, given by column."""


class Worker:
    """A loaded bundle that computes shards."""

    def __init__(self, job: BulkJob) -> None:
        self._job = job
        self._scorer = load(job.bundle, device=job.device, precision=job.precision, verify_key=job.verify_key)
        require_digest(self._scorer.bundle, job.work.digest)
        self._precision = self._scorer.runtime.precision
        if job.earlier_precision not in (None, self._precision):
            got = f"{job.out}: got parts in {job.earlier_precision}, while this worker computes in {self._precision}"
            raise InputError(f"{got}; need --precision {job.earlier_precision}, or --out another folder")
        self._compute: Compute = (_Scores if job.work.command == "score" else _Embeddings)(self._scorer, job.work)

    def compute(self, shard: Shard, on_rows: OnRows | None = None) -> Whole:
        """Write the shard's part, return its counts, and call ``on_rows`` with the number of rows of each block."""
        # Its memory of texts is the shard's own, so that a part has the same bytes whoever writes it.
        stream = StreamScorer(self._scorer)
        part = described(shard, self._job.work, self._precision)
        with written_part(self._job.out, shard, part, self._compute.added) as writer:
            for block in blocks(shard):
                texts = row_texts(shard, block, shard.first_row + writer.num_rows)
                writer.write(block, self._compute(stream, texts))
                writer.num_texts = stream.num_texts
                if on_rows:
                    on_rows(len(block))
        return Whole(BulkPartCounts(name=shard.part, rows=shard.num_rows, texts=stream.num_texts), self._precision)


class _Scores:
    """Score and probability of each pair; the probability is null where the bundle has no calibration."""

    added = pa.schema([("score", pa.float32()), ("probability", pa.float32())])

    def __init__(self, scorer: Scorer, work: BulkWork) -> None:
        self._runtime, self._prior = scorer.runtime, work.prior
        self._calibration = scorer.bundle.manifest.calibration

    def __call__(self, stream: StreamScorer, texts: list[list[str]]) -> list[pa.Array]:
        text_a, text_b = texts
        score_P = stream.score(list(zip(text_a, text_b, strict=True)))
        require_finite(score_P, self._runtime)
        if self._calibration is None:
            return [pa.array(score_P), pa.nulls(len(score_P), pa.float32())]
        return [pa.array(score_P), pa.array(probability(self._calibration, score_P, prior=self._prior))]


class _Embeddings:
    """The vector of each text: of length 1, or in int8 scaled so that its largest number is 127."""

    def __init__(self, scorer: Scorer, work: BulkWork) -> None:
        self._dtype, self._side, self._runtime = work.dtype, work.side, scorer.runtime
        of_type = {"float32": pa.float32(), "float16": pa.float16(), "int8": pa.int8()}[work.dtype or "float32"]
        self.added = pa.schema([("embedding", pa.list_(of_type, scorer.dimension))])

    def __call__(self, stream: StreamScorer, texts: list[list[str]]) -> list[pa.Array]:
        embedding_ND = stream.embed(texts[0], 1 if self._side == "b" else 0)
        require_finite(embedding_ND, self._runtime)
        made_ND = int8_embeddings(embedding_ND) if self._dtype == "int8" else embedding_ND.astype(self._dtype)
        values = pa.array(np.ascontiguousarray(made_ND).reshape(-1))
        return [pa.FixedSizeListArray.from_arrays(values, type=self.added.field("embedding").type)]
