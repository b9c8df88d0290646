import json
import math
import os
from pathlib import Path

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


GOOD = {"edges": EDGES, "counts": {of: [1000.0] * (len(edges) + 1) for of, edges in EDGES.items()}}
ODD = {
    "empty": "",
    "object": "{}",
    "array": "[]",
    "no bins": '{"edges": {}, "counts": {}}',
    "half": json.dumps(GOOD)[:200],
    "zeros": "\0" * 500,
    "deep": "[" * 200_000,
    "NaN": json.dumps(GOOD).replace("1000.0", "NaN", 1),
    "infinite sum": json.dumps(GOOD).replace("1000.0", "1e308"),
    "negative": json.dumps(GOOD).replace("1000.0", "-1", 1),
    "400 digits": json.dumps(GOOD).replace("1000.0", "1" + "0" * 400, 1),
    "5000 digits": json.dumps(GOOD).replace("1000.0", "1" + "0" * 5000, 1),
    "other edges": json.dumps(GOOD).replace("0.9", "0.95", 1),
    "too few counts": json.dumps(GOOD).replace("1000.0, ", "", 1),
    "key twice": json.dumps(GOOD).replace("{", '{"edges": {}, ', 1),
}


def test_reference_of_the_same_bins_is_read(tmp_path):
    (tmp_path / "digest.json").write_text(json.dumps(GOOD))
    assert Drift(tmp_path, "digest").is_learned


@pytest.mark.parametrize("content", ODD.values(), ids=ODD)
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


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to(path), lambda path: path.symlink_to("/proc")])
def test_pipe_or_link_in_place_of_the_reference_stays_and_does_not_stop_the_service(make, tmp_path, caplog):
    make(tmp_path / "digest.json")
    before = os.lstat(tmp_path / "digest.json")
    assert learned(tmp_path).is_learned
    assert "cannot be read" in caplog.text
    assert "cannot be written" in caplog.text
    assert os.lstat(tmp_path / "digest.json").st_mode == before.st_mode


def test_full_disk_is_warned_of_once_and_the_reference_stored_once_there_is_room(disk, caplog, monkeypatch):
    room = os.statvfs(disk)
    (disk / "fill").write_bytes(b"x" * (room.f_bavail * room.f_frsize))
    monkeypatch.setattr("serving.drift._RETRY_S", 0)
    drift = learned(disk)
    for _ in range(5):
        drift.observe("scores", [0.5])
    assert [record.message for record in caplog.records if "cannot be written" in record.message] == [
        f"{disk / 'digest.json'}: the drift reference cannot be written (No space left on device)"
    ]
    (disk / "fill").unlink()
    drift.observe("scores", [0.5])
    assert os.listdir(disk) == ["digest.json"]
    assert Drift(disk, "digest").is_learned


@pytest.mark.parametrize("folder", ["/dev/null/x", "/proc/self", "/proc/1/none"])
def test_folder_that_cannot_exist_does_not_stop_the_service(folder, caplog):
    learned(Path(folder))
    assert caplog.text.count("the drift reference cannot be written") == 1


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
