"""The lexical thread: pairs come from the event loop (`LexicalThread.submit`); their scores go back as a future.

It is a thread of its own, so that the words of a small call do not wait behind the tokens of a large one.
"""

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from serving.job_queue import Job, JobQueue, estimated_tokens
from simile.scoring import Lexical

LexicalScores = Mapping[str, NDArray[np.float32]]
"""The scores of a call's pairs, shape ``(P,)``, by the name of the lexical member."""

_NO_ENCODER = -1
"""Encoder index of lexical jobs."""
_MAX_TOKENS_PER_TEXT = 512
"""Upper bound of what one text takes of the admission budget: counting the words of a long text is fast."""


@dataclass(frozen=True, slots=True)
class LexicalWork:
    """The pairs of one call, and what they take of the admission budget until a thread begins on them."""

    texts: Sequence[str]
    pair_P2: NDArray[np.int64]
    jobs: Sequence[Job]


@dataclass
class LexicalThread:
    """Scores pairs by their words."""

    members: Sequence[Lexical]
    """The lexical members of the bundle, possibly none."""
    queue: JobQueue
    """Holds the jobs until the thread begins on them; no inference thread takes them."""

    def __post_init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="lexical")

    def plan(self, texts: Sequence[str], pair_P2: NDArray[np.int64]) -> LexicalWork:
        """Return the work for pairs of these texts; its jobs are not admitted yet."""
        now = perf_counter()
        sizes = [min(_MAX_TOKENS_PER_TEXT, estimated_tokens(text)) for text in texts] if self.members else []
        jobs = [Job(_NO_ENCODER, text, size, now) for text, size in zip(texts, sizes, strict=False)]
        return LexicalWork(texts, pair_P2, jobs)

    def submit(self, work: LexicalWork) -> asyncio.Future[LexicalScores]:
        """Have the admitted work done; return the future of its scores."""
        loop = asyncio.get_running_loop()
        if self.members:
            return loop.run_in_executor(self._thread, self._compute, work)
        nothing: asyncio.Future[LexicalScores] = loop.create_future()
        nothing.set_result({})
        return nothing

    def close(self) -> None:
        """Let the thread end once it is done."""
        self._thread.shutdown(wait=False)

    def _compute(self, work: LexicalWork) -> LexicalScores:
        # The call was given up before its turn.
        if work.jobs and not work.jobs[0].is_waiting:
            return {}
        self.queue.drop(*work.jobs)
        return {member.name: member.cosines(work.texts, work.pair_P2) for member in self.members}
