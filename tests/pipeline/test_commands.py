import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from fastapi.testclient import TestClient
from jsonschema import Draft202012Validator
from sklearn.feature_extraction.text import TfidfVectorizer

from pipeline.cli import main
from pipeline.config import apply_overrides
from pipeline.presets import PRESETS, preset_path, read_train_config
from pipeline.run_config import read_run_config
from serving.app import create_app
from serving.settings import Settings
from simile.artifacts import (
    TEXTS,
    Document,
    Pair,
    PlattCalibration,
    read_bundle,
    read_labelled_pairs,
    read_training_texts,
    text_hash,
    texts_digest,
    write_bundle,
    write_pairs,
)
from simile.files import alone
from simile.scoring import load, probability
from simile.scoring.metrics import auc, expected_calibration_error, separability, spearman
from simile.version import __version__, commit
from training.decision import calibrate, find_thresholds

ROOT = Path(__file__).parents[2]
REGRESSION = Path(__file__).parent / "data" / "regression.jsonl"
"""Mined from the sample by `simile mine examples/helpdesk/documents.jsonl --pairs 300 --dev-share 0 --out DIR`."""
REGRESSION_SPEARMAN = 0.3735
"""What the untouched all-MiniLM-L6-v2 reaches on them in fp32."""
PLAIN = ("--device", "cpu", "--precision", "fp32")


@pytest.fixture(scope="session")
def both(tmp_path_factory, tiny, words):
    """An ensemble of two members."""
    out = tmp_path_factory.mktemp("bundles") / "both"
    assert main(["join", str(tiny.path), str(words.path), "--out", str(out)]) == 0
    return read_bundle(out)


@pytest.fixture
def calibrated(words, tmp_path):
    """A bundle of calibrated scores that may be written to."""
    manifest = words.manifest.model_copy(
        update={"calibration": PlattCalibration(slope=8, intercept=-2, positive_share=0.5)}
    )
    return write_bundle(tmp_path / "calibrated", manifest, words.data)


@pytest.fixture
def own(tiny, tmp_path):
    """A bundle that may be written to."""
    shutil.copytree(tiny.path, tmp_path / "own")
    return read_bundle(tmp_path / "own")


@pytest.fixture(scope="module")
def write_config(make_base, documents, write_documents):
    """A run over a part of the sample with a tiny encoder, written into a folder."""

    def write(folder, **changed):
        folder.mkdir(exist_ok=True)
        write_documents(folder / "documents.jsonl", documents)
        base = {"base": str(make_base("bert")), "max_length": 32, "epochs": 1, "batch_size": 16, "precision": "fp32"}
        # No test here is about interpolation, which takes most of the time.
        base["min_base_agreement"] = 0
        config = {
            "documents": "documents.jsonl",
            "mine": {"pairs": 200, "dev_share": 0.1, "test_share": 0.25},
            "train": {**base, "learning_rate": 5e-3},
            "out": str(folder / "out"),
        }
        path = folder / "run.yaml"
        path.write_text(yaml.safe_dump(config | changed))
        return path

    return write


@pytest.fixture(scope="module")
def finished(write_config, tmp_path_factory):
    """The config file of a run that has been made."""
    config = write_config(tmp_path_factory.mktemp("runs") / "run")
    assert main(["run", str(config)]) in (0, 3)
    return config


@pytest.fixture
def rerun(finished, tmp_path):
    """The arguments of the same run over a copy of its results."""
    shutil.copytree(finished.parent / "out", tmp_path / "out")
    return ["run", str(finished), "--set", f"out={tmp_path / 'out'}"]


@pytest.mark.parametrize(
    ("schema", "file"),
    [
        ("evaluation-report", "report.json"),
        ("mining-report", "mined/report.json"),
        ("manifest", "bundle/manifest.json"),
        ("manifest", "baseline/manifest.json"),
        ("evaluation", "bundle/evaluation.json"),
        ("training-history", "bundle.work/history.json"),
    ],
)
def test_run_writes_what_the_schemas_describe(finished, schema, file):
    described = json.loads((ROOT / "docs" / "schemas" / f"{schema}.json").read_text())
    Draft202012Validator(described).validate(json.loads((finished.parent / "out" / file).read_text()))


def score_P(bundle, pairs, tmp_path):
    """What `simile score` writes."""
    out = tmp_path / "scores.jsonl"
    assert main(["score", str(bundle.path), "--pairs", str(pairs), "--out", str(out), *PLAIN]) == 0
    return np.array([json.loads(line)["score"] for line in out.read_text().splitlines()])


def report_of(tmp_path, *argv):
    """What `simile evaluate` writes, and its exit code; the baselines of other tests have other ledgers."""
    file = tmp_path / "report.json"
    ledger = ["--ledger", str(tmp_path / "ledger")] if "--gate" in argv and "--ledger" not in argv else []
    code = main(["evaluate", *map(str, argv), "--json", str(file), *ledger, *PLAIN])
    return json.loads(file.read_text()), code


def trained_on(bundle, path, *texts, made=None):
    """Write a copy of the bundle that was trained on these texts; return its path."""
    hashes = {text_hash(text) for text in texts}
    made = (made or bundle.manifest.made).model_copy(update={"texts": texts_digest(hashes)})
    write_bundle(path, bundle.manifest.model_copy(update={"made": made}), bundle.data, hashes)
    return path


def times(folder):
    return {path: path.stat().st_mtime_ns for path in sorted(folder.rglob("*")) if path.is_file()}


def scored(bundle, pairs):
    return load(bundle.path, device="cpu", precision="fp32").score(pairs)


# One number everywhere.


def test_command_line_evaluation_and_service_give_the_same_scores(both, pairs, tmp_path):
    judged = read_labelled_pairs(pairs)
    expected_P = scored(both, judged.texts)
    written_P = score_P(both, pairs, tmp_path)
    with TestClient(create_app(Settings(), load(both.path, device="cpu", precision="fp32"))) as client:
        served_P = client.post("/v1/similarity", json={"pairs": judged.texts}).json()["scores"]
    report, _ = report_of(tmp_path, both.path, pairs)
    np.testing.assert_allclose(written_P, expected_P, rtol=0, atol=1e-5)
    np.testing.assert_allclose(served_P, expected_P, rtol=0, atol=1e-5)
    figures = report["sets"]["judged"]["bundle"]
    for name, figure in (("spearman", spearman), ("auc", auc), ("separability", separability)):
        assert figures[name] == pytest.approx(figure(np.array(served_P), judged.target_P), abs=1e-5)


def test_score_prints_the_score_of_two_texts(words, capsys):
    assert main(["score", str(words.path), "forgot my password", "I forgot the password"]) == 0
    (expected,) = scored(words, [("forgot my password", "I forgot the password")])
    assert capsys.readouterr().out == f"{expected:.6f}\n"


def test_score_prints_a_line_for_each_pair_of_a_file(words, pairs, tmp_path, capsys):
    assert main(["score", str(words.path), "--pairs", str(pairs), *PLAIN]) == 0
    printed_P = np.array(capsys.readouterr().out.split(), dtype=float)
    np.testing.assert_allclose(printed_P, scored(words, read_labelled_pairs(pairs).texts), rtol=0, atol=1e-6)


def test_score_gives_probabilities_where_the_bundle_is_calibrated(calibrated, pairs, tmp_path, capsys):
    texts = read_labelled_pairs(pairs).texts[:2]
    scores_P = scored(calibrated, texts)
    calibration = calibrated.manifest.calibration
    for option, prior in ((), None), (("--prior", "0.1"), 0.1):
        expected_P = probability(calibration, scores_P, prior=prior)
        assert main(["score", str(calibrated.path), *texts[0], *option, *PLAIN]) == 0
        assert capsys.readouterr().out == f"{scores_P[0]:.6f}\t{expected_P[0]:.6f}\n"
        out = tmp_path / "scored.jsonl"
        assert main(["score", str(calibrated.path), "--pairs", str(pairs), "--out", str(out), *option, *PLAIN]) == 0
        rows = [json.loads(line) for line in out.read_text().splitlines()]
        assert [set(row) for row in rows[:1]] == [{"text_a", "text_b", "label", "score", "probability"}]
        np.testing.assert_allclose([row["probability"] for row in rows[:2]], expected_P, atol=1e-6)


# evaluate


def test_evaluation_of_a_calibrated_bundle_has_its_calibration_error(calibrated, pairs, tmp_path, capsys):
    judged = read_labelled_pairs(pairs)
    score_P = scored(calibrated, judged.texts)
    for option, prior in ((), None), (("--prior", "0.1"), 0.1):
        report, code = report_of(tmp_path, calibrated.path, pairs, *option)
        probability_P = probability(calibrated.manifest.calibration, score_P, prior=prior)
        error = expected_calibration_error(probability_P, judged.target_P)
        assert (code, report["prior"]) == (0, prior)
        assert report["sets"]["judged"]["bundle"]["calibration_error"] == pytest.approx(error, abs=1e-4)
        assert f"  {error:.4f}" in capsys.readouterr().out.splitlines()[-1]
    assert "shifted to a share of positives of 0.1" in (calibrated.path / "README.md").read_text()


def test_evaluation_has_the_documented_shape(own, words, pairs, tmp_path):
    guard = shutil.copy(pairs, tmp_path / "general.jsonl")
    report, code = report_of(tmp_path, own.path, pairs, "--baseline", words.path, "--guard", guard)
    assert code == 0
    assert set(report) >= {"bundle", "baseline", "sets", "guards", "interval", "verdict", "reasons"}
    assert report["bundle"] | {"provider": ""} == {
        "name": "tiny",
        "digest": own.manifest.digest,
        "provider": "",
        "precision": "fp32",
    }
    assert report["baseline"]["name"] == "words"
    assert (list(report["sets"]), list(report["guards"])) == (["judged"], ["general"])
    entry = report["sets"]["judged"]
    assert set(entry) >= {"pairs", "bundle", "baseline", "difference", "lexical"}
    assert set(entry["bundle"]) == set(entry["baseline"]) == {"spearman", "auc", "separability", "overlap"}
    assert entry["difference"]["low"] <= entry["difference"]["spearman"] <= entry["difference"]["high"]
    assert set(report["interval"]) == {"unit", "resamples", "seed"}
    assert (report["verdict"], report["reasons"]) == (None, [])


def test_evaluation_without_a_baseline_compares_with_nothing(own, pairs, tmp_path):
    report, _ = report_of(tmp_path, own.path, pairs)
    assert report["baseline"] is None
    assert report["sets"]["judged"]["baseline"] is None
    assert report["sets"]["judged"]["difference"] is None


def test_graded_set_has_a_spearman_only(own, pairs, tmp_path):
    rows = read_labelled_pairs(pairs).rows
    graded = tmp_path / "graded.jsonl"
    lines = ({"text_a": row.text_a, "text_b": row.text_b, "score": row.label + 0.1 * i} for i, row in enumerate(rows))
    graded.write_text("".join(json.dumps(line) + "\n" for line in lines))
    report, _ = report_of(tmp_path, own.path, graded)
    assert set(report["sets"]["graded"]["bundle"]) == {"spearman"}


def test_evaluation_is_kept_in_the_bundle_once_for_each_runtime_and_set(own, pairs):
    for _ in range(2):
        assert main(["evaluate", str(own.path), str(pairs), *PLAIN]) == 0
    (kept,) = json.loads((own.path / "evaluation.json").read_text())["reports"]
    assert kept["bundle"]["digest"] == own.manifest.digest
    assert read_bundle(own.path).manifest.digest == own.manifest.digest


def test_read_only_bundle_is_evaluated_all_the_same(tiny, pairs, disk, capsys):
    shutil.copytree(tiny.path, disk / "tiny")
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    assert main(["evaluate", str(disk / "tiny"), str(pairs), *PLAIN]) == 0
    out, error = capsys.readouterr()
    assert "judged" in out
    assert "cannot be written to, so the evaluation is not stored in it" in error


def test_page_shows_the_figures(own, words, pairs, tmp_path, parse_page):
    page = tmp_path / "report.html"
    report, _ = report_of(tmp_path, own.path, pairs, "--baseline", words.path, "--html", page)
    text = " ".join(parse_page(page.read_text()).itertext())
    assert "judged" in text
    assert f"{report['sets']['judged']['bundle']['spearman']:.3f}"[:5] in text


# The gate


def test_gate_lets_a_better_bundle_pass(words, tiny, pairs, tmp_path, capsys):
    shutil.copytree(words.path, tmp_path / "words")
    report, code = report_of(tmp_path, tmp_path / "words", pairs, "--baseline", tiny.path, "--gate")
    assert (code, report["verdict"]) == (0, "pass")
    assert report["sets"]["judged"]["difference"]["low"] > 0


def test_gate_stops_a_sabotaged_bundle(own, words, pairs, tmp_path, capsys):
    report, code = report_of(tmp_path, own.path, pairs, "--baseline", words.path, "--gate")
    assert (code, report["verdict"]) == (3, "fail")
    (reason,) = report["reasons"]
    assert reason.startswith("judged: the interval of the difference starts at -")
    assert f"fail ({reason})" in capsys.readouterr().out


def test_gate_stops_a_bundle_that_loses_on_a_guard(own, words, tiny, pairs, tmp_path):
    shutil.copytree(words.path, tmp_path / "words")
    rows = read_labelled_pairs(pairs).rows
    guard = tmp_path / "turned.jsonl"
    lines = ({"text_a": row.text_a, "text_b": row.text_b, "label": 1 - row.label} for row in rows)
    guard.write_text("".join(json.dumps(line) + "\n" for line in lines))
    report, code = report_of(
        tmp_path, tmp_path / "words", pairs, "--baseline", tiny.path, "--guard", guard, "--gate", "--guard-margin", 0
    )
    assert code == 3
    assert [reason.partition(":")[0] for reason in report["reasons"]] == ["turned"]


def test_gate_stops_a_bundle_that_is_judged_on_what_it_was_trained_on(words, tiny, pairs, tmp_path):
    trained_on(words, tmp_path / "words", read_labelled_pairs(pairs).texts[0][0].upper())
    report, code = report_of(tmp_path, tmp_path / "words", pairs, "--baseline", tiny.path, "--gate")
    assert code == 3
    assert report["reasons"] == ["judged: 1 of its texts are among the training texts, need none"]


WRITTEN_OTHERWISE = {
    "as it is": lambda text: text,
    "upper case": str.upper,
    "blanks": lambda text: f"  {text}\t\n".replace(" ", "\u00a0 "),
    "line breaks": lambda text: text.replace(" ", "\r\n"),
    "full width": lambda text: text.translate({code: code + 0xFEE0 for code in range(0x21, 0x7F)}),
    "zero width": lambda text: "\u200b".join(text),
    "soft hyphen as an entity": lambda text: f"{text[0]}&shy;{text[1:]}",
    "numeric entities": lambda text: "".join(f"&#{ord(sign)};" for sign in text),
    "escaped twice": lambda text: f"&amp;#{ord(text[0])};{text[1:]}",
}
"""Forms of a text that people read as the same one; `text_key` decides which ones the gate recognises."""


@pytest.mark.parametrize("form", WRITTEN_OTHERWISE)
def test_gate_finds_one_training_text_in_a_bundle_that_was_copied_alone(words, tiny, pairs, tmp_path, form):
    texts = [WRITTEN_OTHERWISE[form](read_labelled_pairs(pairs).texts[3][1]), "something else"]
    made = trained_on(words, tmp_path / "made" / "words", *texts)
    copy = shutil.copytree(made, tmp_path / "elsewhere" / "words")
    shutil.rmtree(made.parent)
    report, code = report_of(tmp_path, copy, pairs, "--baseline", tiny.path, "--gate")
    assert (code, report["leaked_texts"]) == (3, {"judged": 1})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--json", "base.looks.jsonl"], "is read as input"),
        (["--ledger", "led", "--html", "led"], "is read as input"),
        (["--json", "both", "--html", "both"], "is written twice"),
    ],
)
def test_report_replaces_neither_the_ledger_nor_another_report(
    words, tiny, pairs, tmp_path, monkeypatch, capsys, options, message
):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny.path, "base")
    assert main(["evaluate", str(words.path), str(pairs), "--baseline", "base", "--gate", *options]) == 2
    assert message in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base"]


def test_gate_passes_a_clean_bundle_that_was_copied_alone(words, tiny, pairs, tmp_path):
    made = trained_on(words, tmp_path / "made" / "words", "something else")
    copy = shutil.copytree(made, tmp_path / "elsewhere" / "words")
    report, code = report_of(tmp_path, copy, pairs, "--baseline", tiny.path, "--gate")
    assert (code, report["verdict"], report["leaked_texts"]) == (0, "pass", {"judged": 0})


@pytest.mark.parametrize("change", [Path.unlink, lambda file: file.write_text(f"{'0' * 64}\n")], ids=["none", "other"])
def test_gate_stops_a_bundle_whose_training_texts_are_unknown_unless_told_to_pass(
    words, tiny, pairs, tmp_path, change, capsys
):
    bundle = trained_on(words, tmp_path / "words", "something else")
    change(bundle / TEXTS)
    argv = [bundle, pairs, "--baseline", tiny.path, "--gate"]
    report, code = report_of(tmp_path, *argv)
    assert (code, report["leaked_texts"]) == (3, None)
    assert "--allow-unknown-training-texts" in report["reasons"][-1]
    report, code = report_of(tmp_path, *argv, "--allow-unknown-training-texts")
    assert (code, report["verdict"]) == (0, "pass")
    assert "training texts are unknown" in report["reasons"][-1]
    capsys.readouterr()
    assert main(["inspect", str(bundle)]) == 0
    assert "trained on   unknown texts" in capsys.readouterr().out


def test_inspect_tells_how_many_texts_a_bundle_was_trained_on(words, tiny, tmp_path, capsys):
    for bundle, told in ((trained_on(words, tmp_path / "words", "a", "b"), "2 texts"), (tiny.path, "no texts")):
        assert main(["inspect", str(bundle)]) == 0
        assert f"trained on   {told}" in capsys.readouterr().out


def test_baseline_that_was_trained_on_test_texts_is_a_remark(words, tiny, pairs, tmp_path):
    made = trained_on(words, tmp_path / "words", "something else")
    baseline = trained_on(tiny, tmp_path / "tiny", read_labelled_pairs(pairs).texts[0][0], made=words.manifest.made)
    report, code = report_of(tmp_path, made, pairs, "--baseline", baseline, "--gate")
    assert (code, report["baseline_leaked_texts"]) == (0, {"judged": 1})
    assert "judged: 1 of its texts are among the baseline's training texts" in report["reasons"][-1]


def test_gate_counts_the_bundles_that_were_judged_on_a_set(words, tiny, pairs, tmp_path, capsys, parse_page):
    baseline = shutil.copytree(tiny.path, tmp_path / "base")
    bundles = [trained_on(words, tmp_path / name, name) for name in ("one", "two", "three")]
    page = tmp_path / "report.html"
    reports = []
    for bundle in (*bundles, bundles[1]):
        argv = ["evaluate", str(bundle), str(pairs), "--baseline", str(baseline), "--gate", "--html", str(page)]
        assert main([*argv, *PLAIN]) in (0, 3)
        reports.append((capsys.readouterr().out, " ".join(parse_page(page.read_text()).itertext())))
    ledger = [json.loads(line) for line in (tmp_path / "base.looks.jsonl").read_text().splitlines()]
    assert [look["bundle"] for look in ledger] == [read_bundle(bundle).manifest.digest for bundle in bundles]
    (stored,) = json.loads((bundles[1] / "evaluation.json").read_text())["reports"]
    look = stored["looks"]["judged"]
    assert (look["bundles"], look["level"]) == (3, 0.05 / 3)
    assert look["low"] < stored["sets"]["judged"]["difference"]["low"]
    assert stored["verdict"] == ("pass" if look["low"] > 0 else "fail")
    assert not any("different bundles were judged" in shown for shown in reports[0])
    for (out, text), told in zip(reports[1:], ("2.5 % (5 % / 2)", "1.7 % (5 % / 3)", "1.7 % (5 % / 3)"), strict=True):
        assert told in out
        assert told in text


def test_only_the_gate_writes_the_ledger(words, tiny, pairs, tmp_path, capsys):
    bundle, baseline = shutil.copytree(words.path, tmp_path / "words"), shutil.copytree(tiny.path, tmp_path / "base")
    argv = ["evaluate", str(bundle), str(pairs), "--baseline", str(baseline), *PLAIN]
    assert main(argv) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base", "words"]
    assert main([*argv, "--ledger", str(tmp_path / "ledger")]) == 2
    assert "--ledger needs --gate" in capsys.readouterr().err


def test_ledger_that_cannot_be_written_to_is_a_remark(words, tiny, pairs, tmp_path, disk):
    baseline = shutil.copytree(tiny.path, disk / "base")
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    bundle = shutil.copytree(words.path, tmp_path / "words")
    report, code = report_of(
        tmp_path, bundle, pairs, "--baseline", baseline, "--gate", "--ledger", disk / "base.looks.jsonl"
    )
    assert code == 0
    assert "base.looks.jsonl: cannot be written to" in report["reasons"][-1]


def test_file_that_is_no_ledger_is_refused_and_stays(words, tiny, pairs, tmp_path, capsys):
    own = shutil.copy(pairs, tmp_path / "own.jsonl")
    before = own.read_bytes()
    argv = ["evaluate", str(shutil.copytree(words.path, tmp_path / "words")), str(pairs), "--baseline", str(tiny.path)]
    assert main([*argv, "--gate", "--ledger", str(own), *PLAIN]) == 2
    assert "own.jsonl:1: got no look at a test set" in capsys.readouterr().err
    assert own.read_bytes() == before


# Figures that must not move


def test_regression_pairs_are_as_mined():
    judged = read_labelled_pairs(REGRESSION)
    assert len(judged.rows) == 300
    assert sum(row.label for row in judged.rows) == 150


def test_minilm_reaches_the_same_spearman_as_ever(minilm, tmp_path):
    report, _ = report_of(tmp_path, minilm.path, REGRESSION)
    assert report["sets"]["regression"]["bundle"]["spearman"] == pytest.approx(REGRESSION_SPEARMAN, abs=0.0005)


# join


def test_joined_score_is_the_mean_of_the_members_cosines(both, tiny, words, pairs, tmp_path):
    texts = read_labelled_pairs(pairs).texts
    mean_P = (scored(tiny, texts) + scored(words, texts)) / 2
    np.testing.assert_allclose(score_P(both, pairs, tmp_path), mean_P, rtol=0, atol=1e-6)


def test_joined_bundle_reproduces_its_golden_pairs(both):
    assert len(both.manifest.golden) == 8
    assert load(both.path, device="cpu", precision="fp32").check_golden() < 1e-5


def test_joined_bundle_is_judged_like_any_other(both, words, pairs, tmp_path):
    report, code = report_of(tmp_path, both.path, pairs, "--baseline", words.path)
    assert (code, report["bundle"]["name"]) == (0, "both")


def test_members_of_one_name_are_told_apart(tiny, words, pairs, tmp_path, capsys):
    out = tmp_path / "three"
    assert main(["join", str(tiny.path), str(tiny.path), str(words.path), "--out", str(out)]) == 0
    joined = read_bundle(out)
    assert [member.name for member in joined.manifest.members] == ["encoder", "tiny-encoder", "words"]
    assert list(joined.manifest.combine.weights.values()) == [1 / 3] * 3
    assert "0.3333  tiny-encoder" in capsys.readouterr().out
    texts = read_labelled_pairs(pairs).texts
    mean_P = (2 * scored(tiny, texts) + scored(words, texts)) / 3
    np.testing.assert_allclose(scored(joined, texts), mean_P, rtol=0, atol=1e-6)


def test_fitted_ensemble_is_not_worse_than_a_member_and_leaves_out_those_without_weight(
    tiny, words, pairs, tmp_path, capsys
):
    out = tmp_path / "fitted"
    assert main(["join", str(tiny.path), str(words.path), "--fit", str(pairs), "--out", str(out)]) == 0
    fitted, judged = read_bundle(out), read_labelled_pairs(pairs)
    assert fitted.manifest.combine.method == "learned"
    assert sum(fitted.manifest.combine.weights.values()) == pytest.approx(1)
    assert fitted.manifest.made.fitted_on == judged.sha256
    of_fitted, *of_members = (
        spearman(scored(bundle, judged.texts), judged.target_P) for bundle in (fitted, tiny, words)
    )
    assert of_fitted >= max(of_members) - 1e-6
    weights, told = fitted.manifest.combine.weights, capsys.readouterr().err
    assert [member.name for member in fitted.manifest.members] == list(weights)
    assert all(("note: left out " + name in told) == (name not in weights) for name in ("encoder", "words"))
    assert all(weights.values())
    assert load(out, device="cpu", precision="fp32").check_golden() < 1e-5


def test_ensemble_fitted_on_texts_that_a_member_was_trained_on_says_so(tiny, words, pairs, tmp_path, capsys):
    first = read_labelled_pairs(pairs).texts[0][0]
    members = [tiny.path, trained_on(words, tmp_path / "trained", first.upper(), "another text")]
    out = tmp_path / "fitted"
    assert main(["join", *map(str, members), "--fit", str(pairs), "--out", str(out)]) == 0
    assert f"The training pairs contain 1 texts of {pairs.stem}" in capsys.readouterr().err
    assert read_bundle(out).manifest.made.trained_texts == {pairs.stem: 1}
    assert "too good" in (out / "README.md").read_text()


def test_ensemble_has_decisions_from_the_pairs_it_is_fitted_on(both, tiny, words, pairs, tmp_path):
    out = tmp_path / "fitted"
    assert main(["join", str(tiny.path), str(words.path), "--fit", str(pairs), "--out", str(out)]) == 0
    fitted, judged = read_bundle(out), read_labelled_pairs(pairs)
    score_P = scored(fitted, judged.texts)
    calibration = calibrate(score_P, judged.target_P, "platt")
    thresholds = find_thresholds(score_P, judged.target_P)
    assert fitted.manifest.calibration.slope == pytest.approx(calibration.slope, rel=1e-3)
    assert fitted.manifest.thresholds.best_f1 == pytest.approx(thresholds.best_f1, abs=1e-5)
    assert (both.manifest.calibration, both.manifest.thresholds) == (None, None)


def test_ensemble_is_calibrated_by_the_method_asked_for(tiny, words, pairs, tmp_path, capsys):
    argv = ["join", str(tiny.path), str(words.path), "--fit", str(pairs), "--calibration", "isotonic"]
    assert main([*argv, "--out", str(tmp_path / "fitted")]) == 0
    calibration, judged = read_bundle(tmp_path / "fitted").manifest.calibration, read_labelled_pairs(pairs)
    expected = calibrate(scored(read_bundle(tmp_path / "fitted"), judged.texts), judged.target_P, "isotonic")
    assert calibration.method == "isotonic"
    np.testing.assert_allclose(calibration.scores, expected.scores, atol=1e-5)
    np.testing.assert_allclose(calibration.probabilities, expected.probabilities, atol=1e-6)
    assert 0 <= calibration.error < 0.5
    capsys.readouterr()
    assert main(["inspect", str(tmp_path / "fitted")]) == 0
    share = f"isotonic, fitted on pairs of which {judged.target_P.mean():.0%} are positive"
    told = f"calibration  {share}, expected calibration error {calibration.error:.4f}\n"
    assert told in capsys.readouterr().out


def test_join_takes_ensembles_as_well(both, words, tmp_path):
    out = tmp_path / "more"
    assert main(["join", str(both.path), str(words.path), "--out", str(out)]) == 0
    assert [member.name for member in read_bundle(out).manifest.members] == ["encoder", "words", "words-words"]


# inspect and baseline


def test_inspect_describes_the_bundle(both, capsys):
    assert main(["inspect", str(both.path)]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0] == both.identity
    for part in (
        "encoder",
        "tiny-bert",
        "TF-IDF",
        "0.5000",
        "combine      mean",
        "calibration  none",
        "every file has the sha256",
    ):
        assert part in out


def test_inspect_says_what_was_evaluated(own, pairs, capsys):
    assert main(["evaluate", str(own.path), str(pairs), *PLAIN]) == 0
    capsys.readouterr()
    assert main(["inspect", str(own.path)]) == 0
    runtime = load(own.path, device="cpu", precision="fp32").runtime
    assert f"evaluated    {runtime}" in capsys.readouterr().out


def test_inspect_gives_machines_the_manifest_and_the_digest(both, capsys):
    assert main(["inspect", str(both.path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told.pop("digest") == both.manifest.digest
    assert told == both.manifest.model_dump(mode="json")


def test_lexical_baseline_is_the_tfidf_cosine_of_its_documents(documents, write_documents, pairs, tmp_path, capsys):
    file = write_documents(tmp_path / "documents.jsonl", documents)
    assert main(["baseline", f"lexical:{file}", "--out", str(tmp_path / "lexical")]) == 0
    bundle = read_bundle(tmp_path / "lexical")
    assert capsys.readouterr().out == f"{bundle.identity}\n"
    vectorizer = TfidfVectorizer(sublinear_tf=True).fit([row.text for row in documents])
    texts = read_labelled_pairs(pairs).texts
    a_PW, b_PW = (vectorizer.transform([pair[side] for pair in texts]) for side in (0, 1))
    expected_P = np.asarray(a_PW.multiply(b_PW).sum(axis=1)).ravel()
    np.testing.assert_allclose(scored(bundle, texts), expected_P, rtol=0, atol=1e-6)


def test_baseline_puts_the_prompt_before_texts(make_base, tiny, tmp_path):
    argv = ["baseline", str(make_base("bert")), "--prompt", "my card: ", "--max-length", "20"]
    assert main([*argv, "--out", str(tmp_path / "prompted")]) == 0
    bundle = read_bundle(tmp_path / "prompted")
    assert (bundle.manifest.members[0].prompt, bundle.manifest.members[0].max_length) == ("my card: ", 20)
    pair = ("is lost", "has not arrived")
    assert scored(bundle, [pair]) == pytest.approx(scored(tiny, [tuple(f"my card: {text}" for text in pair)]), abs=1e-5)


def test_baseline_puts_a_prompt_of_its_own_before_the_texts_of_each_side(make_base, tiny, tmp_path):
    argv = ["baseline", str(make_base("bert")), "--prompt-a", "my card: ", "--prompt-b", "the fee: "]
    assert main([*argv, "--out", str(tmp_path / "prompted")]) == 0
    pairs = [("is lost", "has not arrived"), ("has not arrived", "is lost")]
    expected = scored(tiny, [(f"my card: {a}", f"the fee: {b}") for a, b in pairs])
    np.testing.assert_allclose(scored(read_bundle(tmp_path / "prompted"), pairs), expected, rtol=0, atol=1e-5)


# mine


def test_mine_writes_pairs_held_out_sets_and_a_report(helpdesk, write_documents, tiny, tmp_path, capsys, parse_page):
    file = write_documents(tmp_path / "documents.jsonl", helpdesk[:600])
    options = ["--pairs", "200", "--dev-share", "0.1", "--test-share", "0.2", "--baseline", str(tiny.path)]
    assert main(["mine", str(file), "--out", str(tmp_path / "mined"), *options]) == 0
    files = {path.name for path in (tmp_path / "mined").iterdir()}
    sets = {"pairs", "dev-seen", "dev-unseen", "test-seen", "test-unseen"}
    assert files == {f"{name}.jsonl" for name in sets} | {"report.json", "report.html"}
    report = json.loads((tmp_path / "mined" / "report.json").read_text())
    assert {name: entry["pairs"] for name, entry in report["sets"].items()} == {
        name: len(read_labelled_pairs(tmp_path / "mined" / f"{name}.jsonl").rows) for name in sets
    }
    assert set(report["sets"]["pairs"]["baseline"]) >= {"spearman", "auc", "separability", "overlap"}
    assert "200 training pairs" in " ".join(parse_page((tmp_path / "mined" / "report.html").read_text()).itertext())
    assert "report    " in capsys.readouterr().out


def test_mined_pairs_are_the_same_with_one_and_with_two_threads(helpdesk, write_documents, tiny, tmp_path):
    file = write_documents(tmp_path / "documents.jsonl", helpdesk[:600])
    assert main(["mine", str(file), "--pairs", "200", "--seed", "5", "--out", str(tmp_path / "target")]) == 0
    target, options = tmp_path / "target" / "dev-unseen.jsonl", ["--pairs", "400"]
    written = []
    for num_threads in ("1", "2"):
        out = tmp_path / f"of-{num_threads}"
        argv = ["mine", str(file), "--target", str(target), "--baseline", str(tiny.path), *options, "--out", str(out)]
        environment = os.environ | {"OMP_NUM_THREADS": num_threads, "RAYON_NUM_THREADS": num_threads}
        subprocess.run(
            [sys.executable, "-m", "pipeline.cli", *argv], cwd=ROOT, env=environment, check=True, capture_output=True
        )
        written.append({path.name: path.read_bytes() for path in out.iterdir()})
    assert written[0] == written[1]
    assert written[0]["pairs.jsonl"].count(b"\n") > 200


def test_mine_writes_a_curriculum_and_replaces_it_by_triplets(documents, write_documents, tmp_path):
    file = write_documents(tmp_path / "documents.jsonl", documents)
    argv = ["mine", str(file), "--out", str(tmp_path / "mined"), "--pairs", "60", "--band", "0.02", "0.9"]
    assert main([*argv, "--strategy", "curriculum", "--dev-share", "0"]) == 0
    phases = [read_labelled_pairs(tmp_path / "mined" / f"phase{i}.jsonl").rows for i in (1, 2, 3)]
    assert read_labelled_pairs(tmp_path / "mined" / "pairs.jsonl").rows == tuple(row for of in phases for row in of)
    assert main([*argv, "--triplets", "--dev-share", "0"]) == 0
    files = {path.name for path in (tmp_path / "mined").iterdir()}
    assert files == {"pairs.jsonl", "triplets.jsonl", "report.json", "report.html"}


def test_mine_says_how_like_the_target_the_pairs_are(helpdesk, write_documents, tiny, tmp_path, capsys):
    file = write_documents(tmp_path / "documents.jsonl", helpdesk[:2000])
    assert main(["mine", str(file), "--pairs", "400", "--seed", "5", "--out", str(tmp_path / "target")]) == 0
    capsys.readouterr()
    target = ["--target", str(tmp_path / "target" / "pairs.jsonl"), "--baseline", str(tiny.path)]
    options = ["--pairs", "400", "--dev-share", "0", "--out", str(tmp_path / "mined")]
    assert main(["mine", str(file), *target, *options]) == 0
    out = capsys.readouterr().out
    assert "(target)" in out
    assert "AUC of mined against target pairs (0.5: indistinguishable): positive 0." in out


def test_mine_says_which_option_had_no_effect(documents, write_documents, tmp_path, capsys):
    file = write_documents(tmp_path / "documents.jsonl", documents)
    argv = ["mine", str(file), "--out", str(tmp_path / "mined"), "--pairs", "60", "--band", "0", "0.9"]
    assert main([*argv, "--positive-band", "0.3", "0.5"]) == 0
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note: --")]
    assert said == [
        "note: --positive-band had no effect: strategy 'matched' takes both classes from one band, 0-0.9 "
        "(--band, or the target's)"
    ]
    assert said[0].removeprefix("note: ") in json.loads((tmp_path / "mined" / "report.json").read_text())["warnings"]


def test_mine_replaces_what_it_mined_before(documents, write_documents, tmp_path):
    file = write_documents(tmp_path / "documents.jsonl", documents)
    for num_pairs in (100, 60):
        assert main(["mine", str(file), "--out", str(tmp_path / "mined"), "--pairs", str(num_pairs)]) == 0
    assert len(read_labelled_pairs(tmp_path / "mined" / "pairs.jsonl").rows) == 60


def test_mine_reads_columns_by_other_names(documents, tmp_path):
    file = tmp_path / "tickets.csv"
    rows = ['"' + row.text.replace('"', '""') + f'",{row.group}' for row in documents]
    file.write_text("\n".join(["body,intent", *rows]))
    columns = ["--column", "text=body", "--column", "group=intent"]
    assert main(["mine", str(file), "--out", str(tmp_path / "mined"), "--pairs", "60", *columns]) == 0
    assert len(read_labelled_pairs(tmp_path / "mined" / "pairs.jsonl").rows) == 60


def test_sigterm_ends_a_command_as_resumable_and_leaves_nothing(write_documents, tmp_path):
    rows = [Document(str(i), f"card {i // 3} of {i % 7} and {i % 11} text {i}", "c", str(i // 3)) for i in range(6_000)]
    file = write_documents(tmp_path / "documents.jsonl", rows)
    argv = ["mine", str(file), "--pairs", "60000", "--max-uses", "1000", "--out", str(tmp_path / "out" / "mined")]
    with subprocess.Popen(
        [sys.executable, "-m", "pipeline.cli", *argv], cwd=ROOT, stderr=subprocess.PIPE, text=True
    ) as process:
        said = process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        rest = process.stderr.read()
    assert said.startswith("reading")
    assert process.returncode == 75, rest
    assert rest.splitlines()[-1] == "simile: stopped by SIGTERM; run the same command to resume"
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


# run


def test_run_goes_the_whole_path(finished, parse_page):
    out = finished.parent / "out"
    assert {path.name for path in out.iterdir()} == {
        "baseline",
        "baseline.inputs.json",
        "baseline.looks.jsonl",
        "mined",
        "mined.inputs.json",
        "bundle",
        "bundle.weights",
        "bundle.work",
        "report.html",
        "report.json",
    }
    report = json.loads((out / "report.json").read_text())
    # The documents held out of the trained groups yield too few pairs for a set of their own.
    assert list(report["sets"]) == ["test-unseen"]
    assert report["bundle"]["digest"] == read_bundle(out / "bundle").manifest.digest
    assert report["baseline"]["digest"] == read_bundle(out / "baseline").manifest.digest
    assert set(report["leaked_texts"].values()) == {0}
    assert (out / "bundle" / "evaluation.json").is_file()
    assert "Training" in " ".join(parse_page((out / "report.html").read_text()).itertext())


def test_run_takes_a_table_of_documents_without_a_config(make_base, documents, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [(row.text, row.group) for row in documents]
    with Path("questions.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("question", "intent"), *rows])
    train = {"base": str(make_base("bert")), "max_length": 32, "precision": "fp32", "min_base_agreement": 0}
    changes = ["--set", f"train={json.dumps(train)}", "--set", "mine.pairs=100"]
    columns = ["--column", "text=question", "--column", "group=intent"]
    assert main(["run", "questions.csv", *columns, *changes]) in (0, 3)
    out = Path("runs/questions")
    assert list(json.loads((out / "report.json").read_text())["sets"]) == ["test-unseen"]
    trained = {text for pair in read_labelled_pairs(out / "mined" / "pairs.jsonl").texts for text in pair}
    assert trained <= {text for text, _ in rows}
    assert read_training_texts(read_bundle(out / "bundle")) == set(map(text_hash, trained))


def test_run_skips_what_is_there(rerun, tmp_path, capsys):
    kept = [tmp_path / "out" / name for name in ("baseline", "mined", "bundle.weights", "bundle.work")]
    before = [times(folder) for folder in kept]
    code = main(rerun)
    out, error = capsys.readouterr()
    verdict = json.loads((tmp_path / "out" / "report.json").read_text())["verdict"]
    assert code == {"pass": 0, "fail": 3}[verdict]
    assert error.count("is there already") == 2
    assert "already trained by this very run" in error
    assert [times(folder) for folder in kept] == before
    assert out.splitlines()[-1].startswith("next: ")


def test_run_with_other_settings_stops_and_restarts_when_told_to(rerun, tmp_path, capsys):
    out = tmp_path / "out"
    (out / "notes.txt").write_text("mine")
    before = times(out)
    assert main([*rerun, "--set", "train.seed=7", "--set", "train.max_length=16"]) == 2
    assert "--restart" in capsys.readouterr().err
    assert times(out) == before
    assert main([*rerun, "--set", "train.seed=7", "--restart"]) in (0, 3)
    assert read_bundle(out / "bundle").manifest.made.seed == 7
    looks = [json.loads(line) for line in (out / "baseline.looks.jsonl").read_text().splitlines()]
    assert len({look["bundle"] for look in looks}) == 2
    assert (out / "notes.txt").read_text() == "mine"


def test_run_of_another_version_is_refused_and_of_another_commit_noted(rerun, tmp_path, monkeypatch, capsys):
    stamp = tmp_path / "out" / "mined.inputs.json"
    before, made = times(tmp_path / "out"), json.loads(stamp.read_text())
    assert set(made) == {"version", "commit", "inputs"}
    monkeypatch.setattr("pipeline.run.__version__", "9.9")
    assert main(rerun) == 2
    needed = f"made by Simile {made['version']}, this is 9.9; need --restart"
    assert needed in capsys.readouterr().err
    assert times(tmp_path / "out") == before
    monkeypatch.undo()
    stamp.write_text(json.dumps(made | {"commit": "0123abc-dirty"}))
    assert main(rerun) in (0, 3)
    assert "mined is there already (made at commit 0123abc-dirty, this is " in capsys.readouterr().err


@pytest.mark.parametrize("content", ["", "[" * 100_000, "[]", '{"version": NaN}'])
def test_stage_with_a_damaged_stamp_is_made_anew(rerun, tmp_path, content, capsys):
    baseline = times(tmp_path / "out" / "mined")
    (tmp_path / "out" / "mined.inputs.json").write_text(content)
    assert main(rerun) in (0, 3)
    assert "mined was made from other inputs or not to its end, so it is made anew" in capsys.readouterr().err
    assert times(tmp_path / "out" / "mined") != baseline


def test_second_run_in_one_folder_is_told_at_once(rerun, tmp_path, capsys):
    with alone(tmp_path / "out" / "run"):
        assert main(rerun) == 75
    assert "out/run: another process is writing it" in capsys.readouterr().err


def test_second_mining_of_one_output_is_told_at_once(documents, write_documents, tmp_path, capsys):
    file = write_documents(tmp_path / "documents.jsonl", documents)
    with alone(tmp_path / "mined"):
        assert main(["mine", str(file), "--out", str(tmp_path / "mined")]) == 75
    assert "mined: another process is writing it" in capsys.readouterr().err
    assert not (tmp_path / "mined").exists()


def test_report_names_the_version_and_the_commit(finished):
    for file in ("report.json", "mined/report.json"):
        report = json.loads((finished.parent / "out" / file).read_text())
        assert (report["version"], report["commit"]) == (__version__, commit())


def test_run_judges_on_own_pairs_and_keeps_them_out_of_mining(write_config, documents, tmp_path):
    rows = [(documents[0].text, documents[1].text, 1), (documents[0].text, documents[100].text, 0)] * 20
    config = write_config(
        tmp_path / "run", test=["own.jsonl"], guard=["general.jsonl"], mine={"pairs": 100, "dev_share": 0}
    )
    for name in ("own", "general"):
        lines = ({"text_a": a, "text_b": b, "label": label} for a, b, label in rows)
        (config.parent / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert main(["run", str(config)]) in (0, 3)
    out = config.parent / "out"
    report = json.loads((out / "report.json").read_text())
    assert (list(report["sets"]), list(report["guards"])) == (["own"], ["general"])
    assert report["leaked_texts"] == {"own": 0, "general": 0}
    mined = {text for pair in read_labelled_pairs(out / "mined" / "pairs.jsonl").texts for text in pair}
    assert not mined & {text for row in rows for text in row[:2]}


@pytest.mark.parametrize("has_few_calibration_pairs", [False, True])
def test_run_is_calibrated_on_its_target_where_that_has_labels(
    has_few_calibration_pairs, write_config, finished, tmp_path, capsys
):
    files = {"target": "target.jsonl", "test": ["test.jsonl"]}
    if has_few_calibration_pairs:
        files["calibrate"] = ["calibration.jsonl"]
    config = write_config(tmp_path / "run", **files, mine={"pairs": 100})
    mined = (finished.parent / "out" / "mined").glob("test-*.jsonl")
    rows = [row for path in sorted(mined) for row in read_labelled_pairs(path).rows]
    # One positive to three negatives, as no mined set has it.
    kept = [row for row in rows if row.label == 0][:48] + [row for row in rows if row.label == 1][:16]
    target, calibration = (kept[::2], kept[1::2]) if has_few_calibration_pairs else (kept, [])
    rest = [row for row in rows if row not in kept]
    for name, pairs in (("target", target), ("calibration", calibration), ("test", rest)):
        lines = ({"text_a": row.text_a, "text_b": row.text_b, "label": row.label} for row in pairs)
        (config.parent / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert main(["run", str(config)]) in (0, 3)
    note = "'calibrate' has 32 pairs, need 50: calibration is fitted on them and on the target"
    assert (note in capsys.readouterr().err) == has_few_calibration_pairs
    assert len(kept) == 64
    assert read_bundle(config.parent / "out" / "bundle").manifest.calibration.positive_share == pytest.approx(16 / 64)


def test_paths_of_a_run_are_relative_to_its_config(write_config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = write_config(
        tmp_path / "data", target="target.jsonl", dev=["dev.jsonl"], test=["/elsewhere/test.jsonl"], out="results"
    )
    config = read_run_config(path.relative_to(tmp_path))
    assert config.documents == Path("data/documents.jsonl")
    assert (config.target, config.dev) == (Path("data/target.jsonl"), (Path("data/dev.jsonl"),))
    assert config.test == (Path("/elsewhere/test.jsonl"),)
    assert config.out == Path("results")


def test_set_comes_before_the_file(write_config, tmp_path):
    changes = ["mine.pairs=99", "train.lora.rank=4", "guard_margin=0.5", "train.learning_rate=2e-4"]
    config = read_run_config(write_config(tmp_path / "data"), changes)
    (member,) = config.train
    assert (config.mine.pairs, config.mine.test_share) == (99, 0.25)
    assert (member.lora.rank, member.lora.alpha, member.max_length) == (4, 64, 32)
    assert (config.guard_margin, member.learning_rate) == (0.5, 2e-4)


def test_later_set_comes_before_the_earlier_one(write_config, tmp_path):
    changes = ["train.epochs=3", "train.epochs=4"]
    (member,) = read_run_config(write_config(tmp_path / "data"), changes).train
    assert member.epochs == 4


def test_set_changes_no_setting_of_the_mapping_it_is_given():
    values = {"train": {"lora": {"rank": 32}}}
    assert apply_overrides(values, ["train.lora.rank=4"]) == {"train": {"lora": {"rank": 4}}}
    assert values == {"train": {"lora": {"rank": 32}}}


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_found_from_everywhere(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for spec in (name, f"examples/{name}.yaml"):
        assert preset_path(spec) == ROOT / "examples" / f"{name}.yaml"
        assert read_train_config(spec).name == name.removesuffix("-bundled")


def test_version_and_help_need_no_command(capsys):
    for option in ("--version", "--help"):
        assert main([option]) == 0
    assert capsys.readouterr().out.startswith("simile ")


@pytest.mark.parametrize(
    ("argv", "package", "extras"),
    [(["serve", "x"], "onnxruntime", "serve-cpu"), (["quickstart"], "sklearn", "train,serve-cpu")],
)
def test_package_that_is_not_installed_is_named_with_its_extra(argv, package, extras):
    code = f"import sys; sys.modules[{package!r}] = None; from pipeline.cli import main; sys.exit(main({argv}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert f"needs the package {package}" in line
    assert f"pip install 'simile-pairs[{extras}]'" in line


def test_mine_replaces_no_folder_that_holds_more_than_it_writes(documents, write_documents, tmp_path, capsys):
    source, out = write_documents(tmp_path / "documents.jsonl", documents), tmp_path / "out"
    (out / "bundle").mkdir(parents=True)
    (out / "report.json").write_text("{}")
    assert main(["mine", str(source), "--out", str(out)]) == 2
    assert "holds files that are no mined pairs" in capsys.readouterr().err
    assert (out / "bundle").is_dir()


def test_mine_keeps_texts_out(documents, write_documents, tmp_path):
    source, held_out = write_documents(tmp_path / "documents.jsonl", documents), tmp_path / "held-out.jsonl"
    write_pairs(held_out, [Pair(documents[0].text, documents[1].text, label=1)])
    assert main(["mine", str(source), "--out", str(tmp_path / "out"), "--held-out", str(held_out)]) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["dropped"]["text of held-out pairs"] == 2


def test_restart_removes_nothing_that_no_run_wrote(write_config, tmp_path, capsys):
    (tmp_path / "out" / "baseline").mkdir(parents=True)
    (tmp_path / "out" / "baseline" / "thesis.tex").touch()
    assert main(["run", str(write_config(tmp_path)), "--restart"]) == 2
    assert "exists, but no run wrote it" in capsys.readouterr().err
    assert (tmp_path / "out" / "baseline" / "thesis.tex").exists()


def test_run_keeps_own_dev_and_guard_texts_out_of_training(write_config, documents, tmp_path):
    for name, (a, b, c) in {"dev": (0, 1, 20), "guard": (2, 3, 40)}.items():
        texts = [documents[i].text for i in (a, b, c)]
        write_pairs(tmp_path / f"{name}.jsonl", [Pair(texts[0], texts[1], label=1), Pair(texts[0], texts[2], label=0)])
    config = write_config(tmp_path, dev=["dev.jsonl"], guard=["guard.jsonl"])
    assert main(["run", str(config)]) in (0, 3)
    report = json.loads((tmp_path / "out" / "mined" / "report.json").read_text())
    assert report["dropped"]["text of held-out pairs"] == 6


def test_joined_bundle_knows_what_its_members_were_trained_on(words, tiny, tmp_path):
    paths = [trained_on(words, tmp_path / "a", "a text"), shutil.copytree(tiny.path, tmp_path / "b")]
    assert main(["join", *map(str, paths), "--out", str(tmp_path / "both")]) == 0
    assert read_training_texts(read_bundle(tmp_path / "both")) == {text_hash("a text")}


def test_joined_bundle_with_an_unknown_part_is_unknown_itself(words, tiny, pairs, tmp_path):
    trained_on(words, tmp_path / "both", "a text of what was there before")
    paths = [trained_on(words, tmp_path / "a", "a text"), shutil.copytree(tiny.path, tmp_path / "b")]
    (paths[0] / TEXTS).unlink()
    assert main(["join", *map(str, paths), "--out", str(tmp_path / "both")]) == 0
    assert not (tmp_path / "both" / TEXTS).exists()
    assert read_training_texts(read_bundle(tmp_path / "both")) is None
    report, code = report_of(tmp_path, tmp_path / "both", pairs, "--baseline", tiny.path, "--gate")
    assert (code, report["leaked_texts"]) == (3, None)
    assert report["reasons"][-1].startswith("the bundle's training texts are unknown")


def test_join_replaces_none_of_its_inputs(words, tiny, tmp_path, capsys):
    out = shutil.copytree(words.path, tmp_path / "words")
    assert main(["join", str(out), str(tiny.path), "--out", str(out)]) == 2
    assert "is one of the bundles to join" in capsys.readouterr().err
    assert read_bundle(out).identity == words.identity
