"""Turns on the event loop: work that takes time is spread over its iterations, and the probes are answered between.

All that is ready runs in one iteration of the event loop. Without turns, the requests of hundreds of clients that
arrive together would keep everybody else, and the probes, waiting until the last of them is done.
"""

import asyncio
from collections import deque

COST_PER_ITERATION = 32 * 1024
"""Bytes of requests, or as much work, that begins in one iteration of the event loop: a few milliseconds."""
COST_OF_REQUEST = 2048
"""Bytes whose work takes about as long as that of any request besides."""


class Turns:
    """Lets work begin in the order in which it was announced. Used by the event loop only.

    Each iteration of the event loop has the work that fits `COST_PER_ITERATION`, or one piece that costs more.
    """

    def __init__(self) -> None:
        self._waiting: deque[tuple[asyncio.Future[None], int]] = deque()
        self._left = COST_PER_ITERATION
        self._is_counting = False

    def next(self, cost: int) -> asyncio.Future[None]:
        """Return a future that completes when it is the turn of this work; it has completed if nothing waits."""
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        if self._left > 0 and not self._waiting:
            self._left -= cost
            turn.set_result(None)
        else:
            self._waiting.append((turn, cost))
        if not self._is_counting:
            self._is_counting = True
            loop.call_soon(self._pass_on)
        return turn

    def _pass_on(self) -> None:
        """Begin another iteration."""
        self._left = COST_PER_ITERATION
        while self._waiting and self._left > 0:
            turn, cost = self._waiting.popleft()
            # Whoever has given up needs no turn.
            if not turn.done():
                turn.set_result(None)
                self._left -= cost
        self._is_counting = self._left < COST_PER_ITERATION
        if self._is_counting:
            asyncio.get_running_loop().call_soon(self._pass_on)
