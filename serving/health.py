"""Whether the engine makes progress. Load alone never makes it unhealthy.

There are three faults: texts wait or are computed and no batch has ended for longer than such batches can take; an
inference thread has died; or batches fail, and so do texts that are known to be good.
"""

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from time import monotonic

_STALLED_S = 3.0
"""Seconds without the end of a batch that are a fault, beyond what the running batches may take."""
_SLOWDOWN = 10
"""How many times as long as usual a batch may take."""
_USUAL_TOKENS_PER_S = 1000
"""The throughput that is assumed before one is known."""
_MAX_FAILED = 3
"""Consecutive failures of one encoder on good texts that are a fault."""
_GRACE_S = 20
"""Seconds after which a fault is not expected to pass: the process should be replaced."""


class Health:
    """The progress of an engine's inference threads. Safe to use from any thread."""

    def __init__(self, max_waiting_s: Callable[[], float], *, full_tokens: int, tokens_per_s: float = 0.0) -> None:
        """Begin with an idle engine.

        Args:
            max_waiting_s: returns how long the oldest text has waited for an encoder, 0 if none waits.
            full_tokens: tokens of a batch that counts as full.
            tokens_per_s: throughput of full batches, 0 where it was not measured.
        """
        self._full_tokens = full_tokens
        self.threads: Sequence[threading.Thread] = ()
        self.tokens_per_s = 0.0
        """Recent throughput of all threads together; 0 before the first batch."""
        self.full_tokens_per_s = tokens_per_s
        """Throughput of full batches, all threads together; 0 before the first one."""
        self._max_waiting_s = max_waiting_s
        self._running: dict[int, tuple[float, int]] = {}
        """When each running batch began, and its tokens, by its thread."""
        self._last_end = monotonic()
        self._num_failed: Counter[str] = Counter()
        """Consecutive failures on good texts, by the encoder's name."""
        self._since: float | None = None
        """When the current fault was first seen."""

    def begin(self, num_tokens: int) -> None:
        """Note that this thread begins a batch."""
        self._running[threading.get_ident()] = (monotonic(), num_tokens)

    def end(self, *, has_succeeded: bool) -> None:
        """Note that this thread's batch has ended, and whether it has succeeded."""
        begun, num_tokens = self._running.pop(threading.get_ident())
        self._last_end = now = monotonic()
        if has_succeeded:
            # The average weights the newest batch by 0.1. It is read when all threads are busy.
            rate = num_tokens / max(now - begun, 1e-9) * len(self.threads)
            self.tokens_per_s += (rate - self.tokens_per_s) * (0.1 if self.tokens_per_s else 1)
            if num_tokens >= self._full_tokens and rate:
                # Encoders of an ensemble take turns: the mean is one of seconds per token.
                previous = self.full_tokens_per_s or rate
                self.full_tokens_per_s = 1 / (0.9 / previous + 0.1 / rate)
        # Two stalls with progress between them are two faults.
        _ = self.fault

    def note_check(self, encoder: str, *, has_passed: bool) -> None:
        """Note whether a batch of the encoder, or after a failed one a check with good texts, has succeeded."""
        self._num_failed[encoder] = 0 if has_passed else self._num_failed[encoder] + 1

    @property
    def idle_s(self) -> float:
        """Seconds since the last batch ended; 0 while one is computed."""
        return 0.0 if self._running else monotonic() - self._last_end

    @property
    def fault(self) -> str | None:
        """Why the engine makes no progress; None if it does, or has nothing to do."""
        reason = self._fault()
        self._since = None if reason is None else self._since or monotonic()
        return reason

    @property
    def lasting_fault(self) -> str | None:
        """The fault, if it was first seen `_GRACE_S` ago or earlier."""
        reason = self.fault
        return reason if self._since is not None and monotonic() - self._since >= _GRACE_S else None

    @property
    def is_failing(self) -> bool:
        """Whether only another check can tell if batches succeed again."""
        return max(self._num_failed.values(), default=0) >= _MAX_FAILED

    def _fault(self) -> str | None:
        if not all(thread.is_alive() for thread in self.threads):
            return "an inference thread has died"
        if self.is_failing:
            name, num_failed = self._num_failed.most_common(1)[0]
            return f"member {name} has failed on good texts {num_failed} times in a row"
        now, running = monotonic(), list(self._running.values())
        oldest_s = max((self._max_waiting_s(), *(now - begun for begun, _ in running)))
        seconds = min(now - self._last_end, oldest_s)
        num_tokens = sum(num for _, num in running)
        if seconds > _STALLED_S + _SLOWDOWN * num_tokens / (self.tokens_per_s or _USUAL_TOKENS_PER_S):
            return f"no batch has ended for {seconds:.0f} s, and texts are waiting"
        return None
