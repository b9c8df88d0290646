import threading
from time import monotonic, sleep

import numpy as np
import pytest

from simile.scoring.graph import Graph
from simile.scoring.provider import Runtime

FEW = 8


class Openvino(Runtime):
    """A runtime that gives small batches all cores, whatever the machine."""

    batches_at_once = 2
    few_tokens = FEW


class Session:
    """A session that records each call and computes once the gate is open."""

    def __init__(self, name: str, asked: list[str], gate: threading.Event) -> None:
        self._name, self._asked, self._gate = name, asked, gate

    def run(self, _outputs, inputs):
        self._asked.append(self._name)
        assert self._gate.wait(10)
        if inputs["input_ids"].max() < 0:
            raise RuntimeError("no such token")
        return [inputs["input_ids"].sum(axis=1, keepdims=True)]


class Watched:
    """A graph with two such sessions, called from threads."""

    def __init__(self, monkeypatch, runtime=Openvino) -> None:
        self.asked: list[str] = []
        self.gate = threading.Event()
        self.threads: list[threading.Thread] = []

        def opened(_model, _runtime, at_once):
            return Session("shared" if at_once > 1 else "whole", self.asked, self.gate)

        monkeypatch.setattr("simile.scoring.graph.open_session", opened)
        self.graph = Graph(b"", runtime("OpenVINOExecutionProvider", "bf16"))

    def ask(self, num_tokens: int) -> None:
        ids_BT = np.ones((1, num_tokens), dtype=np.int64)
        self.threads.append(threading.Thread(target=self.graph.embed, args=(ids_BT, ids_BT)))
        self.threads[-1].start()

    def wait_for(self, num_asked: int) -> None:
        deadline = monotonic() + 5
        while len(self.asked) < num_asked and monotonic() < deadline:
            sleep(0.005)

    def end(self) -> None:
        self.gate.set()
        for thread in self.threads:
            thread.join(10)
            assert not thread.is_alive()


@pytest.fixture
def watched(monkeypatch):
    return Watched(monkeypatch)


@pytest.mark.parametrize(("num_tokens", "session"), [(FEW, "whole"), (FEW + 1, "shared")])
def test_small_batch_alone_has_all_cores(watched, num_tokens, session):
    watched.ask(num_tokens)
    watched.end()
    assert watched.asked == [session]


def test_small_batch_beside_another_has_its_share(watched):
    watched.ask(FEW + 1)
    watched.wait_for(1)
    watched.ask(1)
    watched.wait_for(2)
    watched.end()
    assert watched.asked == ["shared", "shared"]


def test_nothing_runs_beside_a_batch_that_has_all_cores(watched):
    watched.ask(1)
    watched.wait_for(1)
    watched.ask(FEW + 1)
    sleep(0.1)
    assert watched.asked == ["whole"]
    watched.end()
    assert watched.asked == ["whole", "shared"]


def test_batch_that_fails_gives_its_cores_back(watched):
    watched.gate.set()
    bad_BT = np.full((1, 2), -1, dtype=np.int64)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="no such token"):
            watched.graph.embed(bad_BT, bad_BT)
    watched.ask(1)
    watched.end()
    assert watched.asked == ["whole"] * 3


def test_runtime_without_small_batches_has_one_session(monkeypatch):
    monkeypatch.setattr("simile.scoring.provider.usable_cores", lambda: 1)
    watched = Watched(monkeypatch, Runtime)
    watched.ask(1)
    watched.end()
    assert watched.asked == ["whole"]
    assert watched.graph._shared is watched.graph._whole
