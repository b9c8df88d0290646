"""Requests to one server over a `Wire`: attempts, waits, and errors of one line.

The retries are our own: with tenacity, this module has 10 lines more, because deadline, Retry-After and errors remain.
stamina begins waits that end after the deadline, has no clock or sleep to inject, and has a process-wide off switch.
"""

import itertools
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Protocol, TypeVar

from simile.client.answers import Answer, Problem, status_words
from simile.errors import ServerError, ServerRefusedError, ServerUnavailableError

Item = TypeVar("Item")
Result = TypeVar("Result")

_RETRIED_STATUSES = (429, 503)
_UNAVAILABLE_STATUSES = (*_RETRIED_STATUSES, 502, 504)
_FIRST_BACKOFF_S, _DOUBLINGS = 0.25, 5
_MIN_TIMEOUT_S = 0.001
"""Timeout where a wait took longer than planned: HTTP libraries refuse a timeout of 0 or less."""
_MAX_MESSAGE_CHARACTERS = 200
"""Limit for each part of an error message: a proxy in front of a server may put anything there."""


class Wire(Protocol):
    """The connection to a server, and a clock."""

    async def send(self, path: str, body: bytes | None, timeout_s: float) -> Answer:
        """Return the response to a POST of the body, or to a GET without one.

        Raises:
            TimeoutError: there was no response in time.
            ConnectionError: there was no connection, or it ended before the response did.
        """

    async def map(self, function: Callable[[Item], Awaitable[Result]], items: Sequence[Item]) -> list[Result]:
        """Return the function's results in the order of the items; an error cancels the rest."""

    async def sleep(self, seconds: float, /) -> None:
        """Wait for that time."""

    def now(self) -> float:
        """Return the time in seconds of a monotonic clock."""


class Exchange:
    """A server behind a wire; messages name its address and never show the secret, even if the server repeats it.

    Args:
        wire: the connection.
        url: the address as messages name it.
        secret: the key; None or empty without one.
        timeout_s: seconds that a request may take with all its attempts and waits.
        retries: number of attempts after the first one.
        server: the server that is needed, in words, for the message about a response from something else.
        key_place: where the user puts the key; if given, it replaces the server's message about a wrong key.
    """

    def __init__(
        self,
        wire: Wire,
        url: str,
        *,
        secret: str | None,
        timeout_s: float,
        retries: int,
        server: str,
        key_place: str | None = None,
    ) -> None:
        self.wire, self.url = wire, url
        self._secret, self._timeout_s, self._retries = secret, timeout_s, retries
        self._server, self._key_place = server, key_place

    async def request(self, path: str, body: bytes | None = None, *, problem: Callable[[Answer], Problem]) -> Answer:
        """Return the response after as many attempts as needed; ``problem`` reads the error of one without success."""
        wire = self.wire
        end = wire.now() + self._timeout_s
        for attempt in itertools.count(1):
            wait_s = backoff_s(attempt)
            try:
                answer = await wire.send(path, body, max(end - wire.now(), _MIN_TIMEOUT_S))
            except TimeoutError as error:
                late = Problem(type="timeout", message=f"no response within {self._timeout_s:g} s")
                raise self._error(path, None, late, attempt) from error
            except ConnectionError as error:
                failure = self._error(path, None, Problem(type="unreachable", message=str(error)), attempt)
            else:
                if answer.status == HTTPStatus.OK:
                    return answer
                failure = self._error(path, answer.status, problem(answer), attempt)
                if answer.status not in _RETRIED_STATUSES:
                    raise failure
                if (asked_s := retry_after_s(answer.headers)) is not None:
                    wait_s = asked_s
            if attempt > self._retries or wire.now() + wait_s >= end:
                raise failure
            await wire.sleep(wait_s)
        raise AssertionError("the attempts never end by themselves")

    def read(self, path: str, answer: Answer, read: Callable[[Answer], Result]) -> Result:
        """Return what ``read`` makes of the response; a `ServerError` in place of its `ValueError`."""
        try:
            return read(answer)
        except ValueError as error:
            line = f"{self.url}{path}: the response is not from {self._server} ({error})"
            raise ServerError(line, status=answer.status) from None

    def _error(self, path: str, status: int | None, problem: Problem, attempt: int) -> ServerError:
        kind: type[ServerError] = ServerError
        if status is None or status in _UNAVAILABLE_STATUSES:
            kind = ServerUnavailableError
        elif status < HTTPStatus.INTERNAL_SERVER_ERROR:
            kind = ServerRefusedError
        if status == HTTPStatus.UNAUTHORIZED and self._key_place:
            # OpenAI's message repeats the first and the last characters of the key.
            problem = Problem(type=status_words(status), message=f"need a valid key in {self._key_place}")
        shown = self._shown(problem)
        code, where = f"{status} " if status else "", f" ({shown.param})" if shown.param else ""
        tried = f", tried {attempt} times" if attempt > 1 else ""
        line = f"{self.url}{path}: {code}{shown.type}: {shown.message}{where}{tried}"
        return kind(line, status=status, kind=shown.type, param=shown.param)

    def _shown(self, problem: Problem) -> Problem:
        """Return the problem without the key, cut only afterwards: a part of the key is a secret too."""
        secret = self._secret
        without = {name: text and text.replace(secret, "[api key]") if secret else text for name, text in problem}
        return Problem(**{name: text and text[:_MAX_MESSAGE_CHARACTERS] for name, text in without.items()})


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Return how many seconds the server asks to wait; None without a valid Retry-After header.

    Source: RFC 9110, 10.2.3: a number of seconds, or a date, which is compared with the server's own clock.
    """
    value = headers.get("retry-after", "")
    try:
        if value.isdecimal():
            return float(value)
        now = parsedate_to_datetime(headers["date"]) if "date" in headers else datetime.now(UTC)
        return max(0.0, (parsedate_to_datetime(value) - now).total_seconds())
    # A date without a time zone cannot be compared with one that has it.
    except (ValueError, TypeError):
        return None


def backoff_s(attempt: int) -> float:
    """Return how many seconds to wait after the attempt, counted from 1, unless the server asks for a time.

    The wait doubles each time, up to 8 seconds. At random it is up to half of that shorter, so that clients that
    failed together do not retry together.
    """
    return float(_FIRST_BACKOFF_S * 2 ** min(attempt - 1, _DOUBLINGS) * random.uniform(0.5, 1))
