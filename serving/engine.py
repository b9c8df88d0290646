"""The event loop's side of scoring: admission, shared and cached texts, deadlines, results.

Every method in this module runs on the event loop. Other threads do the work, each kind in a module of its own:

    Engine ── submit ──> Tokenization ── ready ──> JobQueue ── take ──> Inference ── post ──> Engine
       └───── submit ──> LexicalScoring ───────────────────────────────────── post ─────────────┘

A text that is cached, or that another call waits for already, is not computed again. The lexical scores and the
embeddings of one call are computed side by side. Tokenizing and counting the words of little text is done at once.
"""

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from itertools import count
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.cache import Cache, Embedding
from serving.call import Call, Results, Timing
from serving.drift import Drift
from serving.errors import DeadlineError, InvalidRequestError, NotFiniteError, NotReadyError, OverloadedError
from serving.health import Health
from serving.inference import Inference, batch_limits
from serving.job_queue import ANYBODY, Client, Job, JobQueue, estimated_tokens
from serving.lexical import LexicalScoring
from serving.metrics import Metrics
from serving.settings import Settings
from serving.tokenization import Tokenization
from serving.turns import COST_OF_REQUEST, Turns
from simile.scoring import DistinctTexts, Encoder, Lexical, Pairs, Scored, Scorer, Side, cosines, distinct_texts

_MAX_WAITING_S = 1.0
"""Upper bound of the computing time of all calls that wait for an answer, in seconds: calls take turns, so each waits
about as long. At double load, 99 of 100 should be answered after 2.5 s."""
_MIN_WAITING_TOKENS = 8192
"""The smallest admission budget in tokens: eight clients that each send 32 pairs of short texts."""
_MAX_WAITS = 200_000
"""Texts that calls wait for, over all calls. Calls that wait for the same texts need no tokens of the admission budget,
but 300 bytes per text."""
_COST_PER_TEXT = 16
"""What it costs to answer a call, per text, by the measure of `serving.turns`."""
_NO_PAIRS = np.empty((0, 2), dtype=np.int64)

_log = logging.getLogger(__name__)


class Engine:
    """A loaded bundle's scorer, shared by many calls of one event loop; only the inference threads run its encoders."""

    def __init__(
        self, scorer: Scorer, metrics: Metrics, drift: Drift, settings: Settings, *, tokens_per_s: float = 0.0
    ) -> None:
        """Start the engine; ``tokens_per_s`` is the scorer's throughput on full batches, 0 if it is not known yet."""
        self.scorer = scorer
        self._max_waiting_tokens = settings.max_waiting_tokens
        self._metrics = metrics
        self._drift = drift
        self._deadline_s = settings.deadline_s
        self._encoders = [member for member in scorer.members if isinstance(member, Encoder)]
        lexicals = [member for member in scorer.members if isinstance(member, Lexical)]
        self._cache = Cache(settings.cache_bytes)
        self._jobs: dict[tuple[Client, int, Side, str], Job] = {}
        """Jobs that wait or are being computed; another call of the client for the same text and side joins them."""
        self._open: dict[asyncio.Future[None], asyncio.Timeout] = {}
        """The end of each unanswered call, and its deadline."""
        self._turns = Turns()
        self._num_waits = 0
        """Texts that the open calls have waited or wait for."""
        self._is_closing = False
        limits = batch_limits(scorer.runtime)
        self.queue = JobQueue(settings.max_waiting_tokens, limits)
        self._results = Results(self._on_embedded, self._on_failed)
        refuse = settings.long_texts == "refuse"
        self._tokenization = Tokenization(self._encoders, self.queue, self._results, metrics, refuse_long_texts=refuse)
        self._lexical = LexicalScoring(lexicals, self.queue, self._results)
        self.health = Health(
            partial(self.queue.max_age_s, of_encoders=True),
            full_tokens=limits.max_tokens // 2,
            tokens_per_s=tokens_per_s,
        )
        self.queue.max_tokens = self.max_waiting_tokens
        Inference(self._encoders, scorer.runtime, self.queue, self._results, metrics, self.health)
        self._probes = count()
        self._probe: asyncio.Future[Any] | None = None
        metrics.sample(self.queue, self.health)

    @property
    def idle_s(self) -> float:
        """Seconds since the last batch ended; 0 while texts wait or are computed."""
        return 0.0 if self.queue.num_tokens else self.health.idle_s

    @property
    def max_tokens(self) -> int | None:
        """Tokens of the texts of one call, as an encoder counts them; None while the throughput is unknown.

        It is what half of the deadline suffices for, and never less than two texts have.
        """
        if not (tokens_per_s := self.health.full_tokens_per_s):
            return None
        longest = 2 * max(encoder.max_length for encoder in self._encoders)
        return max(longest, int(self._deadline_s / 2 * tokens_per_s / len(self._encoders)))

    @property
    def max_waiting_tokens(self) -> int:
        """The admission budget: the setting, or less where that would take longer than `_MAX_WAITING_S`."""
        if not (tokens_per_s := self.health.full_tokens_per_s):
            return self._max_waiting_tokens
        return min(self._max_waiting_tokens, max(_MIN_WAITING_TOKENS, int(_MAX_WAITING_S * tokens_per_s)))

    async def score(self, pairs: Pairs, timing: Timing | None = None, *, client: Client = ANYBODY) -> Scored:
        """Return the scores of one call's pairs, and fill in its timing.

        The work of a call that is cancelled is dropped if it has not begun.

        Raises:
            NotReadyError: the engine is closing.
            OverloadedError: the admission budget is spent.
            DeadlineError: the call was not answered in time.
            NotFiniteError: a score is NaN or infinite.
            InvalidRequestError: a text is too long, and long texts are refused.
        """
        distinct = distinct_texts(pairs, have_sides=self.scorer.has_sides)
        call = await self._run(distinct, timing, client)
        embeddings = iter(call.embeddings())
        scores = {
            member.name: call.lexical_scores[member.name]
            if isinstance(member, Lexical)
            else cosines(next(embeddings), call.pair_P2)
            for member in self.scorer.members
        }
        with self._metrics.stage("combine"):
            score_P = self.scorer.combine(scores)
        if not np.isfinite(score_P).all():
            raise NotFiniteError("a score is not finite: this precision is too low for these texts")
        scored = Scored(score_P, scores, len(call.texts), sum(call.token_counts), sum(call.is_cut), call.num_unknown)
        self._metrics.count_scored(scored)
        self._drift.observe("scores", score_P.tolist())
        return scored

    async def embed(
        self, texts: Sequence[str], timing: Timing | None = None, *, side: Side = 0, client: Client = ANYBODY
    ) -> tuple[NDArray[np.float32], int, int]:
        """Return the ensemble's embeddings of one call's texts, their number of tokens, and that of the unknown ones.

        Where the scorer `Scorer.has_sides`, ``side`` says whether they are the first or the second texts of pairs.

        Raises:
            InvalidRequestError: a member has no embeddings. The other errors are those of `score`.
        """
        if len(self._encoders) < len(self.scorer.members):
            raise InvalidRequestError("this bundle has a lexical member, which has no embeddings")
        rows = {text: row for row, text in enumerate(dict.fromkeys(texts))}
        distinct = DistinctTexts(list(rows), [side] * len(rows), _NO_PAIRS)
        call = await self._run(distinct, timing, client)
        embedding_ND = self.scorer.join(call.embeddings())[[rows[text] for text in texts]]
        return embedding_ND, sum(call.token_counts), call.num_unknown

    def probe(self) -> None:
        """Compute a text that is not cached, to find out whether batches succeed again; one at a time."""
        if self._probe is None or self._probe.done():
            text = f"health check {next(self._probes)}"
            self._probe = asyncio.gather(self.score([(text, text)]), return_exceptions=True)

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
        self._tokenization.threads.shutdown(wait=False)
        self._lexical.threads.shutdown(wait=False)

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

    async def _run(self, distinct: DistinctTexts, timing: Timing | None, client: Client) -> Call:
        """Return the call of these texts with all its embeddings, and the lexical scores of its pairs."""
        async with self._answering():
            self._results.loop = asyncio.get_running_loop()
            call = Call(distinct, len(self._encoders))
            self._lexical.plan(call)
            new = self._join(call, client)
            try:
                self._tokenization.submit(new)
                self._lexical.submit(call)
                if call.num_missing:
                    await call.done
                    # Calls that wait for the same texts end together.
                    await self._turns.next(COST_OF_REQUEST + _COST_PER_TEXT * len(call.texts))
            finally:
                self._leave(call)
        self._metrics.tokens.inc(sum(call.token_counts))
        self._metrics.unknown_tokens.inc(call.num_unknown)
        self._metrics.truncated_texts.inc(sum(call.is_cut))
        self._drift.observe("tokens", call.token_counts)
        if timing:
            call.fill_in(timing)
        return call

    def _join(self, call: Call, client: Client) -> list[Job]:
        """Fill in the cached texts, have the call wait for the others, and return the jobs that are new."""
        now = perf_counter()
        waits: list[tuple[Job, int]] = []
        new: list[Job] = []
        for number, encoder in enumerate(self._encoders):
            for row, (text, side) in enumerate(zip(call.texts, call.sides, strict=True)):
                if (embedding := self._cache.get(number, side if encoder.has_sides else 0, text)) is not None:
                    call.fill(number, row, embedding)
                    continue
                if (job := self._jobs.get((client, number, side, text))) is None:
                    job = Job(number, side, text, min(encoder.max_length, estimated_tokens(text)), now)
                    new.append(job)
                waits.append((job, row))
        self._require_answerable(new)
        if self._num_waits and self._num_waits + len(waits) > _MAX_WAITS:
            raise OverloadedError(f"{self._num_waits} texts are waited for already, try again later", retry_after_s=1)
        self.queue.max_tokens = self.max_waiting_tokens
        # All work of the call is admitted at once, so that an idle engine takes any call.
        if (jobs := new + call.lexical_jobs) and not self.queue.admit(jobs, client):
            num_tokens = self.queue.held_tokens
            tokens_per_s = self.health.full_tokens_per_s or self.health.tokens_per_s
            seconds = math.ceil(num_tokens / tokens_per_s) if tokens_per_s else 1
            raise OverloadedError(
                f"{num_tokens} tokens are waiting already, try again later", retry_after_s=max(1, seconds)
            )
        for job, row in waits:
            call.wait_for(job, row)
        self._num_waits += len(waits)
        for job in new:
            self._jobs[client, job.encoder, job.side, job.text] = job
        num_cached = len(self._encoders) * len(call.texts) - len(waits)
        self._metrics.count_texts(computed=len(new), cached=num_cached, shared=len(waits) - len(new))
        return new

    def _require_answerable(self, jobs: Sequence[Job]) -> None:
        """Refuse a call that could not be answered in time."""
        if (max_tokens := self.max_tokens) is None:
            return
        num_tokens = self.queue.corrected(sum(job.num_tokens for job in jobs)) // len(self._encoders)
        if num_tokens > max_tokens:
            got = f"got texts of about {num_tokens} tokens, which take more than half of {self._deadline_s:g} s"
            raise InvalidRequestError(f"{got}, need at most {max_tokens} tokens per request")

    def _leave(self, call: Call) -> None:
        """Release the jobs that no other call needs."""
        self._num_waits -= len(call.jobs)
        for job in call.jobs:
            job.rows.pop(call, None)
        unneeded = [job for job in call.jobs if not job.rows]
        for job in unneeded:
            if job.is_waiting:
                self._forget(job)
        self.queue.release(call.lexical_jobs + unneeded)

    def _forget(self, job: Job) -> None:
        key = (job.client, job.encoder, job.side, job.text)
        if self._jobs.get(key) is job:
            del self._jobs[key]

    def _on_embedded(self, jobs: Sequence[Job], embedding_BD: NDArray[np.float32]) -> None:
        is_finite_B = np.asarray(np.isfinite(embedding_BD).all(axis=1))
        for job, vector_D, is_finite in zip(jobs, embedding_BD, is_finite_B, strict=True):
            if not is_finite:
                _log.error("an embedding is not finite on %s", self.scorer.runtime)
                error = NotFiniteError("an embedding is not finite: this precision is too low for this text")
                self._on_failed(job, error)
                continue
            self._forget(job)
            embedding = Embedding(vector_D, job.num_tokens, job.is_cut, job.num_unknown)
            for call in job.rows:
                call.receive(job, embedding)
            side: Side = job.side if self._encoders[job.encoder].has_sides else 0
            self._cache.put(job.encoder, side, job.text, embedding)

    def _on_failed(self, job: Job, error: Exception) -> None:
        self._forget(job)
        self.queue.release([job])
        for call in job.rows:
            call.fail(error)
