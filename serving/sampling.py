"""A sample of the scored pairs, in Parquet files: what people label, so that figures are those of the traffic.

The unit is a pair of a request, so that a pair that is asked for twice may be drawn twice. Each is drawn by itself,
with the rate that its stratum (a bin of the score) has at that moment (Poisson sampling), and the rate is stored with
it. The rates adapt to the traffic: each stratum should give as many pairs, and all together their share. What was drawn
before an adaptation keeps its probability, so that sums over pairs, each times 1 / probability, are unbiased.

Shape suffixes: P = pairs of a call, K = drawn pairs, S = strata.
"""

import json
import logging
import secrets
import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry

from serving.metrics import SampleMetrics
from serving.settings import Settings
from serving.trial import in_thread
from simile.artifacts.sampled_pairs import HASHED, parquet_bytes
from simile.artifacts.strata import STRATA, equal_shares, strata_of
from simile.artifacts.texts import text_hash
from simile.errors import InputError
from simile.files import sweep, temporary_beside, write_whole
from simile.scoring import Pairs, Scored

if TYPE_CHECKING:
    import pyarrow as pa

SAMPLING_THREAD = "sampling"
"""The name of the thread that writes the files."""
_PREFIX = "sampled-"
_FLUSH_S = 300.0
"""Seconds after which drawn pairs are written at the latest."""
_FILE_BYTES = 4 * 2**20
"""Memory of the drawn pairs at which a file is written early."""
_MAX_WAITING_BYTES = 2 * _FILE_BYTES
"""Memory of the drawn pairs that wait while a file is being written; others are dropped and counted."""
_BYTES_PER_PAIR = 1000
"""Memory of a drawn pair besides its texts."""
_CLOSE_S = 5.0
"""Seconds that the last file may take: a volume that hangs must not keep the process."""
_MAX_FACTOR = 100.0
"""Highest rate of a stratum, as a multiple of the share: scores that suddenly come often must not flood the sample."""
_PAIRS_PER_ADAPTATION = 1000
_MEMORY_PAIRS = 100_000
"""Pairs after which what the traffic was like before counts half."""

_log = logging.getLogger(__name__)


class Rates:
    """The sampling rate of each stratum. Not thread-safe."""

    def __init__(self, share: float, *, seed: int | None = None) -> None:
        self._share, self._max = share, min(1.0, _MAX_FACTOR * share)
        self._random = np.random.default_rng(seed)
        self._count_S = np.zeros(len(STRATA))
        self._num_new = 0
        self.rate_S = np.full(len(STRATA), share)

    def draw(self, score_P: NDArray[np.floating]) -> tuple[list[int], list[int], list[float]]:
        """Return the indices of the drawn pairs, their strata, and the probability with which each was drawn."""
        stratum_P = strata_of(score_P)
        probability_P = self.rate_S[stratum_P]
        (drawn_K,) = (self._random.random(len(stratum_P)) < probability_P).nonzero()
        # The rates depend on earlier calls only: what decides about a pair must not depend on the pair.
        self._count_S += np.bincount(stratum_P, minlength=len(STRATA))
        self._num_new += len(stratum_P)
        if self._num_new >= _PAIRS_PER_ADAPTATION:
            self._adapt()
        if not len(drawn_K):
            return [], [], []
        return drawn_K.tolist(), stratum_P[drawn_K].tolist(), probability_P[drawn_K].tolist()

    def _adapt(self) -> None:
        self._num_new = 0
        # One more than was counted: of a stratum without traffic nothing is known.
        count_S = self._count_S + 1
        rate_S = equal_shares(self._max * count_S, self._share * count_S.sum()) / count_S
        # Rounding may lead past a probability of 1.
        self.rate_S = np.minimum(rate_S, self._max)
        if self._count_S.sum() > 2 * _MEMORY_PAIRS:
            self._count_S /= 2


class Sampling:
    """The sample of a service. The event loop draws; a thread writes what was drawn."""

    def __init__(self, folder: Path, settings: Settings, registry: CollectorRegistry) -> None:
        """Start the thread.

        Raises:
            InputError: the folder cannot be written, or pyarrow is not installed.
        """
        self._folder, self._settings = folder, settings
        self._schema = _schema(is_hashed=settings.sample_hashed)
        # The first file would import what pyarrow imports late, such as pandas, while requests are answered.
        parquet_bytes([{}], self._schema)
        _require_writable(folder)
        self._metrics = SampleMetrics(registry)
        self._rates = Rates(settings.sample_share)
        self._rows: list[dict[str, Any]] = []
        self._num_bytes = 0
        self._changed = threading.Condition()
        self._is_closed = False
        self._failure = ""
        self._thread = threading.Thread(target=self._run, name=SAMPLING_THREAD, daemon=True)
        self._thread.start()

    def offer(self, pairs: Pairs, scored: Scored, *, bundle: str, key: str) -> None:
        """Draw from the pairs of an answered call; ``bundle`` scored them for the owner of this ``key`` name."""
        drawn = self._rates.draw(scored.score_P)
        if not drawn[0]:
            return
        now = datetime.now(UTC)
        for i, stratum, probability in zip(*drawn, strict=True):
            row = {
                "text_a": pairs[i][0],
                "text_b": pairs[i][1],
                "bundle_score": float(scored.score_P[i]),
                "member_scores": {name: round(float(score_P[i]), 6) for name, score_P in scored.members.items()},
                "bundle": bundle,
                "key": key or None,
                "time": now,
                "stratum": STRATA[stratum],
                "inclusion_probability": probability,
            }
            self._hold(row, _BYTES_PER_PAIR + sum(len(text) * (1 if text.isascii() else 4) for text in pairs[i]))

    async def close(self) -> None:
        """Write what was drawn, and end the thread; what is offered afterwards is dropped."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        await in_thread(partial(self._thread.join, _CLOSE_S))

    def _hold(self, row: dict[str, Any], num_bytes: int) -> None:
        """Have the row written with the next file, unless too much waits already."""
        with self._changed:
            if self._is_closed or self._num_bytes + num_bytes > _MAX_WAITING_BYTES:
                self._metrics.dropped.inc()
                return
            self._rows.append(row)
            self._num_bytes += num_bytes
            if self._num_bytes >= _FILE_BYTES:
                self._changed.notify()

    def _run(self) -> None:
        is_closed = False
        while not is_closed:
            with self._changed:
                self._changed.wait_for(lambda: self._is_closed or self._num_bytes >= _FILE_BYTES, _FLUSH_S)
                rows, self._rows, self._num_bytes = self._rows, [], 0
                is_closed = self._is_closed
            if rows:
                self._write(rows)

    def _write(self, rows: list[dict[str, Any]]) -> None:
        try:
            data = parquet_bytes([_stored(row, is_hashed=self._settings.sample_hashed) for row in rows], self._schema)
            self._make_room(len(data))
            name = f"{_PREFIX}{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}-{secrets.token_hex(4)}.parquet"
            write_whole(self._folder / name, data)
        # Sampling must not harm the service, whatever is wrong. The message of an unknown error may have a text.
        except Exception as error:  # noqa: BLE001
            self._metrics.dropped.inc(len(rows))
            failure = str(getattr(error, "strerror", None) or type(error).__name__)
            if failure != self._failure:
                _log.warning("%s: sampled pairs cannot be written (%s)", self._folder, failure)
            self._failure = failure
        else:
            self._metrics.written.inc(len(rows))
            self._failure = ""

    def _make_room(self, num_bytes: int) -> None:
        """Delete the oldest files until a new one of this size is within the limit."""
        # Other replicas may write into the folder, and delete from it.
        sizes = {path: _size(path) for path in sorted(self._folder.glob(f"{_PREFIX}*.parquet"))}
        total = sum(sizes.values()) + num_bytes
        for path, size in sizes.items():
            if total <= self._settings.sample_bytes:
                return
            path.unlink(missing_ok=True)
            total -= size


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _stored(row: Mapping[str, Any], *, is_hashed: bool) -> dict[str, Any]:
    """Return the row as it is stored."""
    stored = {**row, "member_scores": json.dumps(row["member_scores"])}
    if is_hashed:
        stored |= {name: text_hash(stored.pop(text)) for name, text in zip(HASHED, ("text_a", "text_b"), strict=True)}
    return stored


def _schema(*, is_hashed: bool) -> "pa.Schema":
    """Return the columns of the files; importing pyarrow takes a while, so this is not left to the first file."""
    try:
        import pyarrow as pa
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        need = "pyarrow, which is not installed: pip install 'simile-pairs[bulk]'"
        raise InputError(f"--sample-folder needs {need}") from error
    texts: Sequence[str] = HASHED if is_hashed else ("text_a", "text_b")
    types = dict.fromkeys((*texts, "member_scores", "bundle", "key", "stratum"), pa.string())
    types |= {"bundle_score": pa.float32(), "inclusion_probability": pa.float64(), "time": pa.timestamp("ms", "UTC")}
    return pa.schema(types)


def _require_writable(folder: Path) -> None:
    """Make the folder, remove what killed processes left in it, and refuse one that cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        sweep(folder)
        with temporary_beside(folder / _PREFIX):
            pass
    except OSError as error:
        raise InputError(f"--sample-folder: {folder} cannot be written ({error.strerror})") from error
