"""The event loop's side of scoring: admission, shared and cached texts, deadlines, results.

Every method in this module runs on the event loop. The work is done by other threads, each in a module of its own:

    Engine ── submit ──> Tokenization ── ready ──> JobQueue ── take ──> Inference ── Results ──> Engine
       └───── submit ──> LexicalThread ─────────────────────────────────────────── a future ──────┘

A text that is cached, or that another call waits for already, is not computed again. The lexical scores and the
embeddings of one call are computed side by side.
"""

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.cache import Cache, Embedding
from serving.call import Call, Embedded, Timing
from serving.drift import Drift
from serving.errors import DeadlineError, InvalidRequestError, NotFiniteError, NotReadyError, OverloadedError
from serving.inference import Inference, batch_limits
from serving.job_queue import Job, JobQueue, estimated_tokens
from serving.lexical import LexicalScores, LexicalThread
from serving.metrics import Metrics
from serving.results import Results
from serving.tokenization import Tokenization
from simile.scoring import Encoder, Lexical, Pairs, Scored, Scorer, cosines, distinct_texts

_NO_PAIRS = np.empty((0, 2), dtype=np.int64)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EngineLimits:
    """Limits of an engine's memory, waiting work and time."""

    max_waiting_tokens: int
    """Admission budget: tokens that wait and are not yet begun. An idle engine takes any call."""
    deadline_s: float
    """Seconds from a call to its answer."""
    cache_bytes: int
    """Memory for cached embeddings."""
    refuse_long_texts: bool = False
    """Refuse a text that has more tokens than an encoder reads, instead of cutting it."""


class Engine:
    """A scorer shared by many calls of one event loop.

    Args:
        scorer: the loaded bundle; only the inference threads run its encoders.
        metrics: records stages, batches, texts and scores.
        drift: records scores and lengths.
        limits: its limits.
    """

    def __init__(self, scorer: Scorer, metrics: Metrics, drift: Drift, limits: EngineLimits) -> None:
        self.scorer = scorer
        self._metrics = metrics
        self._drift = drift
        self._deadline_s = limits.deadline_s
        self._encoders = [member for member in scorer.members if isinstance(member, Encoder)]
        self._cache = Cache(limits.cache_bytes)
        self._jobs: dict[tuple[int, str], Job] = {}
        """Jobs that wait or are being computed; another call for the same text joins them."""
        self._open: dict[asyncio.Future[None], asyncio.Timeout] = {}
        """The end of each unanswered call, and its deadline."""
        self._is_closing = False
        self.queue = JobQueue(limits.max_waiting_tokens, batch_limits(scorer.runtime))
        self._results = Results(self._on_embedded, self._on_failed)
        self._tokenization = Tokenization(self._encoders, self.queue, self._results, metrics, limits.refuse_long_texts)
        self._lexical = LexicalThread([member for member in scorer.members if isinstance(member, Lexical)], self.queue)
        self._inference = Inference(self._encoders, scorer.runtime, self.queue, self._results, metrics)
        metrics.sample_queue(self.queue)

    async def score(self, pairs: Pairs, timing: Timing | None = None) -> Scored:
        """Return the scores of one call's pairs. Work of a call that is cancelled is dropped if it has not begun.

        Args:
            pairs: the texts.
            timing: receives the seconds of the call's stages.

        Raises:
            NotReadyError: the engine is closing.
            OverloadedError: the admission budget is spent.
            DeadlineError: the call was not answered in time.
            NotFiniteError: a score is NaN or infinite.
            InvalidRequestError: a text is too long, and long texts are refused.
        """
        texts, pair_P2 = distinct_texts(pairs)
        call, lexical_scores = await self._run(texts, pair_P2, timing)
        embeddings = iter(call.embeddings)
        scores = {
            member.name: lexical_scores[member.name]
            if isinstance(member, Lexical)
            else cosines(next(embeddings), pair_P2)
            for member in self.scorer.members
        }
        with self._metrics.stage("combine"):
            score_P = self.scorer.combine(scores)
        if not np.isfinite(score_P).all():
            raise NotFiniteError("a score is not finite: this precision is too low for these texts")
        scored = Scored(score_P, scores, len(texts), call.num_tokens, call.num_cut)
        self._metrics.count_scored(scored)
        self._drift.observe("scores", score_P.tolist())
        return scored

    async def embed(self, texts: Sequence[str], timing: Timing | None = None) -> Embedded:
        """Return the ensemble's embeddings of one call's texts; raises the errors of `score`.

        Raises:
            InvalidRequestError: a member has no embeddings.
        """
        if len(self._encoders) < len(self.scorer.members):
            raise InvalidRequestError("this bundle has a lexical member, which has no embeddings")
        rows = {text: row for row, text in enumerate(dict.fromkeys(texts))}
        call, _ = await self._run(list(rows), _NO_PAIRS, timing)
        joined_ND = self.scorer.join(call.embeddings)
        return Embedded(joined_ND[[rows[text] for text in texts]], call.num_tokens, call.num_cut)

    async def close(self, timeout_s: float) -> None:
        """Refuse new calls, let the waiting ones finish, and refuse those not finished after ``timeout_s``."""
        self._is_closing = True
        if self._open:
            await asyncio.wait(self._open, timeout=timeout_s)
        for deadline in self._open.values():
            # A deadline that expires at this very moment cannot be moved.
            if not deadline.expired():
                deadline.reschedule(0)
        self.queue.close()
        self._tokenization.close()
        self._lexical.close()

    @asynccontextmanager
    async def _answering(self) -> AsyncIterator[None]:
        """Accept a call unless the engine is closing, and end it at its deadline."""
        if self._is_closing:
            raise NotReadyError("the server is shutting down")
        done = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(self._deadline_s) as self._open[done]:
                yield
        except TimeoutError:
            if self._is_closing:
                raise NotReadyError("the server is shutting down") from None
            raise DeadlineError(f"the request was not answered within {self._deadline_s:g} s") from None
        finally:
            del self._open[done]
            done.set_result(None)

    async def _run(
        self, texts: Sequence[str], pair_P2: NDArray[np.int64], timing: Timing | None
    ) -> tuple[Call, LexicalScores]:
        """Return the call of these distinct texts with all its embeddings, and the lexical scores of its pairs."""
        async with self._answering():
            self._results.loop = asyncio.get_running_loop()
            call = Call.start(len(texts), [encoder.dimension for encoder in self._encoders])
            lexical = self._lexical.plan(texts, pair_P2)
            new = self._join(call, texts, lexical.jobs)
            try:
                lexical_scores = self._lexical.submit(lexical)
                self._tokenization.submit(new)
                futures: tuple[asyncio.Future[Any], ...] = (call.done, lexical_scores)
                # The first failure ends the wait.
                await asyncio.gather(*(future for future in futures if not future.done()))
            finally:
                self._leave(call)
                self.queue.drop(*lexical.jobs)
        self._metrics.count_tokens(call.num_tokens, call.num_cut)
        self._drift.observe("tokens", call.token_N.tolist())
        if timing:
            call.fill_in(timing)
        return call, lexical_scores.result()

    def _join(self, call: Call, texts: Sequence[str], lexical_jobs: Sequence[Job]) -> list[Job]:
        """Fill in the cached texts, have the call wait for the others, and return the jobs that are new.

        Raises:
            OverloadedError: the new jobs and the lexical ones do not fit the budget; nothing was changed.
        """
        now = perf_counter()
        shared: list[tuple[Job, int]] = []
        new: list[tuple[Job, int]] = []
        num_cached = 0
        for number, encoder in enumerate(self._encoders):
            for row, text in enumerate(texts):
                if (embedding := self._cache.get(number, text)) is not None:
                    call.fill(number, row, embedding)
                    num_cached += 1
                elif (job := self._jobs.get((number, text))) is not None:
                    shared.append((job, row))
                else:
                    new.append((Job(number, text, min(encoder.max_length, estimated_tokens(text)), now), row))
        jobs = [job for job, _ in new]
        self._admit([*jobs, *lexical_jobs])
        for job, row in shared + new:
            call.wait_for(job, row)
        for job in jobs:
            self._jobs[job.encoder, job.text] = job
        if not call.jobs:
            call.done.set_result(None)
        self._metrics.count_texts(computed=len(jobs), cached=num_cached, shared=len(shared))
        return jobs

    def _admit(self, jobs: Sequence[Job]) -> None:
        """Admit all work of one call at once, so that an idle engine takes any call.

        Raises:
            OverloadedError: the jobs do not fit the budget; nothing was changed.
        """
        if jobs and not self.queue.admit(jobs):
            num_tokens, tokens_per_s = self.queue.num_tokens, self._inference.tokens_per_s
            seconds = math.ceil(num_tokens / tokens_per_s) if tokens_per_s else 1
            raise OverloadedError(
                f"{num_tokens} tokens are waiting already, try again later", retry_after_s=max(1, seconds)
            )

    def _leave(self, call: Call) -> None:
        """Drop the jobs that no other call waits for; a call that was answered has none left."""
        for job in call.jobs:
            job.rows.pop(call, None)
            if not job.rows and job.is_waiting:
                self.queue.drop(job)
                self._forget(job)

    def _forget(self, job: Job) -> None:
        if self._jobs.get((job.encoder, job.text)) is job:
            del self._jobs[job.encoder, job.text]

    def _on_embedded(self, jobs: Sequence[Job], embedding_BD: NDArray[np.float32]) -> None:
        is_finite_B = np.asarray(np.isfinite(embedding_BD).all(axis=1))
        for job, vector_D, is_finite in zip(jobs, embedding_BD, is_finite_B, strict=True):
            if not is_finite:
                _log.error("an embedding is not finite on %s", self.scorer.runtime)
                error = NotFiniteError("an embedding is not finite: this precision is too low for this text")
                self._on_failed(job, error)
                continue
            self._forget(job)
            embedding = Embedding(vector_D, job.num_tokens, job.is_cut)
            for call in job.rows:
                call.receive(job, embedding)
            self._cache.put(job.encoder, job.text, embedding)

    def _on_failed(self, job: Job, error: Exception) -> None:
        self._forget(job)
        self.queue.drop(job)
        for call in job.rows:
            if not call.done.done():
                call.done.set_exception(error)
