"""Whether the engine makes progress. Load alone never makes it unhealthy.

There are three faults: texts wait or are computed and no batch has ended for longer than such batches can take; an
inference thread has died; or batches fail, and so do texts that are known to be good.
"""

import threading
from collections.abc import Callable, Sequence
from time import monotonic

_STALLED_S, _SLOWDOWN, _USUAL_TOKENS_PER_S = 3.0, 10, 1000
"""Seconds without the end of a batch that are a fault, beyond `_SLOWDOWN` times what the running batches should take;
and the throughput that is assumed before one is known."""
_MAX_FAILED = 3
"""Failed checks in a row that are a fault."""
_GRACE_S = 20
"""Seconds after which a fault is not expected to pass: the process should be replaced."""


class Health:
    """The progress of an engine's inference threads. Safe to use from any thread."""

    def __init__(self, max_waiting_s: Callable[[], float]) -> None:
        """``max_waiting_s`` returns the age of the text that has waited longest, 0 if none waits."""
        self.threads: Sequence[threading.Thread] = ()
        self.tokens_per_s = 0.0
        """Recent throughput of all threads together; 0 before the first batch."""
        self._max_waiting_s = max_waiting_s
        self._running: dict[int, tuple[float, int]] = {}
        """When each running batch began, and its tokens, by its thread."""
        self._last_end = monotonic()
        self._num_failed = 0
        self._since: float | None = None
        """When the current fault was first seen."""

    def begin(self, num_tokens: int) -> None:
        """Note that this thread begins a batch."""
        self._running[threading.get_ident()] = (monotonic(), num_tokens)

    def end(self) -> None:
        """Note that this thread's batch has ended."""
        begun, num_tokens = self._running.pop(threading.get_ident())
        self._last_end = now = monotonic()
        # The average weights the newest batch by 0.1. It is read when all threads are busy.
        rate = num_tokens / max(now - begun, 1e-9) * len(self.threads)
        self.tokens_per_s += (rate - self.tokens_per_s) * (0.1 if self.tokens_per_s else 1)

    def note_check(self, *, has_passed: bool) -> None:
        """Note whether a batch, or after a failed one a check with good texts, has succeeded."""
        self._num_failed = 0 if has_passed else self._num_failed + 1

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
        return self._num_failed >= _MAX_FAILED

    def _fault(self) -> str | None:
        if not all(thread.is_alive() for thread in self.threads):
            return "an inference thread has died"
        if self.is_failing:
            return f"{self._num_failed} batches of good texts have failed in a row"
        now, running = monotonic(), list(self._running.values())
        oldest_s = max((self._max_waiting_s(), *(now - begun for begun, _ in running)))
        seconds = min(now - self._last_end, oldest_s)
        num_tokens = sum(num for _, num in running)
        if seconds > _STALLED_S + _SLOWDOWN * num_tokens / (self.tokens_per_s or _USUAL_TOKENS_PER_S):
            return f"no batch has ended for {seconds:.0f} s, and texts are waiting"
        return None
