"""The service's Prometheus metrics, in base units, with names that begin with ``simile_``."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from time import perf_counter

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector

from serving.drift import EDGES, Drift
from serving.health import Health
from serving.job_queue import JobQueue
from simile.artifacts import Manifest
from simile.scoring import Scored, Scorer
from simile.version import __version__

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_TEXTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
_TOKENS = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)
_GAPS = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 1.0)
_SHARES = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7)
_DIFFERENCES = (-0.3, -0.2, -0.1, -0.05, -0.02, 0.0, 0.02, 0.05, 0.1, 0.2, 0.3)
_SCORES = (-0.2, -0.1, 0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


class _EngineMetrics:
    """How much waits for the engine, and how it works."""

    def __init__(self, registry: CollectorRegistry) -> None:
        gauge = partial(Gauge, registry=registry)
        self.waiting_tokens = gauge("simile_waiting_tokens", "Tokens of the requests that wait for an answer.")
        text = "Tokens of such requests beyond which others are refused."
        self.max_waiting_tokens = gauge("simile_max_waiting_tokens", text)
        self.threads = gauge("simile_inference_threads", "Batches that the service computes side by side.")
        self.oldest = gauge("simile_waiting_oldest_seconds", "Age of the text that has waited longest.")
        text = "1 while the engine makes no progress (docs/runbooks.md), else 0; load alone does not set it."
        self.fault = gauge("simile_fault", text)


class Metrics:
    """The metrics of one application, in a registry of its own. Safe to use from any thread."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        counter, gauge = partial(Counter, registry=self.registry), partial(Gauge, registry=self.registry)
        histogram, info = partial(Histogram, registry=self.registry), partial(Info, registry=self.registry)

        self.requests = counter("simile_requests", "Requests answered.", ["route", "code"])
        self._key_requests, self._key_tokens = (
            counter("simile_key_requests", "Requests answered, by the name of their key.", ["key", "code"]),
            counter("simile_key_tokens", "Tokens of the requests, by the name of their key.", ["key"]),
        )
        text = "Time from the first byte of a request to the last byte of its response."
        self.request_seconds = histogram("simile_request_duration_seconds", text, ["route"], buckets=_SECONDS)
        text = "Time to receive, parse, tokenize, wait (queue; the longest of a batch), run the model (infer), combine."
        self.stage_seconds = histogram("simile_stage_duration_seconds", text, ["stage"], buckets=_SECONDS)
        # The autoscaler asks for it, also before the first request.
        self.stage_seconds.labels("infer")
        self.ready = gauge("simile_ready", "1 while /readyz says that the service is ready, else 0.")
        self._engine = _EngineMetrics(self.registry)

        self._batch_texts = histogram("simile_batch_texts", "Texts per batch.", buckets=_TEXTS)
        self._batch_tokens = histogram("simile_batch_tokens", "Tokens per batch, without padding.", buckets=_TOKENS)
        self._batch_padding = histogram("simile_batch_padding_ratio", "Share of padding per batch.", buckets=_SHARES)
        text = "Distinct texts per request and encoder: computed for it, cached, or shared with a request that waited."
        texts = counter("simile_texts", text, ["source"])
        self._texts = {source: texts.labels(source) for source in ("computed", "cached", "shared")}
        self.tokens = counter("simile_tokens", "Tokens of those texts, summed over the encoders.")
        text = "Tokens among those that stand for something that the encoder's tokenizer does not know."
        self.unknown_tokens = counter("simile_unknown_tokens", text)
        self.truncated_texts = counter("simile_truncated_texts", "Texts that are longer than an encoder reads.")

        self.pairs = counter("simile_pairs", "Pairs scored.")
        self.scores = histogram("simile_score", "Scores by member.", ["member"], buckets=_SCORES)
        text = "Highest minus lowest score of the members, per pair."
        self.disagreement = histogram("simile_member_disagreement", text, buckets=_GAPS)
        text = "Population stability index of recent scores and lengths against the first ones; NaN until known."
        self._drift = gauge("simile_drift_index", text, ["of"])

        text = "Bundles loaded, by result: served, or refused, so that the previous bundle stays."
        self.loads = counter("simile_bundle_loads", text, ["result"])
        # The series exist from the start: Prometheus sees no increase in a counter that is 1 when it first appears.
        for result in ("served", "refused"):
            self.loads.labels(result)
        text = "Encoders of the served bundle; simile_texts counts each text once per encoder."
        self._encoders = gauge("simile_bundle_encoders", text)
        self._bundle = info("simile_bundle", "The served bundle.")
        self._provider = info("simile_provider", "Execution provider and precision of the served bundle.")
        info("simile_build", "Version of the service.").info({"version": __version__})

    def describe(self, scorer: Scorer, drift: Drift) -> None:
        """Describe the served bundle, its runtime and its drift."""
        for of in EDGES:
            self._drift.labels(of).set_function(partial(drift.index, of))
        manifest, runtime = scorer.bundle.manifest, scorer.runtime
        self._engine.threads.set(runtime.batches_at_once)
        self._encoders.set(sum(member.kind == "encoder" for member in manifest.members))
        self._bundle.info({"name": manifest.name, "digest": manifest.digest})
        self._provider.info({"provider": runtime.provider, "precision": runtime.precision})

    def sample(self, queue: JobQueue, health: Health) -> None:
        """Read the length and the age of the queue, and the engine's health, at every scrape."""
        self._engine.waiting_tokens.set_function(lambda: queue.held_tokens)
        self._engine.max_waiting_tokens.set_function(lambda: queue.max_tokens)
        self._engine.oldest.set_function(queue.max_age_s)
        self._engine.fault.set_function(lambda: health.fault is not None)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure the time of a stage."""
        start = perf_counter()
        yield
        self.stage_seconds.labels(name).observe(perf_counter() - start)

    def count_of_key(self, name: str, status: int, num_tokens: int) -> None:
        """Count a request with a key of this name."""
        self._key_requests.labels(name, str(status)).inc()
        self._key_tokens.labels(name).inc(num_tokens)

    def count_texts(self, **sources: int) -> None:
        """Count the texts of one request by the source of their embeddings."""
        for source, num_texts in sources.items():
            self._texts[source].inc(num_texts)

    def count_batch(self, num_texts: int, num_tokens: int, num_padded: int, seconds: float) -> None:
        """Record a batch; ``num_padded`` is its number of tokens including padding."""
        self._batch_texts.observe(num_texts)
        self._batch_tokens.observe(num_tokens)
        self._batch_padding.observe(1 - num_tokens / max(num_padded, 1))
        self.stage_seconds.labels("infer").observe(seconds)

    def count_scored(self, scored: Scored) -> None:
        """Count the pairs of one request and record their scores."""
        self.pairs.inc(len(scored.score_P))
        for name, score_P in scored.members.items():
            histogram = self.scores.labels(name)
            for score in score_P.tolist():
                histogram.observe(score)
        if len(scored.members) > 1:
            for gap in np.ptp(list(scored.members.values()), axis=0).tolist():
                self.disagreement.observe(gap)


class SampleMetrics:
    """The metrics of the sample. Safe to use from any thread."""

    def __init__(self, registry: CollectorRegistry) -> None:
        text = "Pairs drawn for the sample: written, or dropped because the disk was too slow, full or failed."
        pairs = Counter("simile_sampled_pairs", text, ["result"], registry=registry)
        self.written, self.dropped = pairs.labels("written"), pairs.labels("dropped")


class ShadowMetrics:
    """The metrics of a shadow bundle. Safe to use from any thread."""

    def __init__(self, registry: CollectorRegistry) -> None:
        text = "Calls that the shadow bundle was given: scored, dropped for lack of time, or failed."
        self.calls = Counter("simile_shadow_calls", text, ["result"], registry=registry)
        for result in ("scored", "dropped", "failed"):
            self.calls.labels(result)
        text = "The shadow bundle's score minus the served one."
        self._difference = Histogram("simile_shadow_difference", text, buckets=_DIFFERENCES, registry=registry)
        text = "Pairs on which the shadow bundle decides differently, each bundle by its own threshold."
        self._crossings = Counter("simile_shadow_crossings", text, registry=registry)
        text = "Spearman correlation of the shadow bundle's recent scores and the served ones; NaN until known."
        self.rank_agreement = Gauge("simile_shadow_rank_agreement", text, registry=registry)
        self._bundle = Info("simile_shadow_bundle", "The shadow bundle.", registry=registry)

    def describe(self, manifest: Manifest) -> None:
        """Describe the shadow bundle."""
        self._bundle.info({"name": manifest.name, "digest": manifest.digest})

    def count_scored(self, difference_P: NDArray[np.float32], has_crossed_P: NDArray[np.bool_] | None) -> None:
        """Count a call and its differences; ``has_crossed_P`` is None where a bundle has no threshold."""
        self.calls.labels("scored").inc()
        for difference in difference_P.tolist():
            self._difference.observe(difference)
        if has_crossed_P is not None:
            self._crossings.inc(int(has_crossed_P.sum()))
