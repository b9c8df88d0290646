"""One call to the engine: what it waits for, and what it is given."""

import asyncio
from dataclasses import dataclass, field, replace
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from serving.cache import Embedding
from serving.waiting import Job


@dataclass(frozen=True, slots=True)
class Embedded:
    """The embeddings of some texts and what they took."""

    embedding_ND: NDArray[np.float32]
    """Of the ensemble: the cosine of two rows is its score."""
    num_tokens: int
    num_cut: int

    def first(self, dimensions: int) -> "Embedded":
        """Return the embeddings cut to their first dimensions, of length 1 again."""
        first_ND = self.embedding_ND[:, :dimensions]
        # A cut vector may be all zeros: it stays so.
        length_N1 = np.maximum(np.linalg.norm(first_ND, axis=1, keepdims=True), np.finfo(np.float32).tiny)
        return replace(self, embedding_ND=first_ND / length_N1)


@dataclass(slots=True)
class Timing:
    """Seconds of one call, one after the other: until its last text was tokenized, begun, and computed."""

    tokenize: float = 0.0
    queue: float = 0.0
    infer: float = 0.0


@dataclass(eq=False, slots=True)
class Call:
    """One call's texts, each with its row; filled in as they are computed."""

    embeddings: list[NDArray[np.float32]]
    """Of each encoder, shape ``(N, D)``."""
    token_N: NDArray[np.int64]
    is_cut_N: NDArray[np.bool_]
    done: asyncio.Future[None]
    num_missing: int = 0
    jobs: list[Job] = field(default_factory=list)
    arrived: float = field(default_factory=perf_counter)

    def fill(self, encoder: int, row: int, found: Embedding) -> None:
        """Take what an encoder has found for the text of the row."""
        self.embeddings[encoder][row] = found.vector_D
        self.token_N[row] += found.num_tokens
        self.is_cut_N[row] |= found.is_cut

    def tell(self, timing: Timing) -> None:
        """Write down what the call, which is done, took; a text that was on its way before it came took less."""
        ready = max((self.arrived, *(job.ready for job in self.jobs)))
        begun = max((ready, *(job.begun for job in self.jobs)))
        timing.tokenize, timing.queue = ready - self.arrived, begun - ready
        timing.infer = perf_counter() - begun if self.jobs else 0.0
