"""Runs of several members, which are trained one by one, joined, and evaluated as one bundle."""

import itertools
import json

import numpy as np
import pytest
import yaml

from pipeline.cli import main
from simile.artifacts import Pair, read_bundle, read_labelled_pairs, read_training_texts, text_hash, write_pairs
from simile.scoring import load
from training.decision import calibrate, find_thresholds


@pytest.fixture(scope="module")
def ensemble(make_base, documents, write_documents, tmp_path_factory):
    """Folder of a run of two members that stopped before the second and resumed; times of the first one's files."""
    folder = tmp_path_factory.mktemp("ensemble")
    write_documents(folder / "documents.jsonl", documents)
    write_pairs(folder / "calibration.jsonl", calibration_pairs(documents))
    settings = {"max_length": 32, "precision": "fp32", "learning_rate": 5e-3, "calibration": "isotonic"}
    # No test here is about interpolation, which takes most of the time.
    settings["min_base_agreement"] = 0
    bases = {"first": str(make_base("bert")), "second": "./missing"}
    written = []
    for code in ((2,), (0, 3)):
        config = {
            "documents": "documents.jsonl",
            "calibrate": ["calibration.jsonl"],
            "mine": {"pairs": 200, "dev_share": 0.2, "test_share": 0.25},
            "train": [{"name": name, "base": base, **settings} for name, base in bases.items()],
            "out": str(folder / "out"),
        }
        (folder / "run.yaml").write_text(yaml.safe_dump(config))
        assert main(["run", str(folder / "run.yaml")]) in code
        written.append(times(folder / "out" / "members" / "first"))
        bases["second"] = str(make_base("mpnet"))
    return folder, written


def calibration_pairs(documents):
    """All pairs of the first documents of five groups."""
    groups = list(dict.fromkeys(row.group for row in documents))[:5]
    rows = [row for group in groups for row in [row for row in documents if row.group == group][:3]]
    return [Pair(a.text, b.text, label=int(a.group == b.group)) for a, b in itertools.combinations(rows, 2)]


def times(folder):
    return {path: path.stat().st_mtime_ns for path in sorted(folder.rglob("*")) if path.is_file()}


def scored(path, texts):
    return load(path, device="cpu", precision="fp32").score(texts)


def test_resumed_run_trains_only_the_missing_members(ensemble):
    folder, (before, after) = ensemble
    assert before == after
    assert {path.name for path in (folder / "out" / "members").iterdir()} == {
        f"{name}{suffix}" for name in ("first", "second") for suffix in ("", ".weights", ".work")
    }


def test_ensemble_scores_the_mean_of_its_members_and_is_compared_with_the_first_ones_base(ensemble):
    out = ensemble[0] / "out"
    bundle = read_bundle(out / "bundle")
    assert bundle.manifest.combine.weights == {"first": 0.5, "second": 0.5}
    texts = read_labelled_pairs(out / "mined" / "test-unseen.jsonl").texts
    mean_P = np.mean([scored(out / "members" / name, texts) for name in ("first", "second")], axis=0)
    np.testing.assert_allclose(scored(out / "bundle", texts), mean_P, rtol=0, atol=1e-6)
    report = json.loads((out / "report.json").read_text())
    assert report["bundle"]["digest"] == bundle.manifest.digest
    assert set(report["leaked_texts"].values()) == {0}
    assert [member.base for member in read_bundle(out / "baseline").manifest.members] == ["tiny-bert"]


def test_ensemble_has_its_own_calibration_and_thresholds_fitted_on_the_named_pairs(ensemble):
    out = ensemble[0] / "out"
    pairs = read_labelled_pairs(ensemble[0] / "calibration.jsonl")
    score_P, label_P = scored(out / "bundle", pairs.texts), pairs.target_P
    calibration, thresholds = calibrate(score_P, label_P, "isotonic"), find_thresholds(score_P, label_P)
    manifest = read_bundle(out / "bundle").manifest
    assert manifest.calibration.method == "isotonic"
    np.testing.assert_allclose(manifest.calibration.scores, calibration.scores, atol=1e-5)
    assert manifest.thresholds.best_f1 == pytest.approx(thresholds.best_f1, abs=1e-5)
    trained = read_training_texts(read_bundle(out / "bundle"))
    assert not any(text_hash(text) in trained for pair in pairs.texts for text in pair)


def test_report_of_an_ensemble_shows_how_each_member_was_trained(ensemble, parse_page):
    text = " ".join(parse_page((ensemble[0] / "out" / "report.html").read_text()).itertext())
    assert "Training: first" in text
    assert "Training: second" in text


def test_finished_ensemble_is_not_repeated(ensemble, capsys):
    out = ensemble[0] / "out"
    folders = [out / name for name in ("baseline", "mined", "members", "bundle/members")]
    before = [times(folder) for folder in folders]
    assert main(["run", str(ensemble[0] / "run.yaml")]) in (0, 3)
    error = capsys.readouterr().err
    assert error.count("is there already") == 3
    assert error.count("already trained by this very run") == 2
    assert [times(folder) for folder in folders] == before


def test_ensemble_does_not_replace_a_single_member(ensemble, tmp_path, capsys):
    work = tmp_path / "out" / "bundle.work"
    work.mkdir(parents=True)
    (work / "run.json").write_text("{}")
    assert main(["run", str(ensemble[0] / "run.yaml"), "--set", f"out={tmp_path / 'out'}"]) == 2
    assert "comes from a run with one member, need --restart to replace it by 2" in capsys.readouterr().err


def test_single_member_does_not_replace_an_ensemble(ensemble, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "bundle.inputs.json").write_text("{}")
    changes = ["--set", "train=minilm", "--set", f"out={tmp_path / 'out'}"]
    assert main(["run", str(ensemble[0] / "run.yaml"), *changes]) == 2
    assert "comes from a run with several members, need --restart to replace it by 1" in capsys.readouterr().err
