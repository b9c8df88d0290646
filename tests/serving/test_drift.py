import json
import math

import numpy as np
import pytest
from fastapi.testclient import TestClient

from serving.app import create_app
from serving.drift import EDGES, REFERENCE, Drift
from serving.settings import Settings

FIRST = np.random.default_rng(0).normal(0.5, 0.15, size=REFERENCE).tolist()


def learned(folder=None) -> Drift:
    drift = Drift(folder, "digest")
    drift.observe("scores", FIRST)
    drift.observe("tokens", [20] * REFERENCE)
    return drift


def test_index_is_nan_until_there_are_enough_values():
    drift = Drift(None, "digest")
    assert math.isnan(drift.index("scores"))
    drift.observe("scores", FIRST)
    drift.observe("scores", [0.5] * 999)
    assert math.isnan(drift.index("scores"))
    drift.observe("scores", [0.5])
    assert drift.index("scores") > 0.25


def test_same_traffic_has_an_index_near_zero_and_shifted_traffic_a_large_one():
    drift, draw = learned(), np.random.default_rng(1)
    drift.observe("scores", draw.normal(0.5, 0.15, size=5000).tolist())
    assert 0 <= drift.index("scores") < 0.02
    drift = learned()
    drift.observe("scores", draw.normal(0.7, 0.15, size=5000).tolist())
    assert drift.index("scores") > 0.5


def test_index_is_the_symmetrised_divergence_of_the_histograms():
    drift = learned()
    recent = np.random.default_rng(2).normal(0.6, 0.2, size=4000)
    drift.observe("scores", recent.tolist())
    edges = [-np.inf, *EDGES["scores"], np.inf]
    p, q = (np.histogram(values, edges)[0] + 0.5 for values in (FIRST, recent))
    p, q = p / p.sum(), q / q.sum()
    assert drift.index("scores") == pytest.approx(float(((q - p) * np.log(q / p)).sum()))


def test_old_traffic_fades():
    drift = learned()
    drift.observe("scores", [0.95] * 5000)
    before = drift.index("scores")
    draw = np.random.default_rng(3)
    for _ in range(20):
        drift.observe("scores", draw.normal(0.5, 0.15, size=5000).tolist())
    assert drift.index("scores") < 0.02 < before


def test_reference_is_stored_per_bundle(tmp_path):
    learned(tmp_path / "drift")
    again = Drift(tmp_path / "drift", "digest")
    assert again.is_learned
    again.observe("scores", [0.95] * 2000)
    assert again.index("scores") > 0.25
    assert not Drift(tmp_path / "drift", "other").is_learned


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"edges": {}, "counts": {}}'])
def test_damaged_reference_is_learned_again(tmp_path, content, caplog):
    (tmp_path / "digest.json").write_text(content)
    drift = Drift(tmp_path, "digest")
    assert not drift.is_learned
    assert "digest.json" in caplog.text
    drift.observe("scores", FIRST)
    drift.observe("tokens", [20] * REFERENCE)
    assert json.loads((tmp_path / "digest.json").read_text())["counts"]["tokens"][3] == REFERENCE


def test_unreadable_reference_does_not_stop_the_service(tmp_path, caplog):
    (tmp_path / "digest.json").mkdir()
    assert not Drift(tmp_path, "digest").is_learned
    assert "digest.json" in caplog.text


def test_unwritable_folder_does_not_stop_the_service(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    learned(tmp_path / "file" / "drift")
    assert "cannot be written" in caplog.text


def test_service_reports_drift_and_disagreement(scorer):
    app = create_app(Settings(), scorer)
    value = app.state.service.metrics.registry.get_sample_value
    with TestClient(app) as client:
        assert math.isnan(value("simile_drift_index", {"of": "scores"}))
        drift = app.state.service.engine._drift
        drift.observe("scores", FIRST)
        drift.observe("tokens", [20] * REFERENCE)
        pairs = [["no signal", "no bars"]] * 1000
        assert client.post("/v1/similarity", json={"pairs": pairs}).status_code == 200
        assert value("simile_drift_index", {"of": "scores"}) > 0.25
        assert value("simile_member_disagreement_count") == 1000
