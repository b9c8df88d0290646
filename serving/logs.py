"""Log lines, for people or as JSON for machines. They never hold a text that a client has sent."""

import json
import logging
from contextvars import ContextVar
from datetime import UTC, datetime

from simile.progress import visible

REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")
"""The id of the request that the current task answers."""


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
