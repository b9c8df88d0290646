"""Progress on stderr: a bar with the time left on a terminal, a line every few seconds elsewhere."""

import sys
import time
from types import TracebackType
from typing import Self

_LINE_INTERVAL_S = 5.0
_BAR_INTERVAL_S = 0.1
_BAR_WIDTH = 24
_MIN_RATE_S = 1.0
"""Before this there is no rate to tell."""


class Progress:
    """How far one piece of work is, and how fast; use as a context manager and call `advance`.

    Without a total (a stream's length is known at its end) there is no share and no time left.
    """

    def __init__(self, label: str, total: int | None, unit: str) -> None:
        self._label, self._total, self._unit = label, total, unit
        self._done = 0
        self._skipped = 0
        self._note = ""
        self._start = time.monotonic()
        self._last = 0.0

    def __enter__(self) -> Self:
        """Show the start."""
        self._show(force=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Show the end, and leave the line to others."""
        self._show(force=True)
        if sys.stderr.isatty():
            sys.stderr.write("\n")

    def advance(self, num: int = 1, note: str | None = None) -> None:
        """Count more of the work as done, and say something beside it."""
        self._done += num
        if note is not None:
            self._note = note
        self._show()

    def skip(self, num: int) -> None:
        """Count work as done that took no time now, as a resumed run's earlier steps."""
        self._done += num
        self._skipped += num

    def _show(self, *, force: bool = False) -> None:
        now = time.monotonic()
        on_terminal = sys.stderr.isatty()
        if not force and now - self._last < (_BAR_INTERVAL_S if on_terminal else _LINE_INTERVAL_S):
            return
        self._last = now
        text = self._text(now - self._start)
        sys.stderr.write(f"\r\x1b[2K{text}" if on_terminal else f"{text}\n")
        sys.stderr.flush()

    def _text(self, elapsed_s: float) -> str:
        parts = [f"{self._label:<24}", *self._share()]
        computed = self._done - self._skipped
        if computed > 0 and elapsed_s >= _MIN_RATE_S:
            parts.append(f"{rate(computed / elapsed_s)}/s")
        if self._total is not None and computed > 0 and self._done < self._total:
            parts.append(f"{duration(elapsed_s / computed * (self._total - self._done))} left")
        else:
            parts.append(duration(elapsed_s))
        return "  ".join([*parts, self._note] if self._note else parts)

    def _share(self) -> list[str]:
        if self._total is None:
            return [f"{self._done:,} {self._unit}"]
        share = self._done / self._total if self._total else 1.0
        filled = round(share * _BAR_WIDTH)
        bar = ["█" * filled + "░" * (_BAR_WIDTH - filled)] if sys.stderr.isatty() else []
        return [*bar, f"{share:4.0%}  {self._done:,}/{self._total:,} {self._unit}"]


def rate(per_second: float) -> str:
    """Return how many a second, as short as a person says it: ``3.2``, ``410``, ``12k``, ``31M``."""
    for size, suffix in ((1e6, "M"), (1e3, "k")):
        if per_second >= 9.95 * size:
            return f"{per_second / size:,.0f}{suffix}"
    return f"{per_second:,.0f}" if per_second >= 9.95 else f"{per_second:.1f}"


def duration(seconds: float) -> str:
    """Return a length of time as a person says it: ``8.2 s``, ``3 min 05 s``, ``2 h 10 min``."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def say(text: str) -> None:
    """Write one line for a person to stderr."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
