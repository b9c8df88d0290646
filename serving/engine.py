"""The queue in front of the model: one inference thread, and whatever waits is computed in one call.

Work-conserving: a request that finds the thread idle starts at once, and those that come meanwhile are the next call.
So requests merge only under load, and nobody waits for a timer.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from serving.errors import DeadlineError, NotFiniteError, NotReadyError, OverloadedError
from serving.merging import Pairs, score_merged
from serving.metrics import Metrics
from simile.scoring import Scored, Scorer

_MERGED_PAIRS = 256
"""Requests are merged up to here. Several of the encoder's batches already: more would not fill the device better, but
make those wait that came for little."""

_log = logging.getLogger(__name__)


@dataclass(eq=False, slots=True)
class _Waiting:
    pairs: Pairs
    answer: asyncio.Future[Scored]
    arrived: float
    is_queued: bool = True


class Engine:
    """A scorer that many requests share. Belongs to the event loop that first scores with it.

    Args:
        scorer: used by the inference thread alone.
        metrics: told of stages, batches and scores.
        max_waiting_pairs: admission budget; pairs that the thread has begun no longer count.
        deadline_s: seconds from `score` to its answer.
    """

    def __init__(self, scorer: Scorer, metrics: Metrics, *, max_waiting_pairs: int, deadline_s: float) -> None:
        self.scorer = scorer
        self._metrics = metrics
        self._max_waiting_pairs = max_waiting_pairs
        self._deadline_s = deadline_s
        self._waiting: deque[_Waiting] = deque()
        self._running: list[_Waiting] = []
        self.num_waiting_pairs = 0
        """Pairs admitted and not yet begun."""
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="inference")
        self._working: asyncio.Task[None] | None = None
        self._is_closing = False
        metrics.sample_waiting_pairs(lambda: self.num_waiting_pairs)

    async def score(self, pairs: Pairs) -> Scored:
        """Return the scores of one request's pairs. Cancelled before its turn, it is never computed.

        Raises:
            NotReadyError: the engine is closing.
            OverloadedError: the budget is spent.
            DeadlineError: there was no answer in time.
            NotFiniteError: a score is no number.
        """
        if self._is_closing:
            raise NotReadyError("the server is about to end")
        if self.num_waiting_pairs + len(pairs) > self._max_waiting_pairs:
            raise OverloadedError(f"{self.num_waiting_pairs} pairs wait already, try again later")
        request = _Waiting(pairs, asyncio.get_running_loop().create_future(), perf_counter())
        self._waiting.append(request)
        self.num_waiting_pairs += len(pairs)
        if self._working is None or self._working.done():
            self._working = asyncio.create_task(self._work())
        try:
            async with asyncio.timeout(self._deadline_s):
                return await request.answer
        except TimeoutError:
            raise DeadlineError(f"not answered within {self._deadline_s:g} s") from None
        finally:
            if request.is_queued:
                self._waiting.remove(request)
                self.num_waiting_pairs -= len(pairs)

    async def close(self, timeout_s: float) -> None:
        """Refuse new requests, let those that wait be answered, and after ``timeout_s`` send the rest away."""
        self._is_closing = True
        if self._working:
            await asyncio.wait({self._working}, timeout=timeout_s)
        while self._running:
            for request in self._running:
                if not request.answer.done():
                    request.answer.set_exception(NotReadyError("the server is about to end"))
            self._running = self._take()
        self._thread.shutdown(wait=False)

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while requests := self._take():
            self._running = requests
            pairs = [request.pairs for request in requests]
            results = await loop.run_in_executor(self._thread, self._compute, pairs)
            self._running = []
            for request, result in zip(requests, results, strict=True):
                if request.answer.done():
                    continue
                if isinstance(result, Exception):
                    request.answer.set_exception(result)
                else:
                    request.answer.set_result(result)

    def _take(self) -> list[_Waiting]:
        """Remove from the queue what the next call computes: the oldest request, and as many more as may be merged."""
        taken: list[_Waiting] = []
        num_pairs = 0
        while self._waiting and (not taken or num_pairs + len(self._waiting[0].pairs) <= _MERGED_PAIRS):
            request = self._waiting.popleft()
            request.is_queued = False
            num_pairs += len(request.pairs)
            self._metrics.stage_seconds.labels("queue").observe(perf_counter() - request.arrived)
            taken.append(request)
        self.num_waiting_pairs -= num_pairs
        return taken

    def _compute(self, requests: Sequence[Pairs]) -> list[Scored | Exception]:
        try:
            return [self._checked(scored) for scored in score_merged(self.scorer, requests, self._metrics)]
        # Whatever a text does to the model must fail its own request and no other: alone, each gets its own error.
        except Exception as error:  # noqa: BLE001
            if len(requests) == 1:
                return [error]
            _log.warning("a merged call failed (%s), computing its %d requests alone", error, len(requests))
            return [result for request in requests for result in self._compute([request])]

    def _checked(self, scored: Scored) -> Scored | Exception:
        if not np.isfinite(scored.score_P).all():
            _log.error("scores are not finite on %s", self.scorer.runtime)
            return NotFiniteError("a score is not finite: this precision is too low for these texts")
        self._metrics.count_scored(scored)
        return scored
