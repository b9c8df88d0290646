"""The life of the service: loading, ready, draining."""

import asyncio
import logging
from collections.abc import Callable

from serving.drift import Drift
from serving.engine import Engine, EngineLimits
from serving.errors import NotReadyError
from serving.metrics import Metrics
from serving.settings import Settings
from simile.scoring import Scorer

Load = Callable[[], Scorer]

_HANDOVER_S = 0.5

_log = logging.getLogger(__name__)


class Service:
    """What the routes share. Ready from the end of `open` to the beginning of `close`.

    Args:
        settings: the limits.
        load: called in a thread for what to serve, again at each `reload`.
    """

    def __init__(self, settings: Settings, load: Load) -> None:
        self.settings = settings
        self._load = load
        self.metrics = Metrics()
        self.failure: Exception | None = None
        """Why the bundle could not be loaded."""
        self.stopping = asyncio.Event()
        """Set once the process has to end: it was told to, or it has nothing to serve."""
        self._engine: Engine | None = None
        self._loading = asyncio.Lock()
        self._is_reload_waiting = False
        self._replaced: Engine | None = None
        """The engine that still has calls to answer, while another takes the new ones."""

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

    async def open(self) -> None:
        """Load the bundle, and keep the failure where it fails."""
        async with self._loading:
            try:
                await self._load_next()
            # Nobody awaits this task: whoever runs the process looks at the failure, and raises it again.
            except Exception as error:  # noqa: BLE001
                self.failure = error
                self.stop()
                return
        if not self.stopping.is_set():
            self.metrics.ready.set(1)

    async def reload(self) -> None:
        """Serve what the bundle's path leads to now; where that cannot be served, what is served stays."""
        # One that waits already will load what is there then.
        if self._is_reload_waiting:
            return
        self._is_reload_waiting = True
        async with self._loading:
            self._is_reload_waiting = False
            old = self._engine
            if old is None or self.stopping.is_set():
                return
            try:
                await self._load_next()
            except Exception as error:  # noqa: BLE001 - whatever is wrong with the new one is no reason to stop
                _log.error("not replaced: %s; %s stays", error, old.scorer.bundle.identity)
                self.metrics.loads.labels("refused").inc()
                return
            # A request that was given the old engine a moment ago has come in there by then; all have their full time.
            # The next bundle waits for it: there is memory for two.
            self._replaced = old
            await asyncio.sleep(_HANDOVER_S)
            await old.close(self.settings.deadline_s)
            self._replaced = None

    async def _load_next(self) -> None:
        # In a thread: the event loop answers meanwhile, from the old engine where there is one.
        scorer = await asyncio.to_thread(self._load)
        if self.stopping.is_set():
            return
        settings = self.settings
        drift = Drift(settings.drift_folder, scorer.bundle.manifest.digest)
        self._engine = Engine(
            scorer,
            self.metrics,
            drift,
            EngineLimits(
                max_waiting_tokens=settings.max_waiting_tokens,
                deadline_s=settings.deadline_s,
                cache_bytes=settings.cache_bytes,
                refuse_long_texts=settings.long_texts == "refuse",
            ),
        )
        self.metrics.describe(scorer, drift)
        self.metrics.loads.labels("served").inc()

    def stop(self) -> None:
        """Take no more requests."""
        self.stopping.set()
        self.metrics.ready.set(0)

    async def close(self) -> None:
        """Take no more requests and wait for those that are here, as long as ``drain_s``."""
        self.stop()
        engines = [engine for engine in (self._replaced, self._engine) if engine]
        await asyncio.gather(*(engine.close(self.settings.drain_s) for engine in engines))
