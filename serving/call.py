"""One call to the engine, used by the event loop only, and the way by which worker threads send it results."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from serving.cache import Embedding
from serving.job_queue import Job
from simile.scoring import DistinctTexts

MAX_INLINE_CHARACTERS = 2048
"""The event loop itself processes up to this much text: waking a thread for it takes longer."""

LexicalScores = Mapping[str, NDArray[np.float32]]
"""The scores of a call's pairs, shape ``(P,)``, by the name of the lexical member."""


_NO_VECTOR = np.empty(0, dtype=np.float32)
"""Stands for the embedding of a text that is missing."""

STAGES = ("tokenize", "queue", "infer")
"""The stages of a call that `Timing` has the seconds of, in their order."""


@dataclass(slots=True)
class Timing:
    """Consecutive seconds of one call: until its last text was tokenized, until it was begun, until it was computed."""

    tokenize: float = 0.0
    queue: float = 0.0
    infer: float = 0.0
    start: float = 0.0
    """When the call arrived, by `time.perf_counter`."""


class Call:
    """The distinct texts of one call, one row each, its pairs of rows, and the results as they arrive."""

    def __init__(self, distinct: DistinctTexts, num_encoders: int) -> None:
        self.texts, self.sides, self.pair_P2 = distinct
        self._vectors: list[list[NDArray[np.float32]]] = [[_NO_VECTOR] * len(self.texts) for _ in range(num_encoders)]
        """The embedding of each text, by encoder. Calls for the same texts share them while they wait."""
        self.token_counts = [0] * len(self.texts)
        """Tokens of each text, summed over the encoders."""
        self.is_cut = [False] * len(self.texts)
        self.num_unknown = 0
        """Unknown tokens of all texts, summed over the encoders."""
        self.lexical_scores: LexicalScores = {}
        self.jobs: list[Job] = []
        self.lexical_jobs: list[Job] = []
        """The share of the admission budget that the lexical work takes."""
        self.num_missing = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Completes when nothing is missing any more, or fails with the first part that fails."""
        self._arrived = perf_counter()
        self._embedded = 0.0

    def fill(self, encoder: int, row: int, embedding: Embedding) -> None:
        """Take the embedding by one encoder of the text in this row."""
        self._vectors[encoder][row] = embedding.vector_D
        self.token_counts[row] += embedding.num_tokens
        self.is_cut[row] |= embedding.is_cut
        self.num_unknown += embedding.num_unknown

    def embeddings(self) -> list[NDArray[np.float32]]:
        """Return the embeddings by each encoder, shape ``(N, D)``, of a call of which nothing is missing."""
        return [np.concatenate(vectors).reshape(len(vectors), -1) for vectors in self._vectors]

    def wait_for(self, job: Job, row: int) -> None:
        """Have the job fill this row when it is computed."""
        job.rows[self] = row
        self.jobs.append(job)
        self.num_missing += 1

    def receive(self, job: Job, embedding: Embedding) -> None:
        """Fill the row that waits for the job."""
        self.fill(job.encoder, job.rows[self], embedding)
        self._embedded = perf_counter()
        self._receive_part()

    def receive_lexical(self, scores: LexicalScores) -> None:
        """Take the lexical scores, which were counted in `num_missing`."""
        self.lexical_scores = scores
        self._receive_part()

    def fail(self, error: Exception) -> None:
        """End the wait with the error, unless it has ended."""
        if not self.done.done():
            self.done.set_exception(error)

    def fill_in(self, timing: Timing) -> None:
        """Record the seconds of the finished call, counted from its arrival even if its texts were requested before."""
        ready = max((self._arrived, *(job.ready for job in self.jobs)))
        begun = max((ready, *(job.begun for job in self.jobs)))
        timing.start = self._arrived
        timing.tokenize, timing.queue = ready - self._arrived, begun - ready
        timing.infer = self._embedded - begun if self.jobs else 0.0

    def _receive_part(self) -> None:
        self.num_missing -= 1
        if not self.num_missing and not self.done.done():
            self.done.set_result(None)


@dataclass
class Results:
    """The only way from a worker thread back to the event loop. Safe to use from any thread."""

    on_embedded: Callable[[Sequence[Job], NDArray[np.float32]], None]
    """Called with the jobs of one batch and their embeddings, shape ``(B, D)``."""
    on_failed: Callable[[Job, Exception], None]
    """Called with a job that has no embedding, and the error of its calls."""
    loop: asyncio.AbstractEventLoop | None = None
    """The event loop that runs the callbacks; set before the first job."""

    def post(self, callback: Callable[..., None], *arguments: object) -> None:
        """Call the callback, one of the above or a call's own, on the event loop."""
        assert self.loop
        # A closed event loop raises RuntimeError; no call is waiting then.
        with suppress(RuntimeError):
            self.loop.call_soon_threadsafe(callback, *arguments)
