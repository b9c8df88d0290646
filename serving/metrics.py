"""What Prometheus is told, in base units, under names that begin with ``simile_``."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector

from simile.scoring import Scored, Scorer
from simile.version import __version__

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_PAIRS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
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
            "Of one merged call: the wait before it, tokenize, infer and combine.",
            ["stage"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.batch_pairs = Histogram(
            "simile_batch_pairs", "Pairs computed in one merged call.", buckets=_PAIRS, registry=self.registry
        )
        self.pairs = Counter("simile_pairs", "Pairs scored.", registry=self.registry)
        self.texts = Counter("simile_texts", "Different texts of each request.", registry=self.registry)
        self.tokens = Counter("simile_tokens", "Tokens of those texts, over members.", registry=self.registry)
        self.truncated_texts = Counter(
            "simile_truncated_texts", "Texts longer than some member reads.", registry=self.registry
        )
        self.scores = Histogram(
            "simile_score", "Scores, by member.", ["member"], buckets=_SCORES, registry=self.registry
        )
        self.ready = Gauge("simile_ready", "1 while the service takes requests.", registry=self.registry)
        self.waiting_pairs = Gauge("simile_waiting_pairs", "Pairs admitted and not yet begun.", registry=self.registry)
        self._bundle = Info("simile_bundle", "The bundle that is served.", registry=self.registry)
        self._provider = Info("simile_provider", "What the bundle runs on.", registry=self.registry)
        Info("simile_build", "This version.", registry=self.registry).info({"version": __version__})

    def describe(self, scorer: Scorer) -> None:
        """Tell which bundle is served and what it runs on."""
        manifest, runtime = scorer.bundle.manifest, scorer.runtime
        self._bundle.info({"name": manifest.name, "digest": manifest.digest})
        self._provider.info({"provider": runtime.provider, "precision": runtime.precision})

    def sample_waiting_pairs(self, count: Callable[[], int]) -> None:
        """Ask ``count`` for the waiting pairs at every scrape."""
        self.waiting_pairs.set_function(count)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage of a merged call."""
        start = perf_counter()
        yield
        self.stage_seconds.labels(name).observe(perf_counter() - start)

    def count_scored(self, scored: Scored) -> None:
        """Count one request's pairs, texts and scores."""
        self.pairs.inc(len(scored.score_P))
        self.texts.inc(scored.num_texts)
        self.tokens.inc(scored.num_tokens)
        self.truncated_texts.inc(scored.num_cut)
        for name, score_P in scored.members.items():
            histogram = self.scores.labels(name)
            for score in score_P.tolist():
                histogram.observe(score)
