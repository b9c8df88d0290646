from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.k8s.manifests import the

SIMULATION = Path(__file__).parents[2] / "benchmarks"
SHAPES = (
    "steady: 4.2 replicas",
    "ramp: 1 to 7 in an hour, and back",
    "step: 1.5 to 5 after half an hour",
    "sawtooth: 1 to 5 every 20 minutes",
    "day and night: 0.4 to 6",
)


@pytest.fixture
def simulation(monkeypatch):
    monkeypatch.syspath_prepend(SIMULATION)
    import autoscaling_simulation

    return autoscaling_simulation


@pytest.fixture
def autoscaler(simulation, render):
    return simulation.Autoscaler.from_manifest(the(render("production-gpu"), "ScaledObject"))


@pytest.mark.parametrize("shape", SHAPES)
def test_service_follows_the_load_without_seesawing(simulation, autoscaler, shape):
    seconds, load = simulation.SHAPES[shape]
    outcome = simulation.simulate(autoscaler, load, seconds)
    assert outcome.refused_share < 0.01
    assert outcome.changes_per_hour < (20 if "sawtooth" in shape else 6)
    # It pays for less than twice as many replicas as the mean load needs.
    assert np.mean(outcome.replicas) < 2 * max(2, np.mean([load(second) for second in range(seconds)]))


def test_all_shapes_are_tested(simulation):
    assert set(SHAPES) == set(simulation.SHAPES)


def test_waiting_tokens_alone_seesaw(simulation, autoscaler):
    seconds, load = simulation.SHAPES["steady: 4.2 replicas"]
    alone = replace(autoscaler, thresholds={"waiting_tokens": 8192.0}, down_percent_per_minute=100)
    assert simulation.simulate(alone, load, seconds).changes_per_hour > 30
