"""A shadow bundle: it scores a share of the calls again, so that live traffic tells how it would differ.

It works in a thread of its own, on a few pairs at a time, while the engine has nothing to do. Calls that it has no time
for are dropped and counted.
"""

import asyncio
import logging
import random
import threading
from collections import deque
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry

from serving.engine import Engine
from serving.metrics import ShadowMetrics
from serving.schemas import ShadowSummary
from serving.settings import Settings
from serving.trial import in_thread, try_bundle
from simile.scoring import Pairs, Scorer
from simile.scoring.trial import load_warm

RECENT = 2_000
"""Number of most recent pairs that a summary describes."""
MIN_RECENT = 100
"""Pairs that a rank agreement needs: that of fewer says little."""
SHADOW_THREAD = "shadow"
"""The name of a comparison's thread."""
_CHARACTERS_AT_ONCE = 2048
"""About one batch. A request that arrives meanwhile shares the processor with it."""
_MAX_WAITING_BYTES = 16 * 2**20
_BYTES_PER_TEXT = 150
"""Memory of a text's Python objects besides its characters."""
_REST_S = 0.01
"""Seconds without work after which the engine counts as idle: between the calls of a busy client there are fewer."""

_log = logging.getLogger(__name__)

_Call = tuple[Pairs, NDArray[np.float32]]
"""The pairs of a call and their served scores, shape ``(P,)``."""


class Shadow:
    """The shadow of a service: it follows the served engine. Used by the event loop only."""

    def __init__(self, path: Path, settings: Settings, registry: CollectorRegistry) -> None:
        self._path, self._settings, self._metrics = path, settings, ShadowMetrics(registry)
        self._scorer: Scorer | None = None
        self._comparison: Comparison | None = None
        self._ending: threading.Thread | None = None
        """The thread of the last comparison, which may still use the scorer."""
        self._loading: asyncio.Task[None] | None = None
        self._metrics.rank_agreement.set_function(self._rank_agreement)

    def follow(self, engine: Engine) -> None:
        """Compare with this engine from now on, once the path is loaded again where it holds another bundle."""
        self.close()
        self._loading = asyncio.create_task(self._load(engine))

    def offer(self, engine: Engine, pairs: Pairs, score_P: NDArray[np.float32]) -> None:
        """Have a call that the engine has answered scored later, if chance and the shadow's load allow it."""
        if self._comparison and self._comparison.engine is engine and random.random() < self._settings.shadow_share:
            self._comparison.offer(pairs, score_P)

    def summary(self) -> ShadowSummary | None:
        """Return how the shadow differs on the most recent pairs; None while nothing is compared."""
        return self._comparison.summary(self._settings.shadow_share) if self._comparison else None

    def close(self) -> None:
        """Stop comparing and loading."""
        if self._loading:
            self._loading.cancel()
        if self._comparison:
            self._comparison.close()
            self._ending, self._comparison = self._comparison.thread, None

    def _rank_agreement(self) -> float:
        summary = self.summary()
        return np.nan if summary is None or summary.rank_agreement is None else summary.rank_agreement

    async def _load(self, engine: Engine) -> None:
        """Begin the comparison; a bundle that cannot be loaded is logged, and leaves the service without a shadow."""
        settings = self._settings
        try:
            if self._ending:
                await asyncio.wait_for(in_thread(self._ending.join), settings.load_s)
            current = self._scorer
            digest = await try_bundle(self._path, settings)
            if digest == engine.scorer.bundle.manifest.digest:
                self._scorer = None
                _log.info("%s: the shadow is the served bundle, so there is nothing to compare", self._path)
                return
            if current is None or digest != current.bundle.manifest.digest:
                # The old one makes room first.
                self._scorer = current = None
                load = partial(load_warm, self._path, settings.device, settings.precision, settings.verify_key)
                self._scorer = await asyncio.wait_for(in_thread(load), settings.load_s)
        except TimeoutError:
            _log.error("no shadow: %s was not loaded within %g s", self._path, settings.load_s)
        # Nobody awaits this task, and no error of the shadow may stop the service.
        except Exception as error:  # noqa: BLE001
            _log.error("no shadow: %s", error)
        else:
            assert self._scorer
            self._comparison = Comparison(self._scorer, engine, self._metrics)
            _log.info("shadow: %s on %s", self._scorer.bundle.identity, self._scorer.runtime)


class Comparison:
    """The calls that wait for a shadow's scores, and how those differ from the engine's. Safe to use from any thread.

    Its thread is the only one that uses the scorer.
    """

    def __init__(self, scorer: Scorer, engine: Engine, metrics: ShadowMetrics) -> None:
        self.engine = engine
        self._scorer, self._metrics = scorer, metrics
        thresholds = [of.bundle.manifest.thresholds for of in (engine.scorer, scorer)]
        self._thresholds = [of.best_f1 for of in thresholds if of] if all(thresholds) else None
        self._calls: deque[_Call] = deque()
        self._num_bytes = 0
        self._recent: deque[tuple[float, float]] = deque(maxlen=RECENT)
        """The served score and the shadow's, by pair."""
        self._changed = threading.Condition()
        self._is_closed = threading.Event()
        metrics.describe(scorer.bundle.manifest)
        self.thread = threading.Thread(target=self._run, name=SHADOW_THREAD, daemon=True)
        self.thread.start()

    def offer(self, pairs: Pairs, score_P: NDArray[np.float32]) -> None:
        """Have the call scored when there is time, unless too much waits already."""
        with self._changed:
            num_bytes = self._num_bytes + _num_bytes(pairs)
            if num_bytes > _MAX_WAITING_BYTES:
                self._metrics.calls.labels("dropped").inc()
                return
            self._num_bytes = num_bytes
            self._calls.append((pairs, score_P))
            self._changed.notify()

    def summary(self, share: float) -> ShadowSummary:
        """Return the differences on the most recent pairs, and the share of the calls that is compared."""
        with self._changed:
            recent_P2 = np.array(self._recent).reshape(-1, 2)
        manifest = self._scorer.bundle.manifest
        difference_P = recent_P2[:, 1] - recent_P2[:, 0]
        agreement = rank_agreement(recent_P2) if len(recent_P2) >= MIN_RECENT else np.nan
        has_crossed_P = self._has_crossed(recent_P2)
        return ShadowSummary(
            name=manifest.name,
            digest=manifest.digest,
            share=share,
            pairs=len(recent_P2),
            mean_difference=float(difference_P.mean()) if len(recent_P2) else None,
            rank_agreement=float(agreement) if np.isfinite(agreement) else None,
            crossing_share=float(has_crossed_P.mean()) if has_crossed_P is not None and len(recent_P2) else None,
        )

    def close(self) -> None:
        """Forget the calls that wait; the thread ends after the pairs that it is scoring."""
        self._is_closed.set()
        with self._changed:
            self._calls.clear()
            self._changed.notify()

    def _run(self) -> None:
        has_failed = False
        for pairs, served_P in self._waiting():
            try:
                shadow_P = self._score(pairs)
            # A shadow must not harm the service, whatever is wrong with it. (A panic in Rust is not an Exception.)
            except BaseException as error:  # noqa: BLE001
                self._metrics.calls.labels("failed").inc()
                if not has_failed:
                    _log.warning("the shadow fails on a call: %s", type(error).__name__)
                has_failed = True
                continue
            has_failed = False
            if shadow_P is not None:
                self._compare(np.column_stack([served_P, shadow_P]))

    def _waiting(self) -> Iterator[_Call]:
        """Yield each call that waits, until the comparison is closed."""
        while not self._is_closed.is_set():
            with self._changed:
                self._changed.wait_for(lambda: self._calls or self._is_closed.is_set())
                call = self._calls.popleft() if self._calls else None
            if call:
                yield call
                with self._changed:
                    self._num_bytes -= _num_bytes(call[0])

    def _score(self, pairs: Pairs) -> NDArray[np.float32] | None:
        """Return the shadow's scores, computed while the engine is idle; None if the comparison was closed."""
        scores = []
        for some in _in_portions(pairs):
            while self.engine.idle_s < _REST_S:
                if self._is_closed.wait(_REST_S):
                    return None
            scores.append(self._scorer.score(some))
        return np.concatenate(scores)

    def _compare(self, score_P2: NDArray[np.float32]) -> None:
        with self._changed:
            self._recent.extend((float(served), float(shadow)) for served, shadow in score_P2)
        self._metrics.count_scored(score_P2[:, 1] - score_P2[:, 0], self._has_crossed(score_P2))

    def _has_crossed(self, score_P2: NDArray[np.floating]) -> NDArray[np.bool_] | None:
        """Return whether the two bundles decide differently, each by its threshold; None where one has none."""
        if self._thresholds is None:
            return None
        is_above_P2 = score_P2 >= np.array(self._thresholds)
        return np.asarray(is_above_P2[:, 0] != is_above_P2[:, 1])


def rank_agreement(score_P2: NDArray[np.floating]) -> float:
    """Return the Spearman correlation of two scores per pair; NaN if one is constant."""
    # The service has no scipy.
    ranks = []
    for score_P in score_P2.T:
        _, index_P, count_V = np.unique(score_P, return_inverse=True, return_counts=True)
        ranks.append((np.cumsum(count_V) - (count_V - 1) / 2)[index_P])
    with np.errstate(invalid="ignore"):
        correlation_22: NDArray[np.float64] = np.corrcoef(np.stack(ranks))
    return float(correlation_22[0, 1])


def _in_portions(pairs: Pairs) -> Iterator[Pairs]:
    """Yield the pairs in portions of about `_CHARACTERS_AT_ONCE`, each of at least one pair."""
    begin = num_characters = 0
    for end, pair in enumerate(pairs, 1):
        num_characters += len(pair[0]) + len(pair[1])
        if num_characters >= _CHARACTERS_AT_ONCE or end == len(pairs):
            yield pairs[begin:end]
            begin, num_characters = end, 0


def _num_bytes(pairs: Pairs) -> int:
    """Return the memory of the pairs, with four bytes per character at most."""
    return sum(_BYTES_PER_TEXT + len(text) * (1 if text.isascii() else 4) for pair in pairs for text in pair)
