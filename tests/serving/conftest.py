import os
import threading
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from serving.app import create_app
from serving.settings import Settings
from simile.artifacts import Bundle, Combine
from simile.scoring import Runtime, Scorer
from tests.tiny_ensembles import Ensemble


@pytest.fixture
def uncalibrated(bundle, scorer) -> Scorer:
    manifest = bundle.manifest.model_copy(update={"calibration": None})
    return Scorer(Bundle(bundle.path, manifest, bundle.data), scorer.runtime)


@pytest.fixture(scope="session")
def encoder_alone(bundle) -> Bundle:
    """The bundle with its encoder only: a lexical member has no embeddings."""
    encoder = bundle.manifest.members[0]
    update = {"members": (encoder,), "combine": Combine(weights={encoder.name: 1.0}), "calibration": None}
    return Bundle(bundle.path, bundle.manifest.model_copy(update=update), bundle.data)


@pytest.fixture(scope="session")
def alone(encoder_alone, scorer) -> Scorer:
    """A scorer of the encoder only."""
    return Scorer(encoder_alone, scorer.runtime)


@pytest.fixture
def bundles(tmp_path):
    """Two bundles of the same name with different scores."""
    return [Ensemble(tmp_path / str(seed)).write(seed=seed) for seed in (1, 2)]


@pytest.fixture
def client(scorer):
    settings = Settings(max_pairs=8, max_characters=200, max_body_bytes=4096)
    with TestClient(create_app(settings, scorer)) as client:
        yield client


class OneAtATime(Runtime):
    """A runtime with one inference thread on every machine, so that the queue is predictable."""

    batches_at_once = 1


class WatchedScorer(Scorer):
    """A scorer that records its batches; each waits at the gate before it is computed."""

    def __init__(self, bundle: Bundle, runtime: Runtime) -> None:
        super().__init__(bundle, OneAtATime(runtime.provider, runtime.precision))
        self.batches: list[list[tuple[int, ...]]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.encoder = self.members[0]
        self._embed_batch = self.encoder.embed_batch
        self.encoder.embed_batch = self.embed_batch

    def embed_batch(self, ids):
        self.batches.append([tuple(text.tolist()) for text in ids])
        assert self.gate.wait(10)
        return self._embed_batch(ids)

    @property
    def sizes(self) -> list[int]:
        """Texts of each batch so far."""
        return [len(batch) for batch in self.batches]


@pytest.fixture
def watched(bundle, scorer) -> WatchedScorer:
    return WatchedScorer(bundle, scorer.runtime)


@pytest.fixture
def watched_alone(encoder_alone, scorer) -> WatchedScorer:
    return WatchedScorer(encoder_alone, scorer.runtime)


def lead_to(link: Path, target: Path) -> None:
    """Have the link lead to the target, by one rename."""
    new = link.with_name("next")
    new.symlink_to(target)
    os.replace(new, link)
