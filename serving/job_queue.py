"""The queue of jobs that wait for the model, and the choice of those that form the next batch. Runs on any thread.

Padding costs as much as text, and starting a batch has a cost of its own. So texts of similar length share a batch,
and those of neighbouring lengths join where padding them is cheaper than a batch of their own. The order follows
start-time fair queueing (Goyal, Vin and Cheng 1996) over tokens, first among clients, then among the calls of a client:
neither does a client wait for all that another has sent, nor a short call for all of a long one.
"""

import math
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simile.scoring import Side

_FIRST_LENGTH = 8
_LENGTH_RATIO = 1.25
"""Lengths of one class differ by less than this factor: an eighth of padding on average."""
_CHARACTERS_PER_TOKEN = 4
"""About what English text has."""
_LEARNED_TOKENS = 2000
"""Tokens that outweigh all that was learned before about the estimates."""
_SHARE_OF_FREE = 3
"""A client with a key may have this many times as many tokens waiting as are free (a dynamic threshold, Choudhury and
Hahne 1998): one alone fills three quarters of the budget, and there is always room for another."""


@dataclass(frozen=True, slots=True)
class Client:
    """Who sends a call, and whether it may wait until nobody else's does."""

    key_name: str = ""
    """The name of its API key; empty where there are no keys."""
    is_batch: bool = False
    """Whether its work is done only while no other waits."""


ANYBODY = Client()
"""The client of all interactive calls where there are no keys."""


@dataclass(slots=True)
class _Share:
    """Token counts of one client."""

    num_tokens: int = 0
    """Tokens that are waiting."""
    held_tokens: int = 0
    """Tokens that it takes of the admission budget."""
    large_tokens: int = 0
    """Those that its large calls take."""
    served_tokens: float = 0.0
    """Tokens that were begun, counted from where the others stood when the client had nothing waiting."""
    turn: float = 0.0
    """Where the next call of the client queues among its calls."""


@dataclass(eq=False, slots=True)
class Job:
    """One text to embed with one encoder as a text of one side, for all calls that need it."""

    encoder: int
    """Index of the encoder among those of the bundle."""
    side: Side
    text: str
    num_tokens: int
    """An estimate until the text is tokenized."""
    arrived: float
    rows: dict[Any, int] = field(default_factory=dict)
    """The row of the text in each call that needs it."""
    ids: NDArray[np.int64] | None = None
    """The token ids; None until the text is tokenized."""
    is_cut: bool = False
    num_unknown: int = 0
    """Number of tokens that stand for something the tokenizer does not know."""
    client: Client = ANYBODY
    """The client whose turn it takes: the first one that needs the text."""
    turn: float = 0.0
    ready: float = 0.0
    begun: float = 0.0
    """Times at which the text was tokenized, and its batch began."""
    is_waiting: bool = True
    """True until the job is begun or released."""
    is_held: bool = False
    """Whether it takes its part of the admission budget: from its admission until no call needs it any more."""
    estimate: int = 0
    """What `num_tokens` was estimated as, before it was corrected by what was learned."""
    is_of_large: bool = False
    """Whether its call had more tokens than half of the budget."""


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """The limits by which jobs are grouped into batches."""

    max_tokens: int
    """Padded tokens per batch; a single longer text forms a batch of its own."""
    max_padding: int
    """Padding tokens that cost as much as starting another batch."""
    min_share: int = 0
    """Tokens below which a thread takes all ready jobs instead of sharing them with other idle threads."""


_Class = tuple[Client, int, int]
"""Client, encoder and length class."""


class JobQueue:
    """The jobs that are admitted and not yet begun, and the admission budget. Safe to use from any thread.

    A job takes its tokens of the budget until its calls are answered: calls take turns, so that each is answered after
    about as long as the work of all of them takes. A call of more than half of the budget is admitted while half is
    free, one such call at a time, and takes half at most from others. A client with a key may have a part of the budget
    only. Batch work takes nothing from the budget of interactive work.
    """

    def __init__(self, max_tokens: int, limits: BatchLimits) -> None:
        self.max_tokens = max_tokens
        """The admission budget."""
        self._tokens_per_estimate = 1.0
        """Recent ratio of tokens to what was estimated."""
        self._limits = limits
        self._changed = threading.Condition()
        self._heaps: dict[_Class, list[tuple[float, int, Job]]] = {}
        """Ready jobs by client, encoder and length class, in the order of their turns."""
        self._shares: dict[Client, _Share] = {}
        self._virtual_time = {False: 0.0, True: 0.0}
        """The largest `_Share.served_tokens` of a client when its turn came, of interactive and of batch work."""
        self._jobs: set[Job] = set()
        self._numbers = count()
        self._is_closed = False
        self.num_takers = 0
        """Threads inside `take`."""
        self._ready_tokens = 0
        self.num_tokens = 0

    @property
    def held_tokens(self) -> int:
        """Tokens of the budget that are taken, also by batch work."""
        return sum(share.held_tokens for share in list(self._shares.values()))

    def admit(self, jobs: Sequence[Job], client: Client = ANYBODY) -> bool:
        """Add the jobs of one call, all or none of them; return whether they fit the budget."""
        with self._changed:
            share = self._shares.setdefault(client, _Share())
            for job in jobs:
                job.estimate = job.num_tokens
                job.num_tokens = self.corrected(job.estimate)
            num_new = sum(job.num_tokens for job in jobs)
            if self.held_tokens and not self._fits(num_new, client, share):
                return False
            if not share.num_tokens:
                # Nobody saves up turns while having nothing to do.
                share.served_tokens = max(share.served_tokens, self._virtual_time[client.is_batch])
            is_large = num_new > self.max_tokens // 2
            turn = share.turn
            for job in jobs:
                job.client, job.turn, job.is_of_large, job.is_held = client, turn, is_large, True
                turn += job.num_tokens
                self._count(job, waiting=job.num_tokens, held=job.num_tokens)
            self._jobs.update(jobs)
            return True

    def corrected(self, num_tokens: int) -> int:
        """Return an estimate of tokens, corrected by what the traffic has taught about estimates."""
        return max(1, round(num_tokens * self._tokens_per_estimate)) if num_tokens else 0

    def ready(self, jobs: Sequence[Job]) -> None:
        """Make admitted jobs, whose ``ids`` are set by now, available to `take`."""
        now = perf_counter()
        with self._changed:
            self._learn(jobs)
            for job in jobs:
                if job.is_waiting and job.ids is not None:
                    correction = len(job.ids) - job.num_tokens
                    self._count(job, waiting=correction, held=correction)
                    job.num_tokens = len(job.ids)
                    job.ready = now
                    self._ready_tokens += job.num_tokens
                    heap = self._heaps.setdefault((job.client, job.encoder, length_class(job.num_tokens)), [])
                    heappush(heap, (job.turn, next(self._numbers), job))
            self._changed.notify(len(jobs))

    def begin(self, jobs: Sequence[Job]) -> None:
        """Remove jobs that were not `ready` and that another thread than those of `take` begins."""
        with self._changed:
            for job in jobs:
                self._remove(job)

    def release(self, jobs: Iterable[Job]) -> None:
        """Free what the jobs take of the budget, as no call needs them any more; remove those that wait."""
        with self._changed:
            for job in jobs:
                self._remove(job)
                if job.is_held:
                    job.is_held = False
                    self._count(job, held=-job.num_tokens)

    def take(self) -> list[Job]:
        """Wait for a ready job, then remove and return a batch of one encoder, the longest text first.

        The batch is empty once the queue is closed and no job is ready. Threads that wait here at the same time share
        the ready jobs where sharing pays.
        """
        with self._changed:
            self.num_takers += 1
            while not (heads := dict(self._heads())):
                if self._is_closed:
                    return []
                self._changed.wait()
            max_tokens = self._limits.max_tokens
            share = math.ceil(self._ready_tokens / self.num_takers) if self.num_takers > 1 else max_tokens
            self.num_takers -= 1
            first = min(heads, key=lambda key: (key[0].is_batch, self._shares[key[0]].served_tokens, heads[key]))
            batch = self._batch(first, min(max(share, self._limits.min_share), max_tokens))
            client = first[0]
            served_tokens = self._shares[client].served_tokens
            self._virtual_time[client.is_batch] = max(self._virtual_time[client.is_batch], served_tokens)
            now, seen = perf_counter(), set()
            for job in batch:
                own = self._shares[job.client]
                if job.client not in seen:
                    # Its jobs that are admitted from now on must queue behind those that have waited longer.
                    own.turn = max(own.turn, job.turn + job.num_tokens)
                    seen.add(job.client)
                own.served_tokens += job.num_tokens
                job.begun = now
                self._remove(job)
        return sorted(batch, key=lambda job: -job.num_tokens)

    def close(self) -> None:
        """Let `take` return an empty batch once no job is ready."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def max_age_s(self, *, of_encoders: bool = False) -> float:
        """Return the age of the job that has waited longest, of all or ``of_encoders`` only; 0 if none waits."""
        now = perf_counter()
        with self._changed:
            jobs = (job for job in self._jobs if job.encoder >= 0 or not of_encoders)
            return max((now - job.arrived for job in jobs), default=0.0)

    def _remove(self, job: Job) -> None:
        """Remove the job if it is waiting."""
        if not job.is_waiting:
            return
        job.is_waiting = False
        self._jobs.discard(job)
        self._count(job, waiting=-job.num_tokens)
        if job.ready:
            self._ready_tokens -= job.num_tokens

    def _count(self, job: Job, *, waiting: int = 0, held: int = 0) -> None:
        """Add to the numbers of waiting and held tokens."""
        share = self._shares[job.client]
        self.num_tokens += waiting
        share.num_tokens += waiting
        share.held_tokens += held
        share.large_tokens += held if job.is_of_large else 0

    def _learn(self, jobs: Sequence[Job]) -> None:
        """Adapt the estimates to the tokens of these jobs, so that what waits stays within the budget."""
        num_tokens = sum(len(job.ids) for job in jobs if job.ids is not None)
        num_estimated = sum(job.estimate for job in jobs if job.ids is not None)
        if num_estimated:
            ratio = num_tokens / num_estimated
            weight = min(1.0, num_tokens / _LEARNED_TOKENS)
            self._tokens_per_estimate += (min(max(ratio, 0.25), 4.0) - self._tokens_per_estimate) * weight

    def _fits(self, num_new: int, client: Client, share: _Share) -> bool:
        half = self.max_tokens // 2
        shares = [one for other, one in self._shares.items() if client.is_batch or not other.is_batch]
        num_large = sum(one.large_tokens for one in shares)
        num_held = sum(one.held_tokens for one in shares) - max(0, num_large - half)
        # Without this, others' small calls would keep a large one out for ever.
        if num_new > half and num_held <= half and not num_large:
            return True
        num_free = self.max_tokens - num_held
        return num_new <= num_free and (
            client == ANYBODY or not share.held_tokens or share.held_tokens + num_new <= _SHARE_OF_FREE * num_free
        )

    def _heads(self) -> Iterator[tuple[_Class, tuple[float, int]]]:
        """Yield the key of each class that has jobs, with the turn of its first job; discard released jobs."""
        for key, heap in list(self._heaps.items()):
            while heap and not heap[0][2].is_waiting:
                heappop(heap)
            if heap:
                yield key, heap[0][:2]
            else:
                del self._heaps[key]

    def _batch(self, first: _Class, max_tokens: int) -> list[Job]:
        """Remove and return jobs of the class, and of neighbouring classes where joining them is cheaper.

        All that fits of the client's own jobs comes first, so that its calls take few batches; others with the same
        priority fill the batch.
        """
        batch: list[Job] = []
        for is_own in (True, False):
            longest = max((job.num_tokens for job in batch), default=0)
            for heap in self._heaps_of(first, first[2], is_own=is_own):
                while heap:
                    job = heap[0][2]
                    longest = max(longest, job.num_tokens)
                    if batch and (len(batch) + 1) * longest > max_tokens:
                        return batch
                    heappop(heap)
                    if job.is_waiting:
                        batch.append(job)
            self._join_neighbours(batch, first, max_tokens, is_own=is_own)
        return batch

    def _join_neighbours(self, batch: list[Job], first: _Class, max_tokens: int, *, is_own: bool) -> None:
        """Move neighbouring classes of the client, or of the others, into the batch while padding them is cheap."""
        longest = max((job.num_tokens for job in batch), default=0)
        classes = sorted({key[2] for key in self._heaps if key[1] == first[1]})
        below, above = [c for c in reversed(classes) if c < first[2]], [c for c in classes if c > first[2]]
        for neighbours in (below, above):
            for neighbour in neighbours:
                heaps = self._heaps_of(first, neighbour, is_own=is_own)
                jobs = [job for heap in heaps for _, _, job in heap if job.is_waiting]
                length = max((longest, *(job.num_tokens for job in jobs)))
                padded = length * (len(batch) + len(jobs))
                padding = padded - longest * len(batch) - sum(job.num_tokens for job in jobs)
                if padding > self._limits.max_padding or padded > max_tokens:
                    break
                for heap in heaps:
                    heap.clear()
                batch += jobs
                longest = length

    def _heaps_of(self, first: _Class, length: int, *, is_own: bool) -> list[list[tuple[float, int, Job]]]:
        """Return the heaps of this length class, of the first class' client or of the others with its priority."""
        client, encoder, _ = first
        keys = [key for key in self._heaps if key[1:] == (encoder, length) and key[0].is_batch == client.is_batch]
        keys = [key for key in keys if (key[0] == client) == is_own]
        keys.sort(key=lambda key: self._shares[key[0]].served_tokens)
        return [self._heaps[key] for key in keys]


def length_class(length: int) -> int:
    """Return the index of the class of similar lengths that contains this length."""
    return math.ceil(math.log(max(length, _FIRST_LENGTH) / _FIRST_LENGTH, _LENGTH_RATIO))


def estimated_tokens(text: str) -> int:
    """Return how many tokens the text probably has, for the budget until it is tokenized."""
    estimate = len(text) // _CHARACTERS_PER_TOKEN + 2
    # Characters that take three bytes or four, as Chinese ones do, are words or syllables.
    return estimate if text.isascii() else estimate + (len(text.encode(errors="replace")) - len(text)) // 2
