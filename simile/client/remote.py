"""A server as a scorer: all that `Client` and `AsyncClient` share, which is all but the I/O.

Written once, as coroutines over a `Wire`. That of the async client awaits; that of the sync one blocks, so that its
coroutines run from begin to end without ever being suspended, and need no event loop.
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

from simile.client.answers import (
    Answer,
    Problem,
    Served,
    Similarity,
    join,
    read_problem,
    read_served,
    read_similarity,
)
from simile.errors import InputError, ServerError, ServerRefusedError, ServerUnavailableError

Pairs = Iterable[tuple[str, str]]
Progress = Callable[[int], None]
Item = TypeVar("Item")
Result = TypeVar("Result")

_BUNDLE, _SIMILARITY = "/v1/bundle", "/v1/similarity"

_PART_PAIRS = 256
"""Pairs of a request, where the server takes as many: more at once are not faster, but nearer to its deadline."""

_RETRIED = (429, 503)
_UNAVAILABLE = (*_RETRIED, 502, 504)

_FIRST_BACKOFF_S, _DOUBLINGS = 0.25, 5
_SHORTEST_TIMEOUT_S = 0.001
"""Where a wait took a little longer than it was to: HTTP libraries take no time below 0 for a timeout."""
_LONGEST_MESSAGE = 200
"""Characters of an error's parts: what stands in front of a server may put anything there."""

_PAIR_PLACE = re.compile(r"^pairs\[(\d+)\]")

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class Wire(Protocol):
    """The way to a server, and a clock."""

    async def send(self, path: str, body: bytes | None, timeout_s: float) -> Answer:
        """POST the body, or GET without one.

        Raises:
            TimeoutError: there was no answer in time.
            ConnectionError: there was no connection, or it ended before the answer did.
        """

    async def map(self, function: Callable[[Item], Awaitable[Result]], items: Sequence[Item]) -> list[Result]:
        """Return the function's results in the order of the items; after an error, nothing of it goes on."""

    async def sleep(self, seconds: float) -> None:
        """Wait."""

    def now(self) -> float:
        """Return the seconds of a clock that never goes back."""


class _BundleChangedError(Exception):
    """Two parts of one call were scored by different bundles."""


class Remote:
    """A server at the end of a wire.

    Args:
        wire: the way there.
        url: the server's address, for messages.
        secret: what no message shows, even where a server repeats it.
        timeout_s: seconds that a request may take, all attempts and waits together.
        retries: attempts after the first one.
    """

    def __init__(self, wire: Wire, url: str, *, secret: str | None, timeout_s: float, retries: int) -> None:
        self._wire = wire
        self._url = url
        self._secret = secret
        self._timeout_s = timeout_s
        self._retries = retries
        self._served: Served | None = None
        """As the server described it last; None: ask it."""

    async def bundle(self) -> dict[str, Any]:
        """Return what the server says of its bundle."""
        _, answer = await self._describe()
        described: dict[str, Any] = json.loads(answer.content)
        return described

    async def similarity(self, pairs: Pairs, *, members: bool, on_progress: Progress | None) -> Similarity:
        """Return the scores of all pairs by one bundle, as `simile.Client.similarity` says."""
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
                # The limits may be others by now than those that were asked for.
                self._served = None
                raise
        raise ServerUnavailableError(
            f"{self._url}: the bundle changed twice within one call, need one bundle for all its pairs"
        )

    async def _describe(self) -> tuple[Served, Answer]:
        answer = await self._request(_BUNDLE)
        self._served = served = self._read(_BUNDLE, answer, read_served)
        return served, answer

    async def _similarity(
        self, encoded: Sequence[bytes], served: Served, members: bool, advance: Progress
    ) -> Similarity:
        """Return the scores of all pairs, or end as soon as two parts' bundles differ."""
        head, tail = b'{"pairs":[', b'],"members":true}' if members else b"]}"
        room = served.limits.max_body_bytes - len(head) - len(tail)
        parts = list(split([len(pair) for pair in encoded], served.limits.max_pairs, room))
        bundles: set[str] = set()

        async def send(part: range) -> Similarity:
            body = head + b",".join(encoded[part.start : part.stop]) + tail
            answer = await self._request(_SIMILARITY, body, part.start)
            found = self._read(_SIMILARITY, answer, lambda answer: read_similarity(answer, len(part), members=members))
            bundles.add(found.bundle)
            if len(bundles) > 1:
                raise _BundleChangedError
            advance(len(part))
            return found

        return join(await self._wire.map(send, parts) or [served.nothing(members=members)])

    async def _request(self, path: str, body: bytes | None = None, first_pair: int = 0) -> Answer:
        """Return the answer, after as many attempts as it takes; places in errors are counted from the first pair."""
        end = self._wire.now() + self._timeout_s
        for attempt in itertools.count(1):
            wait_s = None
            try:
                answer = await self._wire.send(path, body, max(end - self._wire.now(), _SHORTEST_TIMEOUT_S))
            except TimeoutError as error:
                late = Problem(type="timeout", message=f"no answer within {self._timeout_s:g} s")
                raise self._error(path, None, late, attempt) from error
            except ConnectionError as error:
                failure = self._error(path, None, Problem(type="unreachable", message=str(error)), attempt)
            else:
                if answer.status == HTTPStatus.OK:
                    return answer
                failure = self._error(path, answer.status, _shifted(read_problem(answer), first_pair), attempt)
                if answer.status not in _RETRIED:
                    raise failure
                wait_s = retry_after_s(answer.headers)
            if wait_s is None:
                wait_s = backoff_s(attempt)
            if attempt > self._retries or self._wire.now() + wait_s >= end:
                raise failure
            await self._wire.sleep(wait_s)
        raise AssertionError("it counts for ever")

    def _read(self, path: str, answer: Answer, read: Callable[[Answer], Result]) -> Result:
        try:
            return read(answer)
        except ValueError as error:
            line = f"{self._url}{path}: got no answer of a Simile server ({error})"
            raise ServerError(line, status=answer.status) from None

    def _error(self, path: str, status: int | None, problem: Problem, attempt: int) -> ServerError:
        kind: type[ServerError] = ServerError
        if status is None or status in _UNAVAILABLE:
            kind = ServerUnavailableError
        elif status < HTTPStatus.INTERNAL_SERVER_ERROR:
            kind = ServerRefusedError
        shown = self._shown(problem)
        code = f"{status} " if status else ""
        where = f" ({shown.param})" if shown.param else ""
        tried = f", tried {attempt} times" if attempt > 1 else ""
        line = f"{self._url}{path}: {code}{shown.type}: {shown.message}{where}{tried}"
        return kind(line, status=status, kind=shown.type, param=shown.param)

    def _shown(self, problem: Problem) -> Problem:
        """Return the problem without the key, and only then cut: a part of the key is a secret as well."""
        secret = self._secret
        without = {name: text and text.replace(secret, "[api key]") if secret else text for name, text in problem}
        return Problem(**{name: text and text[:_LONGEST_MESSAGE] for name, text in without.items()})


def encode_pairs(pairs: Pairs) -> list[bytes]:
    """Return each pair as JSON.

    Raises:
        InputError: a pair is not two strings, or not in Unicode; the message does not repeat it.
    """
    encoded = []
    for i, pair in enumerate(pairs):
        match pair:
            case (str(), str()):
                try:
                    encoded.append(_encode(pair).encode())
                except UnicodeEncodeError:
                    raise InputError(f"pairs[{i}]: got half of a surrogate pair, need Unicode text") from None
            case _:
                raise InputError(f"pairs[{i}]: got {type(pair).__name__}, need two strings")
    return encoded


def split(sizes: Sequence[int], max_pairs: int, max_bytes: int) -> Iterator[range]:
    """Yield which pairs go into each request, in their order.

    Args:
        sizes: bytes of each pair; a comma goes between two.
        max_pairs: most pairs of a request.
        max_bytes: most bytes of its pairs.

    Raises:
        InputError: a pair alone has more bytes.
    """
    start = num_bytes = 0
    for i, size in enumerate(sizes):
        if size > max_bytes:
            raise InputError(f"pairs[{i}]: got {size} bytes as JSON, need at most {max_bytes}")
        if i - start == min(max_pairs, _PART_PAIRS) or num_bytes + size > max_bytes:
            yield range(start, i)
            start, num_bytes = i, 0
        num_bytes += size + 1
    if sizes:
        yield range(start, len(sizes))


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Return how many seconds the server asks to wait; None where it does not say, or not so that it can be read.

    Source: RFC 9110, 10.2.3: a number of seconds, or a date, which is measured by the server's own clock.
    """
    value = headers.get("retry-after", "")
    try:
        if value.isdecimal():
            return float(value)
        wait = parsedate_to_datetime(value) - _server_time(headers)
    # Dates without a zone cannot be compared with others.
    except (ValueError, TypeError):
        return None
    return max(0.0, wait.total_seconds())


def backoff_s(attempt: int) -> float:
    """Return how many seconds to wait after the attempt, from 1, where the server does not say.

    Twice as long each time, up to 8 seconds, and by chance up to half of it less: clients that failed together do not
    come back together.
    """
    return float(_FIRST_BACKOFF_S * 2 ** min(attempt - 1, _DOUBLINGS) * random.uniform(0.5, 1))


def _server_time(headers: Mapping[str, str]) -> datetime:
    return parsedate_to_datetime(headers["date"]) if "date" in headers else datetime.now(UTC)


def _shifted(problem: Problem, first_pair: int) -> Problem:
    """Return the problem with its place counted from the first pair of the whole call."""
    param = problem.param and _PAIR_PLACE.sub(lambda found: f"pairs[{int(found[1]) + first_pair}]", problem.param)
    return problem.model_copy(update={"param": param})
