"""The life cycle of the service: loading, ready, draining."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial

from serving.answers import Answers
from serving.drift import Drift
from serving.engine import Engine
from serving.errors import NotReadyError
from serving.inference import tokens_per_s
from serving.metrics import Metrics
from serving.sampling import Sampling
from serving.settings import Settings
from serving.shadow import Shadow
from serving.trial import in_thread
from simile.errors import BundleError
from simile.scoring import Scorer

Load = Callable[[], Scorer]
Trial = Callable[[], Awaitable[str]]
"""Tries the bundle elsewhere and returns its digest, or raises the error by which it cannot be served."""

_HANDOVER_S = 0.5
"""Seconds after which every request that was given the old engine has reached it."""

_log = logging.getLogger(__name__)


class Service:
    """The state that the routes share: the engine, and whether requests should come."""

    def __init__(self, settings: Settings, load: Load, trial: Trial | None = None) -> None:
        self.settings = settings
        self._load, self._trial = load, trial
        self.metrics = Metrics()
        self.answers = Answers()
        self.failure: Exception | None = None
        """The error by which loading the bundle failed."""
        self.stopping = asyncio.Event()
        """Set once the process must end: it received a signal, or it has no bundle to serve."""
        self.is_leaving = False
        """Whether clients should connect elsewhere, although requests are still answered: SIGTERM has come."""
        self._engine: Engine | None = None
        self._loading = asyncio.Lock()
        self._is_reload_waiting = False
        self._trying: asyncio.Future[str] | None = None
        self._replaced: Engine | None = None
        """The previous engine, while it answers its last calls and the new one accepts requests."""
        self.shadow = Shadow(settings.shadow, settings, self.metrics.registry) if settings.shadow else None
        folder = settings.sample_folder
        self.sampling = Sampling(folder, settings, self.metrics.registry) if folder else None
        self.metrics.ready.set_function(lambda: self.is_ready)

    @property
    def engine(self) -> Engine:
        """The engine that accepts requests.

        Raises:
            NotReadyError: the bundle is still loading, or the service is shutting down.
        """
        if self.stopping.is_set():
            raise NotReadyError("the server is shutting down")
        if self._engine is None:
            raise NotReadyError("the bundle is still loading")
        return self._engine

    @property
    def is_ready(self) -> bool:
        """Whether `require_ready` would pass."""
        return self._engine is not None and not self.is_leaving and self._engine.health.fault is None

    def require_ready(self) -> None:
        """Raise a `NotReadyError` if `engine` does, while leaving, or while the engine makes no progress."""
        engine = self.engine
        if self.is_leaving:
            raise NotReadyError("the server is shutting down")
        if fault := engine.health.fault:
            if engine.health.is_failing:
                engine.probe()
            raise NotReadyError(fault)

    def require_alive(self) -> None:
        """Raise a `NotReadyError` if a fault of the engine lasts, so that the process should be replaced."""
        if self._engine and (fault := self._engine.health.lasting_fault):
            raise NotReadyError(fault)

    async def open(self) -> None:
        """Load the bundle; store the error if that fails."""
        async with self._loading:
            try:
                await self._load_next()
                self._follow()
            # Nobody awaits this task: the process reads the failure and raises it.
            except Exception as error:  # noqa: BLE001
                self.failure = error
                self.stop()

    async def reload(self) -> None:
        """Load the bundle's path again and serve the result; if that fails, the current bundle stays."""
        # A reload that is waiting already will load the newest files.
        if self._is_reload_waiting:
            return
        self._is_reload_waiting = True
        # What is being tried, perhaps for ever, is not the newest any more.
        if self._trying and self._engine:
            self._trying.cancel()
        async with self._loading:
            self._is_reload_waiting = False
            old = self._engine
            if old is None or self.stopping.is_set():
                return
            try:
                await self._load_next()
            except Exception as error:  # noqa: BLE001 - no error of the new bundle may stop the service
                _log.error("bundle not replaced: %s; %s stays", error, old.scorer.bundle.identity)
                self.metrics.loads.labels("refused").inc()
                return
            # The requests of the old engine have their full time. The next reload waits for them, so that at most two
            # bundles are in memory.
            self._replaced = old
            await asyncio.sleep(_HANDOVER_S)
            await old.close(self.settings.deadline_s)
            self._replaced = None
            self._follow()

    async def _load_next(self) -> None:
        digest = await self._tried(self._trial) if self._trial else None
        # Loading runs in a thread, so that the event loop goes on answering, with the old engine if there is one.
        try:
            scorer = await asyncio.wait_for(in_thread(self._load), self.settings.load_s)
        except TimeoutError as error:
            raise BundleError(f"the bundle was tried, but not loaded within {self.settings.load_s:g} s") from error
        if digest not in (None, scorer.bundle.manifest.digest):
            raise BundleError(f"{scorer.bundle.path}: got another bundle than the one that was tried, load it again")
        drift = Drift(self.settings.drift_folder, scorer.bundle.manifest.digest)
        # Without a trial, the scorer comes from the same process, as in tests.
        rate = await in_thread(partial(tokens_per_s, scorer)) if self._trial else 0.0
        if self.stopping.is_set():
            return
        self._engine = Engine(scorer, self.metrics, drift, self.settings, tokens_per_s=rate)
        self.metrics.describe(scorer, drift)
        self.metrics.loads.labels("served").inc()

    def _follow(self) -> None:
        """Have the shadow compare with the engine that is served now."""
        if self.shadow and self._engine and not self.stopping.is_set():
            self.shadow.follow(self._engine)

    async def _tried(self, trial: Trial) -> str:
        self._trying = asyncio.ensure_future(trial())
        try:
            return await self._trying
        except asyncio.CancelledError:
            if (task := asyncio.current_task()) and task.cancelling():
                raise
            raise BundleError("the trial was given up for a newer SIGHUP") from None
        finally:
            self._trying = None

    def leave(self) -> None:
        """Become unready, answer for ``linger_s`` more, then `stop`; a second call stops at once."""
        if self._engine is None or self.is_leaving or not self.settings.linger_s:
            self.stop()
            return
        self.is_leaving = True
        _log.info("leaving: requests are answered for %g s more", self.settings.linger_s)
        asyncio.get_running_loop().call_later(self.settings.linger_s, self.stop)

    def stop(self) -> None:
        """Accept no more requests."""
        if self._engine and not self.stopping.is_set():
            _log.info("stopping: up to %g s for the requests in progress", self.settings.drain_s)
        self.is_leaving = True
        self.stopping.set()

    async def close(self) -> None:
        """Accept no more requests, and wait up to ``drain_s`` for the current ones."""
        self.stop()
        if self.shadow:
            self.shadow.close()
        engines = [engine for engine in (self._replaced, self._engine) if engine]
        await asyncio.gather(*(engine.close(self.settings.drain_s) for engine in engines))
        if self.sampling:
            await self.sampling.close()
