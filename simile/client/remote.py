"""The part that `Client` and `AsyncClient` share, everything but the I/O: coroutines over a `Wire`.

The wire of the async client awaits. That of the sync client blocks, so its coroutines are never suspended and need no
event loop.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from simile.client.answers import Answer, Problem, Served, Similarity, join, read, read_problem, read_similarity
from simile.client.exchange import Exchange
from simile.errors import InputError, ServerRefusedError, ServerUnavailableError
from simile.text_input import checked_pairs

Pairs = Iterable[tuple[str, str]]
Progress = Callable[[int], None]

SERVER = "a Simile server"
"""The server that is needed, as messages name it."""
BUNDLE, SIMILARITY = "/v1/bundle", "/v1/similarity"
PART_SIZE = 256
"""Maximum number of pairs in a request, even if the server takes more: they would not be faster, only later."""
_BYTES_PER_TOKEN = 2
"""Bytes of a request's pairs for each token that it may have, so that it does not have more."""
_PAIR_PLACE = re.compile(r"^pairs\[(\d+)\]")
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class _BundleChangedError(Exception):
    """Two requests of one call were answered by different bundles."""


class Remote:
    """A Simile server."""

    def __init__(self, exchange: Exchange) -> None:
        self.url = exchange.url
        self._exchange = exchange
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
                # The limits follow the server's throughput, so they may have changed since it described them.
                self._served = None
                if (await self._describe())[0].limits == served.limits:
                    raise
                advance(-num_done)
        got = f"{self.url}: the bundle changed twice within one call"
        raise ServerUnavailableError(f"{got}, need one bundle for all its pairs")

    async def _describe(self) -> tuple[Served, Answer]:
        answer = await self._exchange.request(BUNDLE, problem=read_problem)
        self._served = served = self._exchange.read(BUNDLE, answer, lambda answer: read(answer, Served))
        return served, answer

    async def _similarity(
        self, encoded: Sequence[bytes], served: Served, members: bool, advance: Progress
    ) -> Similarity:
        """Return the results for all pairs, or stop as soon as two requests' bundles differ."""
        exchange = self._exchange
        head, tail = b'{"pairs":[', b'],"members":true}' if members else b"]}"
        max_pair_bytes = served.limits.max_body_bytes - len(head) - len(tail)
        limits = served.limits
        # A token takes four bytes or more, and a pair of short texts twice as many tokens as its bytes say.
        part_bytes = (
            max_pair_bytes if limits.max_tokens is None else min(max_pair_bytes, _BYTES_PER_TOKEN * limits.max_tokens)
        )
        parts = list(split([len(pair) for pair in encoded], limits.max_pairs, max_pair_bytes, part_bytes))
        bundles: set[str] = set()

        async def send(part: range) -> Similarity:
            body = head + b",".join(encoded[part.start : part.stop]) + tail
            answer = await exchange.request(
                SIMILARITY, body, problem=lambda answer: _shifted(read_problem(answer), part.start)
            )
            result = exchange.read(
                SIMILARITY, answer, lambda answer: read_similarity(answer, len(part), members=members)
            )
            bundles.add(result.bundle)
            if len(bundles) > 1:
                raise _BundleChangedError
            advance(len(part))
            return result

        return join(await exchange.wire.map(send, parts) or [served.nothing(members=members)])


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
        if i - start == min(max_pairs, PART_SIZE) or (num_bytes and num_bytes + size > part_bytes):
            yield range(start, i)
            start, num_bytes = i, 0
        num_bytes += size + 1
    if sizes:
        yield range(start, len(sizes))


def _shifted(problem: Problem, first_pair: int) -> Problem:
    """Return the problem with the index of its pair in the whole call."""
    param = problem.param and _PAIR_PLACE.sub(lambda match: f"pairs[{int(match[1]) + first_pair}]", problem.param)
    return problem.model_copy(update={"param": param})
