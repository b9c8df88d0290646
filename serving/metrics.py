"""What Prometheus is told, in base units, under names that begin with ``simile_``."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from time import perf_counter

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector

from serving.drift import EDGES, Drift
from serving.job_queue import JobQueue
from simile.scoring import Scored, Scorer
from simile.version import __version__

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_TEXTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
_TOKENS = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)
_GAPS = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 1.0)
_SHARES = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7)
_SCORES = (-0.2, -0.1, 0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


class Metrics:
    """The metrics of one application, in a registry of their own. Safe to use from any thread."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Counter("simile_requests", "Requests answered.", ["route", "code"], registry=self.registry)
        self.request_seconds = Histogram(
            "simile_request_duration_seconds",
            "From a request's first byte to its answer's last.",
            ["route"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.stage_seconds = Histogram(
            "simile_stage_duration_seconds",
            "Receive a request, parse it; tokenize texts; a batch's longest wait (queue), its model (infer); combine.",
            ["stage"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._batch_texts = Histogram("simile_batch_texts", "Texts of a batch.", buckets=_TEXTS, registry=self.registry)
        self._batch_tokens = Histogram(
            "simile_batch_tokens", "Tokens of a batch, without padding.", buckets=_TOKENS, registry=self.registry
        )
        self._batch_padding = Histogram(
            "simile_batch_padding_ratio", "Share of padding in a batch.", buckets=_SHARES, registry=self.registry
        )
        self.pairs = Counter("simile_pairs", "Pairs scored.", registry=self.registry)
        self._texts = Counter(
            "simile_texts",
            "Different texts of each request, by where their embeddings came from: computed for it, cached, or shared "
            "with a request that waited for them already. Each encoder counts.",
            ["source"],
            registry=self.registry,
        )
        for source in ("computed", "cached", "shared"):
            self._texts.labels(source)
        self.tokens = Counter("simile_tokens", "Tokens of those texts, over members.", registry=self.registry)
        self.truncated_texts = Counter(
            "simile_truncated_texts", "Texts longer than some member reads.", registry=self.registry
        )
        self.scores = Histogram(
            "simile_score", "Scores, by member.", ["member"], buckets=_SCORES, registry=self.registry
        )
        self.disagreement = Histogram(
            "simile_member_disagreement",
            "Of each pair, the highest member's score less the lowest.",
            buckets=_GAPS,
            registry=self.registry,
        )
        self._drift = Gauge(
            "simile_drift_index",
            "Population stability index of recent scores and lengths against the bundle's first ones; NaN before.",
            ["of"],
            registry=self.registry,
        )
        self.ready = Gauge("simile_ready", "1 while the service takes requests.", registry=self.registry)
        self._waiting_tokens = Gauge(
            "simile_waiting_tokens", "Tokens admitted and not yet begun.", registry=self.registry
        )
        self._oldest = Gauge(
            "simile_waiting_oldest_seconds", "How long the text has waited that waits longest.", registry=self.registry
        )
        self.loads = Counter(
            "simile_bundle_loads",
            "Bundles loaded, by what became of them: served, or refused while the one before stays.",
            ["result"],
            registry=self.registry,
        )
        # From the beginning: what is 1 when it is first seen has not risen, to Prometheus.
        for result in ("served", "refused"):
            self.loads.labels(result)
        self._encoders = Gauge(
            "simile_bundle_encoders",
            "Encoders of the bundle that is served: each counts every text in simile_texts.",
            registry=self.registry,
        )
        self._bundle = Info("simile_bundle", "The bundle that is served.", registry=self.registry)
        self._provider = Info("simile_provider", "What the bundle runs on.", registry=self.registry)
        Info("simile_build", "This version.", registry=self.registry).info({"version": __version__})

    def describe(self, scorer: Scorer, drift: Drift) -> None:
        """Tell which bundle is served, what it runs on, and how its traffic changes."""
        for of in EDGES:
            self._drift.labels(of).set_function(partial(drift.index, of))
        manifest, runtime = scorer.bundle.manifest, scorer.runtime
        self._encoders.set(sum(member.kind == "encoder" for member in manifest.members))
        self._bundle.info({"name": manifest.name, "digest": manifest.digest})
        self._provider.info({"provider": runtime.provider, "precision": runtime.precision})

    def sample_queue(self, queue: JobQueue) -> None:
        """Read the length and the age of the queue at every scrape."""

        def age() -> float:
            return perf_counter() - oldest if (oldest := queue.oldest()) is not None else 0.0

        self._waiting_tokens.set_function(lambda: queue.num_tokens)
        self._oldest.set_function(age)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage."""
        start = perf_counter()
        yield
        self.stage_seconds.labels(name).observe(perf_counter() - start)

    def count_texts(self, **sources: int) -> None:
        """Count the texts of one request by where their embeddings come from."""
        for source, num_texts in sources.items():
            self._texts.labels(source).inc(num_texts)

    def count_batch(self, num_texts: int, num_tokens: int, num_padded: int, seconds: float) -> None:
        """Count a batch of so many tokens, ``num_padded`` of them with padding."""
        self._batch_texts.observe(num_texts)
        self._batch_tokens.observe(num_tokens)
        self._batch_padding.observe(1 - num_tokens / max(num_padded, 1))
        self.stage_seconds.labels("infer").observe(seconds)

    def count_tokens(self, num_tokens: int, num_cut: int) -> None:
        """Count the tokens of one request's texts, and those of its texts that were cut."""
        self.tokens.inc(num_tokens)
        self.truncated_texts.inc(num_cut)

    def count_scored(self, scored: Scored) -> None:
        """Count one request's pairs and scores."""
        self.pairs.inc(len(scored.score_P))
        for name, score_P in scored.members.items():
            histogram = self.scores.labels(name)
            for score in score_P.tolist():
                histogram.observe(score)
        if len(scored.members) > 1:
            for gap in np.ptp(list(scored.members.values()), axis=0).tolist():
                self.disagreement.observe(gap)
