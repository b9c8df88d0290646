"""Memory for large answers: embeddings take a thousand times the bytes of their request, and may all be cached."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import orjson
from fastapi import Response

from serving.errors import OverloadedError

_SMALL_BYTES = 64 * 1024
"""Answers that are always made."""
_MAX_BYTES = 64 * 2**20


class Answers:
    """The large answers that are being made. Used by the event loop only."""

    def __init__(self) -> None:
        self._num_bytes = 0
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def reserve(self, num_bytes: int) -> AsyncIterator[None]:
        """Reserve memory for an answer of this size while it is made; one alone always gets it.

        Raises:
            OverloadedError: the others that are being made leave too little.
        """
        if num_bytes > _SMALL_BYTES and self._num_bytes and self._num_bytes + num_bytes > _MAX_BYTES:
            raise OverloadedError("too many large answers are being made, try again later", retry_after_s=1)
        self._num_bytes += num_bytes
        try:
            yield
        finally:
            self._num_bytes -= num_bytes

    async def render(self, body: Mapping[str, Any]) -> Response:
        """Return the body as JSON; it may hold arrays. One answer is rendered between two turns of other tasks."""
        async with self._turn:
            # Small requests, and the probes, have their turn before the next answer.
            await asyncio.sleep(0)
            return Response(orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY), media_type="application/json")
