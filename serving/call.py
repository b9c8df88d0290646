"""One call to the engine: what it waits for, and what it returns. Used by the event loop only."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Self

import numpy as np
from numpy.typing import NDArray

from serving.cache import Embedding
from serving.job_queue import Job


@dataclass(frozen=True, slots=True)
class Embedded:
    """The embeddings of some texts and what they took."""

    embedding_ND: NDArray[np.float32]
    """The embeddings of the ensemble: the cosine of two rows is the ensemble's score."""
    num_tokens: int
    num_cut: int

    def first(self, dimensions: int) -> "Embedded":
        """Return the embeddings cut to their first dimensions and scaled to length 1 again."""
        first_ND = self.embedding_ND[:, :dimensions]
        # A cut vector may be all zeros; it stays so.
        length_N1 = np.maximum(np.linalg.norm(first_ND, axis=1, keepdims=True), np.finfo(np.float32).tiny)
        return replace(self, embedding_ND=first_ND / length_N1)


@dataclass(slots=True)
class Timing:
    """Consecutive seconds of one call: until its last text was tokenized, until it was begun, until it was computed."""

    tokenize: float = 0.0
    queue: float = 0.0
    infer: float = 0.0


@dataclass(eq=False, slots=True)
class Call:
    """The distinct texts of one call, one row each, filled in as their embeddings arrive."""

    embeddings: list[NDArray[np.float32]]
    """The embeddings by each encoder, shape ``(N, D)``."""
    token_N: NDArray[np.int64]
    is_cut_N: NDArray[np.bool_]
    done: asyncio.Future[None]
    """Completes when no embedding is missing, or fails with the first job that fails."""
    jobs: list[Job] = field(default_factory=list)
    num_missing: int = 0
    arrived: float = field(default_factory=perf_counter)
    finished: float = 0.0

    @classmethod
    def start(cls, num_texts: int, dimensions: Sequence[int]) -> Self:
        """Return an empty call of the running event loop, for encoders with these dimensions."""
        return cls(
            [np.empty((num_texts, dimension), dtype=np.float32) for dimension in dimensions],
            np.zeros(num_texts, dtype=np.int64),
            np.zeros(num_texts, dtype=bool),
            asyncio.get_running_loop().create_future(),
        )

    @property
    def num_tokens(self) -> int:
        """Tokens of the texts, summed over the encoders."""
        return int(self.token_N.sum())

    @property
    def num_cut(self) -> int:
        """Texts that some encoder did not read to their end."""
        return int(self.is_cut_N.sum())

    def fill(self, encoder: int, row: int, embedding: Embedding) -> None:
        """Take the embedding by one encoder of the text in this row."""
        self.embeddings[encoder][row] = embedding.vector_D
        self.token_N[row] += embedding.num_tokens
        self.is_cut_N[row] |= embedding.is_cut

    def wait_for(self, job: Job, row: int) -> None:
        """Have the job fill this row when it is computed."""
        job.rows[self] = row
        self.jobs.append(job)
        self.num_missing += 1

    def receive(self, job: Job, embedding: Embedding) -> None:
        """Fill the row that waits for the job; the last one completes the call."""
        self.fill(job.encoder, job.rows[self], embedding)
        self.num_missing -= 1
        if not self.num_missing and not self.done.done():
            self.finished = perf_counter()
            self.done.set_result(None)

    def fill_in(self, timing: Timing) -> None:
        """Record the seconds of the finished call, counted from its arrival even if its texts were requested before."""
        ready = max((self.arrived, *(job.ready for job in self.jobs)))
        begun = max((ready, *(job.begun for job in self.jobs)))
        timing.tokenize, timing.queue = ready - self.arrived, begun - ready
        timing.infer = self.finished - begun if self.jobs else 0.0
