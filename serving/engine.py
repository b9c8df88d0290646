"""Calls in, embeddings and scores out: what every route shares.

A text that is cached, or that another call waits for already, is not computed again. The others are tokenized, in
threads where there is much of it, and wait (`serving.waiting`) for the threads that run the model, as many as its
runtime says. Such a thread takes what is there as soon as it is free: an idle device never waits, so texts share a
batch only under load. While they compute, the event loop answers what the batches before have brought.
"""

import asyncio
import logging
import math
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from serving.cache import Cache, Embedding
from serving.call import Call, Embedded, Timing
from serving.drift import Drift
from serving.errors import DeadlineError, InvalidRequestError, NotFiniteError, NotReadyError, OverloadedError
from serving.metrics import Metrics
from serving.waiting import Job, Waiting
from simile.hardware import usable_cores
from simile.scoring import Encoder, Lexical, Pairs, Scored, Scorer, cosines, distinct_texts

_TOKENIZED_AT_ONCE = 64
"""Texts: the first of a long call are computed while the others are still being tokenized."""
_CHARACTERS_INLINE = 2048
"""Less text than this is tokenized sooner than a thread is woken for it."""
_CHARACTERS_PER_TOKEN = 4
"""Of English, about: for the budget, until a text is tokenized."""
_NO_ENCODER = -1
"""Of texts whose words are counted."""
_MOST_LEXICAL = 512
"""Tokens that such a text counts as: words are counted quickly, and a long text keeps nobody waiting."""

_BATCHES = {
    "CPU": {"batch_tokens": 512, "most_padding": 128},
    "OpenVINO": {"batch_tokens": 2048, "most_padding": 32},
    "CUDA": {"batch_tokens": 32768, "most_padding": 4096},
}
"""Padded tokens of a batch, and how much padding costs as much as to start another. On a CPU: what a core's cache
holds, and a graph that leaves padding out of all but attention. For a GPU: not measured yet."""

_log = logging.getLogger(__name__)


class Engine:
    """A scorer that many calls share, all in one event loop.

    Args:
        scorer: its encoders are run by the inference threads alone.
        metrics: told of stages, batches, texts and scores.
        drift: told of scores and lengths.
        max_waiting_tokens: admission budget; what is begun no longer counts. An idle engine takes any call.
        deadline_s: seconds from a call to its answer.
        cache_bytes: of embeddings to keep.
        refuse_long_texts: in place of cutting them to the tokens that an encoder reads.
    """

    def __init__(
        self,
        scorer: Scorer,
        metrics: Metrics,
        drift: Drift,
        *,
        max_waiting_tokens: int,
        deadline_s: float,
        cache_bytes: int,
        refuse_long_texts: bool = False,
    ) -> None:
        self.scorer = scorer
        self._metrics = metrics
        self._drift = drift
        self._deadline_s = deadline_s
        self._refuse_long_texts = refuse_long_texts
        self._encoders = [member for member in scorer.members if isinstance(member, Encoder)]
        self._lexicals = [member for member in scorer.members if isinstance(member, Lexical)]
        self._cache = Cache(cache_bytes)
        self._jobs: dict[tuple[int, str], Job] = {}
        """Begun or waiting: a second call for the same text joins."""
        self._open: dict[asyncio.Future[None], asyncio.Timeout] = {}
        """Calls that are being answered: each one's end, and its deadline."""
        self._is_closing = False
        self._tokens_per_s = 0.0
        provider = scorer.runtime.provider.removesuffix("ExecutionProvider")
        self.waiting = Waiting(
            max_tokens=max_waiting_tokens, least_share=scorer.runtime.few_tokens, **_BATCHES[provider]
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._helpers = ThreadPoolExecutor(usable_cores(), thread_name_prefix="tokenizer")
        # Of its own: the words of a small call do not wait behind the tokens of a large one.
        self._lexical_helpers = ThreadPoolExecutor(1, thread_name_prefix="lexical")
        # A daemon: an engine that was never closed must not keep its process alive.
        for _ in range(scorer.runtime.batches_at_once):
            threading.Thread(target=self._infer, name="inference", daemon=True).start()
        metrics.sample_waiting(self.waiting)

    async def score(self, pairs: Pairs, timing: Timing | None = None) -> Scored:
        """Return the scores of one call's pairs. What was given up before its turn is not computed.

        Args:
            pairs: the texts.
            timing: filled in.

        Raises:
            NotReadyError: the engine is closing.
            OverloadedError: the budget is spent.
            DeadlineError: there was no answer in time.
            NotFiniteError: a score is no number.
            InvalidRequestError: a text is too long, and such are refused.
        """
        texts, pair_P2 = distinct_texts(pairs)
        async with self._answering():
            by_words = await self._words(texts, pair_P2)
            call = await self._embedded(texts, timing)
        by_encoder = iter(call.embeddings)
        scores = {
            member.name: by_words[member.name] if isinstance(member, Lexical) else cosines(next(by_encoder), pair_P2)
            for member in self.scorer.members
        }
        with self._metrics.stage("combine"):
            score_P = self.scorer.combine(scores)
            scored = Scored(score_P, scores, len(texts), int(call.token_N.sum()), int(call.is_cut_N.sum()))
        if not np.isfinite(score_P).all():
            raise NotFiniteError("a score is not finite: this precision is too low for these texts")
        self._metrics.count_scored(scored)
        self._drift.observe("scores", score_P.tolist())
        return scored

    async def embed(self, texts: Sequence[str], timing: Timing | None = None) -> Embedded:
        """Return the ensemble's embeddings of one call's texts; the errors are those of `score`.

        Raises:
            InvalidRequestError: a member has no embeddings.
        """
        if len(self._encoders) < len(self.scorer.members):
            raise InvalidRequestError("this bundle has a lexical member, which has no embeddings")
        rows = {text: row for row, text in enumerate(dict.fromkeys(texts))}
        async with self._answering():
            call = await self._embedded(list(rows), timing)
        joined_ND = self.scorer.join(call.embeddings)
        row_N = [rows[text] for text in texts]
        return Embedded(joined_ND[row_N], int(call.token_N.sum()), int(call.is_cut_N.sum()))

    async def close(self, timeout_s: float) -> None:
        """Refuse new calls, let those that wait be answered, and after ``timeout_s`` send the rest away."""
        self._is_closing = True
        if self._open:
            await asyncio.wait(self._open, timeout=timeout_s)
        for deadline in self._open.values():
            # One that is due in this very moment cannot be set again.
            if not deadline.expired():
                deadline.reschedule(0)
        self.waiting.close()
        self._helpers.shutdown(wait=False)
        self._lexical_helpers.shutdown(wait=False)

    @asynccontextmanager
    async def _answering(self) -> AsyncIterator[None]:
        """Take a call, unless the engine is closing, and end it at its deadline."""
        if self._is_closing:
            raise NotReadyError("the server is about to end")
        done = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(self._deadline_s) as self._open[done]:
                yield
        except TimeoutError:
            if self._is_closing:
                raise NotReadyError("the server is about to end") from None
            raise DeadlineError(f"not answered within {self._deadline_s:g} s") from None
        finally:
            del self._open[done]
            done.set_result(None)

    async def _words(self, texts: Sequence[str], pair_P2: NDArray[np.int64]) -> Mapping[str, NDArray[np.float32]]:
        """Return the pairs' scores by each lexical member."""
        if not self._lexicals:
            return {}
        now = perf_counter()
        jobs = [Job(_NO_ENCODER, text, min(_MOST_LEXICAL, _about(text)), now) for text in texts]
        self._admit(jobs)

        def begin() -> None:
            for job in jobs:
                self.waiting.drop(job)

        def compute() -> Mapping[str, NDArray[np.float32]]:
            begin()
            return {member.name: member.cosines(texts, pair_P2) for member in self._lexicals}

        try:
            return await asyncio.get_running_loop().run_in_executor(self._lexical_helpers, compute)
        finally:
            begin()

    async def _embedded(self, texts: Sequence[str], timing: Timing | None) -> Call:
        """Return the call of these texts, which are all different, once it has all its embeddings."""
        self._loop = asyncio.get_running_loop()
        call = Call(
            [np.empty((len(texts), encoder.dimension), dtype=np.float32) for encoder in self._encoders],
            np.zeros(len(texts), dtype=np.int64),
            np.zeros(len(texts), dtype=bool),
            self._loop.create_future(),
        )
        new = self._join(call, texts)
        if call.num_missing:
            await self._filled(call, new)
        tokens = call.token_N.tolist()
        self._metrics.count_tokens(sum(tokens), int(call.is_cut_N.sum()))
        self._drift.observe("tokens", tokens)
        if timing:
            call.tell(timing)
        return call

    async def _filled(self, call: Call, new: Sequence[Job]) -> None:
        """Have the new jobs computed, and wait until the call has all that it waits for."""
        try:
            is_little = sum(len(job.text) for job in new) <= _CHARACTERS_INLINE
            for jobs in _chunks(new):
                if is_little:
                    self._tokenize(jobs)
                else:
                    self._helpers.submit(self._tokenize, jobs)
            await call.done
        finally:
            self._leave(call)

    def _join(self, call: Call, texts: Sequence[str]) -> list[Job]:
        """Fill in what is cached, have the call wait for the rest, and return the jobs that are new.

        Raises:
            OverloadedError: there is no room for these; nothing was changed.
        """
        now = perf_counter()
        known: list[tuple[Job, int]] = []
        new: list[tuple[Job, int]] = []
        num_cached = 0
        for number, encoder in enumerate(self._encoders):
            for row, text in enumerate(texts):
                if (found := self._cache.get(number, text)) is not None:
                    call.fill(number, row, found)
                    num_cached += 1
                elif (job := self._jobs.get((number, text))) is not None:
                    known.append((job, row))
                else:
                    new.append((Job(number, text, min(encoder.max_length, _about(text)), now), row))
        jobs = [job for job, _ in new]
        self._admit(jobs)
        for job, row in known + new:
            job.rows[call] = row
            call.jobs.append(job)
        for job in jobs:
            self._jobs[job.encoder, job.text] = job
        call.num_missing = len(call.jobs)
        self._metrics.count_texts(computed=len(jobs), cached=num_cached, shared=len(known))
        return jobs

    def _admit(self, jobs: Sequence[Job]) -> None:
        """Count the jobs of one call in.

        Raises:
            OverloadedError: there is no room for these; nothing was changed.
        """
        if jobs and not self.waiting.admit(jobs):
            waiting = self.waiting.num_tokens
            seconds = math.ceil(waiting / self._tokens_per_s) if self._tokens_per_s else 1
            raise OverloadedError(f"{waiting} tokens wait already, try again later", retry_after_s=max(1, seconds))

    def _leave(self, call: Call) -> None:
        """Give up the jobs that no other call wants; those of a call that has its answer are all gone already."""
        for job in call.jobs:
            job.rows.pop(call, None)
            if not job.rows and job.is_waiting:
                self.waiting.drop(job)
                self._forget(job)

    def _forget(self, job: Job) -> None:
        if self._jobs.get((job.encoder, job.text)) is job:
            del self._jobs[job.encoder, job.text]

    def _tokenize(self, jobs: Sequence[Job]) -> None:
        """Give the jobs, all of one encoder, their tokens, and let them be taken."""
        # Those that were given up meanwhile were taken out of the budget: nothing else bounds the work on them.
        if not (jobs := [job for job in jobs if job.is_waiting]):
            return
        encoder = self._encoders[jobs[0].encoder]
        try:
            with self._metrics.stage("tokenize"):
                tokens = encoder.tokenize([job.text for job in jobs])
        # Whatever a text does to the tokenizer must fail its own calls and no other. (Rust's panics are no Exception.)
        except BaseException as error:  # noqa: BLE001
            if len(jobs) > 1:
                for job in jobs:
                    self._tokenize([job])
            else:
                self._tell(self._fail, jobs[0], error if isinstance(error, Exception) else RuntimeError(repr(error)))
            return
        for job, text in zip(jobs, tokens, strict=True):
            job.ids, job.is_cut = text.ids, text.is_cut
        if self._refuse_long_texts and (long := [job for job in jobs if job.is_cut]):
            need = f"need at most {encoder.max_length} tokens"
            for job in long:
                self._tell(self._fail, job, InvalidRequestError(f"got a text of {len(job.text)} characters, {need}"))
        self.waiting.ready([job for job in jobs if not (job.is_cut and self._refuse_long_texts)])

    def _infer(self) -> None:
        """Run the model, until `close`: an inference thread."""
        while jobs := self.waiting.take():
            start = perf_counter()
            self._metrics.stage_seconds.labels("queue").observe(start - min(job.arrived for job in jobs))
            self._compute(jobs)
            seconds = perf_counter() - start
            num_tokens = sum(job.tokens for job in jobs)
            self._metrics.count_batch(len(jobs), num_tokens, jobs[0].tokens * len(jobs), seconds)
            # Of all threads: whoever asks, asks because all are busy.
            rate = num_tokens / max(seconds, 1e-9) * self.scorer.runtime.batches_at_once
            self._tokens_per_s += (rate - self._tokens_per_s) * (0.1 if self._tokens_per_s else 1)

    def _compute(self, jobs: Sequence[Job]) -> None:
        encoder = self._encoders[jobs[0].encoder]
        try:
            embedding_BD = encoder.embed_batch([job.ids for job in jobs if job.ids is not None])
        # Whatever a text does to the model must fail its own calls and no other.
        except Exception as error:  # noqa: BLE001
            if len(jobs) > 1:
                _log.warning("a batch of %d texts failed (%s), computing each alone", len(jobs), error)
                for job in jobs:
                    self._compute([job])
            else:
                self._tell(self._fail, jobs[0], error)
        else:
            self._tell(self._answer, jobs, embedding_BD)

    def _tell(self, function: Callable[..., None], *arguments: object) -> None:
        """Have the event loop call the function, from whichever thread."""
        try:
            assert self._loop
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:
            pass  # The loop is closed: nobody waits.

    def _answer(self, jobs: Sequence[Job], embedding_BD: NDArray[np.float32]) -> None:
        is_finite_B = np.asarray(np.isfinite(embedding_BD).all(axis=1))
        for job, vector_D, is_finite in zip(jobs, embedding_BD, is_finite_B, strict=True):
            if not is_finite:
                _log.error("an embedding is not finite on %s", self.scorer.runtime)
                self._fail(job, NotFiniteError("an embedding is not finite: this precision is too low for this text"))
                continue
            self._forget(job)
            found = Embedding(vector_D, job.tokens, job.is_cut)
            for call, row in job.rows.items():
                call.fill(job.encoder, row, found)
                call.num_missing -= 1
                if not call.num_missing and not call.done.done():
                    call.done.set_result(None)
            self._cache.put(job.encoder, job.text, found)

    def _fail(self, job: Job, error: Exception) -> None:
        self._forget(job)
        self.waiting.drop(job)
        for call in job.rows:
            if not call.done.done():
                call.done.set_exception(error)


def _about(text: str) -> int:
    """Return how many tokens the text may have."""
    return len(text) // _CHARACTERS_PER_TOKEN + 2


def _chunks(jobs: Sequence[Job]) -> Iterator[Sequence[Job]]:
    """Yield the jobs some at a time, each of one encoder."""
    start = 0
    for end in range(1, len(jobs) + 1):
        if end == len(jobs) or jobs[end].encoder != jobs[start].encoder or end - start == _TOKENIZED_AT_ONCE:
            yield jobs[start:end]
            start = end
