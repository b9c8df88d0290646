"""Progress on stderr: a bar with the time left on a terminal, a line every few seconds elsewhere."""

import os
import sys
import time
from types import TracebackType
from typing import Self

_LINE_INTERVAL_S = 5.0
_BAR_INTERVAL_S = 0.1
_BAR_WIDTH = 24
_UNKNOWN_WIDTH = 200
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
        parts = self._parts(now - self._start)
        sys.stderr.write(f"\r\x1b[2K{_in_one_line(parts, self._bar())}" if on_terminal else f"{'  '.join(parts)}\n")
        sys.stderr.flush()

    def _parts(self, elapsed_s: float) -> list[str]:
        parts = [f"{self._label:<24}", self._share()]
        computed = self._done - self._skipped
        if computed > 0 and elapsed_s >= _MIN_RATE_S:
            parts.append(f"{rate(computed / elapsed_s)}/s")
        if self._total is not None and computed > 0 and self._done < self._total:
            parts.append(f"{duration(elapsed_s / computed * (self._total - self._done))} left")
        else:
            parts.append(duration(elapsed_s))
        return [*parts, self._note] if self._note else parts

    def _share(self) -> str:
        if self._total is None:
            return f"{self._done:,} {self._unit}"
        return f"{self._part_done():4.0%}  {self._done:,}/{self._total:,} {self._unit}"

    def _bar(self) -> str:
        if self._total is None:
            return ""
        filled = round(self._part_done() * _BAR_WIDTH)
        return "█" * filled + "░" * (_BAR_WIDTH - filled)

    def _part_done(self) -> float:
        return self._done / self._total if self._total else 1.0


def _in_one_line(parts: list[str], bar: str) -> str:
    """Return the parts and, where there is room for it, the bar: what flowed into a second line would stay there."""
    try:
        width = os.get_terminal_size(sys.stderr.fileno()).columns
    # A stream that says it is a terminal, and has no file behind it.
    except OSError:
        width = 0
    room = (width or _UNKNOWN_WIDTH) - 1
    with_bar = "  ".join([parts[0], bar, *parts[1:]] if bar else parts)
    return with_bar if len(with_bar) <= room else "  ".join([parts[0].rstrip(), *parts[1:]])[:room]


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
