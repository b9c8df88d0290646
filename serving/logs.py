"""Log lines, for people or as JSON for machines. They never hold a text that a client has sent."""

import json
import logging
import traceback
from contextvars import ContextVar
from datetime import UTC, datetime
from http import HTTPStatus
from time import monotonic
from typing import TextIO

from simile.progress import visible

REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")
"""The id of the request that the current task answers."""


_LINES_PER_S = 50
_CAUSED_BY_CLIENTS = ("serving.middleware", "serving.engine", "serving.inference", "uvicorn", "asyncio")
"""Loggers of what serves requests."""


class LimitedHandler(logging.StreamHandler[TextIO]):
    """Writes log lines to stderr, at most 50 per second of those that any client can cause.

    These are about refused requests, and warnings and errors of what serves requests. What is left out is counted in a
    line of its own.
    """

    def __init__(self) -> None:
        super().__init__()
        self._second, self._num_lines, self._num_left_out = 0, 0, 0

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record, unless there were too many in this second."""
        if (second := int(monotonic())) != self._second:
            self._second, self._num_lines, num_left_out, self._num_left_out = second, 0, self._num_left_out, 0
            if num_left_out:
                message = "%d messages about refused requests and their faults were left out"
                super().emit(logging.LogRecord(__name__, logging.WARNING, "", 0, message, (num_left_out,), None))
        status = getattr(record, "fields", {}).get("status", HTTPStatus.OK)
        is_fault = record.levelno >= logging.WARNING or status >= HTTPStatus.BAD_REQUEST
        if is_fault and record.name.startswith(_CAUSED_BY_CLIENTS):
            if self._num_lines >= _LINES_PER_S:
                self._num_left_out += 1
                return
            in_traceback = traceback.format_exception(*record.exc_info) if record.exc_info else []
            self._num_lines += 1 + sum(part.count("\n") for part in in_traceback)
        super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:
        """Count the record as left out; Python would write a traceback for each, as without free files."""
        self._num_left_out += 1


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
