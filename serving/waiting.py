"""Texts that wait for the model, and which of them are computed together next.

Padding costs as much as text, and starting a batch costs something too: so texts of like length go together, and those
of the next length join where padding them is cheaper than a batch of their own. Whose turn it is goes by start-time
fair queueing (Goyal, Vin and Cheng 1996) over tokens: a call does not wait for the end of one of many texts before it.
"""

import math
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

_FIRST_LENGTH = 8
_NEXT_LENGTH = 1.25
"""Lengths of one class differ by less than this factor: an eighth of padding on average."""


@dataclass(eq=False, slots=True)
class Job:
    """One text to embed with one encoder, for all calls that want it."""

    encoder: int
    text: str
    tokens: int
    """Its tokens; guessed until it is tokenized."""
    arrived: float
    rows: dict[Any, int] = field(default_factory=dict)
    """The calls that want it, and which of their rows it is."""
    ids: NDArray[np.int64] | None = None
    is_cut: bool = False
    turn: float = 0.0
    ready: float = 0.0
    """When its tokens were there."""
    begun: float = 0.0
    """When its batch was."""
    is_waiting: bool = True
    """Neither begun nor given up."""


class Waiting:
    """The jobs that are admitted and not yet begun. Safe to use from any thread.

    Args:
        max_tokens: admission budget. What comes to an empty queue is let in whatever its size.
        batch_tokens: padded tokens of one batch (but always one text).
        most_padding: tokens of padding that cost as much as to start another batch.
        least_share: tokens that a thread takes rather than share them with others that wait.
    """

    def __init__(self, *, max_tokens: int, batch_tokens: int, most_padding: int, least_share: int = 0) -> None:
        self._max_tokens = max_tokens
        self._batch_tokens = batch_tokens
        self._most_padding = most_padding
        self._least_share = least_share
        self._changed = threading.Condition()
        self._heaps: dict[tuple[int, int], list[tuple[float, int, Job]]] = {}
        """By encoder and class of length, those whose turn is next first."""
        self._jobs: set[Job] = set()
        self._numbers = count()
        self._turn = 0.0
        self._is_closed = False
        self.num_takers = 0
        """Threads within `take`."""
        self._ready_tokens = 0
        self.num_tokens = 0

    def admit(self, jobs: Sequence[Job]) -> bool:
        """Count the jobs of one call in, all of them or none; return whether they were."""
        with self._changed:
            wanted = sum(job.tokens for job in jobs)
            if self.num_tokens and self.num_tokens + wanted > self._max_tokens:
                return False
            self.num_tokens += wanted
            turn = self._turn
            for job in jobs:
                job.turn = turn
                turn += job.tokens
            self._jobs.update(jobs)
            return True

    def ready(self, jobs: Sequence[Job]) -> None:
        """Let the admitted jobs be taken: their ``ids`` are there."""
        now = perf_counter()
        with self._changed:
            for job in jobs:
                if job.is_waiting and job.ids is not None:
                    self.num_tokens += len(job.ids) - job.tokens
                    job.tokens = len(job.ids)
                    job.ready = now
                    self._ready_tokens += job.tokens
                    heap = self._heaps.setdefault((job.encoder, length_class(job.tokens)), [])
                    heappush(heap, (job.turn, next(self._numbers), job))
            self._changed.notify(len(jobs))

    def drop(self, job: Job) -> None:
        """Forget a job that nobody wants any more; one that is begun or forgotten already stays as it is."""
        with self._changed:
            if job.is_waiting:
                self._remove(job)

    def take(self) -> list[Job]:
        """Wait for a job that is ready, and remove it with those that are to be computed with it, all of one encoder.

        Threads that wait here at the same time share what is ready, where it is worth sharing.

        Returns:
            The batch, the longest text first; nothing once `close` was called and no job is ready.
        """
        with self._changed:
            self.num_takers += 1
            while not (heads := dict(self._heads())):
                if self._is_closed:
                    return []
                self._changed.wait()
            share = math.ceil(self._ready_tokens / self.num_takers) if self.num_takers > 1 else self._batch_tokens
            self.num_takers -= 1
            key = min(heads, key=lambda key: heads[key])
            batch = self._batch(key, min(max(share, self._least_share), self._batch_tokens))
            # Past the one whose turn it was: whoever comes now comes after those that wait longer.
            self._turn = max(self._turn, batch[0].turn + batch[0].tokens)
            now = perf_counter()
            for job in batch:
                job.begun = now
                self._remove(job)
        return sorted(batch, key=lambda job: -job.tokens)

    def close(self) -> None:
        """Let `take` return once nothing is ready."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def oldest(self) -> float | None:
        """Return when the job arrived that waits longest; None where nothing waits."""
        with self._changed:
            return min((job.arrived for job in self._jobs), default=None)

    def _remove(self, job: Job) -> None:
        job.is_waiting = False
        self._jobs.discard(job)
        self.num_tokens -= job.tokens
        if job.ready:
            self._ready_tokens -= job.tokens

    def _heads(self) -> Iterator[tuple[tuple[int, int], tuple[float, int]]]:
        """Yield each class that has jobs, with the turn of its first; forget those that were given up."""
        for key, heap in list(self._heaps.items()):
            while heap and not heap[0][2].is_waiting:
                heappop(heap)
            if heap:
                yield key, heap[0][:2]
            else:
                del self._heaps[key]

    def _batch(self, key: tuple[int, int], most_tokens: int) -> list[Job]:
        """Remove and return the jobs of the class up to so many tokens, and of its neighbours what is cheaper along."""
        heap = self._heaps[key]
        batch = [heappop(heap)[2]]
        longest = batch[0].tokens
        while heap:
            job = heap[0][2]
            longest = max(longest, job.tokens)
            if (len(batch) + 1) * longest > most_tokens:
                return batch
            heappop(heap)
            if job.is_waiting:
                batch.append(job)
        encoder, own = key
        classes = sorted(length for of, length in self._heaps if of == encoder)
        for neighbours in ([c for c in reversed(classes) if c < own], [c for c in classes if c > own]):
            for neighbour in neighbours:
                jobs = [job for _, _, job in self._heaps[encoder, neighbour] if job.is_waiting]
                length = max((longest, *(job.tokens for job in jobs)))
                padded = length * (len(batch) + len(jobs))
                padding = padded - longest * len(batch) - sum(job.tokens for job in jobs)
                if padding > self._most_padding or padded > most_tokens:
                    break
                del self._heaps[encoder, neighbour]
                batch += jobs
                longest = length
        return batch


def length_class(length: int) -> int:
    """Return the number of the class of like lengths that this one is of."""
    if length <= _FIRST_LENGTH:
        return 0
    return math.ceil(math.log(length / _FIRST_LENGTH, _NEXT_LENGTH))
