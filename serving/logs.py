"""Log lines, for people or as JSON for machines. They never hold a text that a client has sent."""

import json
import logging
import traceback
from collections import Counter, deque
from contextvars import ContextVar
from datetime import UTC, datetime
from http import HTTPStatus
from time import monotonic
from typing import TextIO

from simile.progress import visible

REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")
"""The id of the request that the current task answers."""


_FAULTS, _ANSWERED = "refused requests and their faults", "answered requests without a key"
_LINES_PER_S = {_FAULTS: 50, _ANSWERED: 40}
"""Lines of each kind that any client can cause."""
_CAUSED_BY_CLIENTS = ("serving.middleware", "serving.engine", "serving.inference", "uvicorn", "asyncio")
"""Loggers of what serves requests."""


class LimitedHandler(logging.StreamHandler[TextIO]):
    """Writes log lines to stderr, at most 90 within any second of those that any client can cause.

    50 of them are about refused requests, and warnings and errors of what serves requests; 40 are about answered
    requests, unless these have an API key. What is left out is counted in lines of their own.
    """

    def __init__(self) -> None:
        super().__init__()
        self._times = {kind: deque[float](maxlen=num_lines) for kind, num_lines in _LINES_PER_S.items()}
        """When the last lines of each kind were written."""
        self._num_left_out = Counter[str]()
        self._count_at = 0.0
        """When the number of lines that were left out is written."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record, unless there were too many within a second."""
        now = monotonic()
        if self._num_left_out and now >= self._count_at:
            num_left_out, self._num_left_out = self._num_left_out, Counter()
            for counted, number in num_left_out.items():
                message = "%d messages about %s were left out"
                super().emit(logging.LogRecord(__name__, logging.WARNING, "", 0, message, (number, counted), None))
        if kind := _kind_of(record):
            times = self._times[kind]
            if len(times) == times.maxlen and now < times[0] + 1:
                self._leave_out(kind, now)
                return
            in_traceback = traceback.format_exception(*record.exc_info) if record.exc_info else []
            times.extend([now] * (1 + sum(part.count("\n") for part in in_traceback)))
        super().emit(record)

    def _leave_out(self, kind: str, now: float) -> None:
        if not self._num_left_out:
            self._count_at = now + 1
        self._num_left_out[kind] += 1

    def handleError(self, record: logging.LogRecord) -> None:
        """Count the record as left out; Python would write a traceback for each, as without free files."""
        self._leave_out(_FAULTS, monotonic())


def _kind_of(record: logging.LogRecord) -> str | None:
    """Return which limit the record counts in; None if no client can cause it, or only one that has a key."""
    if not record.name.startswith(_CAUSED_BY_CLIENTS):
        return None
    request = getattr(record, "fields", {})
    if record.levelno >= logging.WARNING or request.get("status", HTTPStatus.OK) >= HTTPStatus.BAD_REQUEST:
        return _FAULTS
    return _ANSWERED if request and "key" not in request else None


class VisibleFormatter(logging.Formatter):
    """Formats a log line with the control characters of names and messages as visible escapes."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Return the line; a traceback follows it on lines of its own."""
        return visible(super().formatMessage(record))


class JsonFormatter(logging.Formatter):
    """Formats a log line as one JSON object; ``fields`` of the record are fields of it."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, with a traceback as one of its fields."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {"time": time, "level": record.levelname, "logger": record.name, "message": record.getMessage()}
        if request_id := REQUEST_ID.get():
            line["request_id"] = request_id
        line |= getattr(record, "fields", {})
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)
