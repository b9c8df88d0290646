"""The inference threads: batches come from the `JobQueue` and go back to the event loop through `Results`.

A free thread takes what is ready at once. The device never waits for a batch to fill, so texts share a batch only under
load.
"""

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from time import perf_counter

import numpy as np

from serving.call import Results
from serving.health import Health
from serving.job_queue import BatchLimits, Job, JobQueue
from serving.metrics import Metrics
from simile.scoring import Encoder, Runtime, Scorer

_LIMITS = {
    "CPU": BatchLimits(max_tokens=512, max_padding=128),
    "OpenVINO": BatchLimits(max_tokens=2048, max_padding=32),
    "CUDA": BatchLimits(max_tokens=32768, max_padding=4096),
}
"""Limits per execution provider. Those for CPU fit a core's cache and a graph that skips padding except in attention;
those for CUDA are not measured yet."""
_MEASURED_TOKENS = 30
"""Tokens per text of a measured batch, without those that begin and end a text."""
_MEASUREMENTS = 3

_log = logging.getLogger(__name__)


def batch_limits(runtime: Runtime) -> BatchLimits:
    """Return the limits that make the most of the runtime."""
    return replace(_LIMITS[runtime.provider.removesuffix("ExecutionProvider")], min_share=runtime.few_tokens)


def tokens_per_s(scorer: Scorer) -> float:
    """Return the throughput of the scorer's encoders on full batches, all threads together; 0 without encoders."""
    encoders = [member for member in scorer.members if isinstance(member, Encoder)]
    num_tokens = batch_limits(scorer.runtime).max_tokens
    seconds = 0.0
    for encoder in encoders:
        (text,) = encoder.tokenize([" ".join(["word"] * _MEASURED_TOKENS)])
        ids = [text.ids] * max(1, num_tokens // len(text.ids))
        times = []
        for _ in range(_MEASUREMENTS):
            start = perf_counter()
            encoder.embed_batch(ids)
            times.append((perf_counter() - start) / (len(ids) * len(text.ids)))
        seconds += min(times)
    return scorer.runtime.batches_at_once * len(encoders) / seconds if encoders else 0.0


@dataclass
class Inference:
    """Threads that run the encoders, as many as the runtime runs batches side by side, until the queue is closed."""

    encoders: Sequence[Encoder]
    runtime: Runtime
    queue: JobQueue
    results: Results
    metrics: Metrics
    health: Health

    def __post_init__(self) -> None:
        # Daemon threads, so that an engine that was never closed does not keep its process alive.
        self.health.threads = [
            threading.Thread(target=self._run, name="inference", daemon=True)
            for _ in range(self.runtime.batches_at_once)
        ]
        for thread in self.health.threads:
            thread.start()

    def _run(self) -> None:
        while jobs := self.queue.take():
            start = perf_counter()
            self.metrics.stage_seconds.labels("queue").observe(start - min(job.arrived for job in jobs))
            num_tokens = sum(job.num_tokens for job in jobs)
            self.health.begin(num_tokens)
            has_succeeded = self._compute(jobs)
            self.health.end(has_succeeded=has_succeeded)
            seconds = perf_counter() - start
            self.metrics.count_batch(len(jobs), num_tokens, jobs[0].num_tokens * len(jobs), seconds)
        self.health.threads = ()

    def _compute(self, jobs: Sequence[Job]) -> bool:
        """Send on the embeddings of the jobs, or the error of each that fails; return whether none has failed."""
        encoder = self.encoders[jobs[0].encoder]
        try:
            embedding_BD = encoder.embed_batch([job.ids for job in jobs if job.ids is not None])
        # A text that breaks the model must fail only its own calls.
        except Exception as error:  # noqa: BLE001
            if len(jobs) > 1:
                _log.warning("a batch of %d texts failed (%s); each text is now computed alone", len(jobs), error)
                for job in jobs:
                    self._compute([job])
            else:
                self.results.post(self.results.on_failed, jobs[0], error)
                self._check(encoder)
            return False
        if is_finite := bool(np.isfinite(embedding_BD).all()):
            self.health.note_check(encoder.name, has_passed=True)
        else:
            self._check(encoder)
        self.results.post(self.results.on_embedded, jobs, embedding_BD)
        return is_finite

    def _check(self, encoder: Encoder) -> None:
        """Find out whether the encoder fails on good texts too, after it has failed on one that may be bad."""
        try:
            encoder.check()
        except Exception as error:  # noqa: BLE001 - whatever it is, the encoder does not work
            _log.error("a check of the encoder has failed: %s", error)
            self.health.note_check(encoder.name, has_passed=False)
        else:
            self.health.note_check(encoder.name, has_passed=True)
