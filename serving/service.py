"""The life of the service: loading, ready, draining."""

import asyncio
from collections.abc import Callable

from serving.engine import Engine
from serving.errors import NotReadyError
from serving.metrics import Metrics
from serving.settings import Settings
from simile.scoring import Scorer

Load = Callable[[], Scorer]


class Service:
    """What the routes share. Ready from the end of `open` to the beginning of `close`."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.failure: Exception | None = None
        """Why the bundle could not be loaded."""
        self.stopping = asyncio.Event()
        """Set once the process has to end: it was told to, or it has nothing to serve."""
        self._engine: Engine | None = None

    @property
    def engine(self) -> Engine:
        """The engine, while there is one that takes requests.

        Raises:
            NotReadyError: the bundle is still loading, or the service is about to end.
        """
        if self.stopping.is_set():
            raise NotReadyError("the server is about to end")
        if self._engine is None:
            raise NotReadyError("the bundle is still loading")
        return self._engine

    async def open(self, load: Load) -> None:
        """Load the bundle in a thread, so that the event loop answers meanwhile; keep the failure where it fails."""
        try:
            scorer = await asyncio.to_thread(load)
        # Nobody awaits this task: whoever runs the process looks at the failure, and raises it again.
        except Exception as error:  # noqa: BLE001
            self.failure = error
            self.stop()
            return
        settings = self.settings
        self._engine = Engine(
            scorer,
            self.metrics,
            max_waiting_tokens=settings.max_waiting_tokens,
            deadline_s=settings.deadline_s,
            cache_bytes=settings.cache_bytes,
        )
        self.metrics.describe(scorer)
        if not self.stopping.is_set():
            self.metrics.ready.set(1)

    def stop(self) -> None:
        """Take no more requests."""
        self.stopping.set()
        self.metrics.ready.set(0)

    async def close(self) -> None:
        """Take no more requests and wait for those that are here, as long as ``drain_s``."""
        self.stop()
        if self._engine:
            await self._engine.close(self.settings.drain_s)
