"""Progress and messages on stderr: a bar on a terminal, elsewhere a plain line every few seconds.

Rich draws the bar. The rate and the time left are computed here, over all the work since the start: rich takes them
from the last 30 seconds, which is less than one step of slow work.
"""

import re
import sys
import time
from typing import TYPE_CHECKING, Self

# Rich takes 90 ms to import, so only a bar imports it.
if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as RichProgress

_LINE_INTERVAL_S, _BAR_INTERVAL_S, _BAR_WIDTH = 5.0, 0.1, 24
_MIN_RATE_S = 1.0
"""No rate is shown before this time."""
_consoles: list["Console"] = []
"""The consoles of the bars that are shown now; `say` writes above the bars."""
_UNSAFE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Characters that move the cursor, start a new line, change the direction of what follows, or cannot be encoded."""


class Progress:
    """Progress of one piece of work and its rate; use it as a context manager and call `advance`.

    Without a total (a stream's length is known only at its end), or beyond one that was too low, it shows neither a
    share nor the time left.
    """

    def __init__(self, label: str, total: int | None, unit: str) -> None:
        self._label, self._total, self._unit = visible(label), total, unit
        self._done, self._skipped, self._note = 0, 0, ""
        self._start, self._last = time.monotonic(), 0.0
        self._bar: RichProgress | None = None

    def __enter__(self) -> Self:
        """Show the start."""
        if console := _terminal():
            self._bar = _bar(console, self._label, self._total)
            self._bar.start()
            _consoles.append(console)
        self._show(force=True)
        return self

    def __exit__(self, *_: object) -> None:
        """Show the end and release the terminal."""
        self._show(force=True)
        if self._bar:
            self._bar.stop()
            _consoles.pop()

    def advance(self, num: int = 1, note: str | None = None) -> None:
        """Count more work as done, and replace the note beside the figures unless it is None."""
        self._done += num
        if self._total is not None and self._done > self._total:
            self._total = None
        if note is not None:
            self._note = visible(note)
        self._show()

    def skip(self, num: int) -> None:
        """Count work as done that took no time now, such as the earlier steps of a resumed run."""
        self._done += num
        self._skipped += num

    def _show(self, *, force: bool = False) -> None:
        now = time.monotonic()
        if not force and now - self._last < (_BAR_INTERVAL_S if self._bar else _LINE_INTERVAL_S):
            return
        self._last = now
        figures = self._figures(now - self._start)
        if bar := self._bar:
            bar.update(bar.task_ids[0], completed=self._done, description=f"{self._label}  {figures}", refresh=True)
        else:
            say(f"{self._label:<24}  {figures}")

    def _figures(self, elapsed_s: float) -> str:
        parts = [f"{self._done:,} {self._unit}"]
        if self._total is not None:
            share = self._done / self._total if self._total else 1.0
            parts = [f"{share:4.0%}  {self._done:,}/{self._total:,} {self._unit}"]
        computed = self._done - self._skipped
        if computed > 0 and elapsed_s >= _MIN_RATE_S:
            parts.append(f"{rate(computed / elapsed_s)}/s")
        if self._total is not None and computed > 0 and self._done < self._total:
            parts.append(f"{duration(elapsed_s / computed * (self._total - self._done))} left")
        else:
            parts.append(duration(elapsed_s))
        return "  ".join([*parts, self._note] if self._note else parts)


def _terminal() -> "Console | None":
    """Return a console where stderr is a terminal that can redraw a line, else None."""
    # Bars that are shown at once share a console, which puts one below the other.
    if _consoles:
        return _consoles[-1]
    if not sys.stderr.isatty():
        return None
    from rich.console import Console

    console = Console(stderr=True)
    return console if console.is_interactive else None


def _bar(console: "Console", label: str, total: int | None) -> "RichProgress":
    """Return a bar with its text in one line; where the terminal is narrow, the bar gives way before the text does."""
    from rich.progress import BarColumn, Progress, TextColumn
    from rich.table import Column

    # Labels and notes hold words of users: in markup, their brackets would be lost.
    text = TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True))
    columns = [text] if total is None else [BarColumn(_BAR_WIDTH), text]
    # Stdout is for results, and a thread that redraws would compete with the work.
    bar = Progress(*columns, console=console, auto_refresh=False, redirect_stdout=False)
    bar.add_task(label, total=total)
    return bar


def visible(text: str) -> str:
    """Return the text with control characters as escapes: those of names and messages must not reach a terminal."""
    return _UNSAFE.sub(lambda match: match[0].encode("unicode_escape", "surrogatepass").decode(), text)


def say(text: str) -> None:
    """Write one line for a person to stderr, above the bar if one is shown; control characters become visible."""
    text = visible(text)
    if _consoles:
        _consoles[-1].out(text, highlight=False)
    else:
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()


def rate(per_second: float) -> str:
    """Return a rate in short form: ``3.2``, ``410``, ``12k``, ``31M``."""
    for size, suffix in ((1e6, "M"), (1e3, "k")):
        if per_second >= 9.95 * size:
            return f"{per_second / size:,.0f}{suffix}"
    return f"{per_second:,.0f}" if per_second >= 9.95 else f"{per_second:.1f}"


def duration(seconds: float) -> str:
    """Return a length of time in words: ``8.2 s``, ``3 min 05 s``, ``2 h 10 min``."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
