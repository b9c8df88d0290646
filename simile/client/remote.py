"""The part that `Client` and `AsyncClient` share, everything but the I/O: coroutines over a `Wire`.

The wire of the async client awaits. That of the sync client blocks, so its coroutines are never suspended and need no
event loop.

The retries are our own: with tenacity, this module has 10 lines more, because deadline, Retry-After and errors remain.
stamina begins waits that end after the deadline, has no clock or sleep to inject, and has a process-wide off switch.
"""

import itertools
import json
import random
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, Protocol, TypeVar

from simile.client.answers import Answer, Problem, Served, Similarity, join, read, read_problem, read_similarity
from simile.errors import InputError, ServerError, ServerRefusedError, ServerUnavailableError
from simile.text_input import checked_pairs

Pairs = Iterable[tuple[str, str]]
Progress = Callable[[int], None]
Item = TypeVar("Item")
Result = TypeVar("Result")

_BUNDLE, _SIMILARITY = "/v1/bundle", "/v1/similarity"
_PART_PAIRS = 256
"""Maximum number of pairs in a request, even if the server takes more: they would not be faster, only later."""
_BYTES_PER_TOKEN = 2
"""Bytes of a request's pairs for each token that it may have, so that it does not have more."""
_RETRIED_STATUSES = (429, 503)
_UNAVAILABLE_STATUSES = (*_RETRIED_STATUSES, 502, 504)
_FIRST_BACKOFF_S, _DOUBLINGS = 0.25, 5
_MIN_TIMEOUT_S = 0.001
"""Timeout where a wait took longer than planned: HTTP libraries refuse a timeout of 0 or less."""
_MAX_MESSAGE_CHARACTERS = 200
"""Limit for each part of an error message: a proxy in front of a server may put anything there."""
_PAIR_PLACE = re.compile(r"^pairs\[(\d+)\]")
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


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


class _BundleChangedError(Exception):
    """Two requests of one call were answered by different bundles."""


class Remote:
    """A server behind a wire; its messages name the address and never show the secret, even if the server repeats it.

    A request may take ``timeout_s`` with all its attempts and waits.
    """

    def __init__(self, wire: Wire, url: str, *, secret: str | None, timeout_s: float, retries: int) -> None:
        self.url = url
        self._wire, self._secret, self._timeout_s, self._retries = wire, secret, timeout_s, retries
        self._served: Served | None = None
        """The server's last description of its bundle; None if it has to be asked again."""

    async def bundle(self) -> dict[str, Any]:
        """Return the server's description of its bundle."""
        _, answer = await self._describe()
        described: dict[str, Any] = json.loads(answer.content)
        return described

    async def similarity(self, pairs: Pairs, *, members: bool, on_progress: Progress | None) -> Similarity:
        """Return the results for all pairs by one bundle; see `simile.Client.similarity`."""
        encoded = encode_pairs(pairs)
        num_done = 0

        def advance(num: int) -> None:
            nonlocal num_done
            num_done += num
            if on_progress:
                on_progress(num)

        for _ in range(2):
            served = self._served or (await self._describe())[0]
            try:
                return await self._similarity(encoded, served, members, advance)
            except _BundleChangedError:
                self._served = None
                advance(-num_done)
            except ServerRefusedError:
                # The limits may have changed since the server described them.
                self._served = None
                raise
        got = f"{self.url}: the bundle changed twice within one call"
        raise ServerUnavailableError(f"{got}, need one bundle for all its pairs")

    async def _describe(self) -> tuple[Served, Answer]:
        answer = await self._request(_BUNDLE)
        self._served = served = self._read(_BUNDLE, answer, lambda answer: read(answer, Served))
        return served, answer

    async def _similarity(
        self, encoded: Sequence[bytes], served: Served, members: bool, advance: Progress
    ) -> Similarity:
        """Return the results for all pairs, or stop as soon as two requests' bundles differ."""
        head, tail = b'{"pairs":[', b'],"members":true}' if members else b"]}"
        room = served.limits.max_body_bytes - len(head) - len(tail)
        limits = served.limits
        # A token takes four bytes or more, and a pair of short texts twice as many tokens as its bytes say.
        part_bytes = room if limits.max_tokens is None else min(room, _BYTES_PER_TOKEN * limits.max_tokens)
        parts = list(split([len(pair) for pair in encoded], limits.max_pairs, room, part_bytes))
        bundles: set[str] = set()

        async def send(part: range) -> Similarity:
            body = head + b",".join(encoded[part.start : part.stop]) + tail
            answer = await self._request(_SIMILARITY, body, part.start)
            result = self._read(_SIMILARITY, answer, lambda answer: read_similarity(answer, len(part), members=members))
            bundles.add(result.bundle)
            if len(bundles) > 1:
                raise _BundleChangedError
            advance(len(part))
            return result

        return join(await self._wire.map(send, parts) or [served.nothing(members=members)])

    async def _request(self, path: str, body: bytes | None = None, first_pair: int = 0) -> Answer:
        """Return the response after as many attempts as needed; ``first_pair`` is added to the places in errors."""
        end = self._wire.now() + self._timeout_s
        for attempt in itertools.count(1):
            wait_s = backoff_s(attempt)
            try:
                answer = await self._wire.send(path, body, max(end - self._wire.now(), _MIN_TIMEOUT_S))
            except TimeoutError as error:
                late = Problem(type="timeout", message=f"no response within {self._timeout_s:g} s")
                raise self._error(path, None, late, attempt) from error
            except ConnectionError as error:
                failure = self._error(path, None, Problem(type="unreachable", message=str(error)), attempt)
            else:
                if answer.status == HTTPStatus.OK:
                    return answer
                failure = self._error(path, answer.status, _shifted(read_problem(answer), first_pair), attempt)
                if answer.status not in _RETRIED_STATUSES:
                    raise failure
                if (asked_s := retry_after_s(answer.headers)) is not None:
                    wait_s = asked_s
            if attempt > self._retries or self._wire.now() + wait_s >= end:
                raise failure
            await self._wire.sleep(wait_s)
        raise AssertionError("the attempts never end by themselves")

    def _read(self, path: str, answer: Answer, read: Callable[[Answer], Result]) -> Result:
        try:
            return read(answer)
        except ValueError as error:
            line = f"{self.url}{path}: the response is not from a Simile server ({error})"
            raise ServerError(line, status=answer.status) from None

    def _error(self, path: str, status: int | None, problem: Problem, attempt: int) -> ServerError:
        kind: type[ServerError] = ServerError
        if status is None or status in _UNAVAILABLE_STATUSES:
            kind = ServerUnavailableError
        elif status < HTTPStatus.INTERNAL_SERVER_ERROR:
            kind = ServerRefusedError
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


def encode_pairs(pairs: Pairs) -> list[bytes]:
    """Return each pair as JSON; refuse what is no pair of texts as `checked_pairs` does."""
    return [_encode(pair).encode() for pair in checked_pairs(pairs)]


def split(sizes: Sequence[int], max_pairs: int, max_bytes: int, part_bytes: int) -> Iterator[range]:
    """Yield the range of pairs for each request, from the bytes of each pair; refuse a pair that exceeds the limit.

    A request has at most ``part_bytes``, unless one pair alone has more.
    """
    start = num_bytes = 0
    for i, size in enumerate(sizes):
        if size > max_bytes:
            raise InputError(f"pairs[{i}]: got {size} bytes as JSON, need at most {max_bytes}")
        if i - start == min(max_pairs, _PART_PAIRS) or (num_bytes and num_bytes + size > part_bytes):
            yield range(start, i)
            start, num_bytes = i, 0
        num_bytes += size + 1
    if sizes:
        yield range(start, len(sizes))


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


def _shifted(problem: Problem, first_pair: int) -> Problem:
    """Return the problem with the index of its pair in the whole call."""
    param = problem.param and _PAIR_PLACE.sub(lambda match: f"pairs[{int(match[1]) + first_pair}]", problem.param)
    return problem.model_copy(update={"param": param})
