import json
import shutil
import subprocess

import pytest

from pipeline.cli import main
from pipeline.commands.evaluate import remember_evaluation
from simile.artifacts import CARD, EVALUATION, read_bundle, read_training_texts, write_bundle
from tests.evaluation_reports import evaluation_report

PLAIN = ("--device", "cpu", "--precision", "fp32")


@pytest.fixture
def own(words, tmp_path):
    """A bundle that may be written to, without the evaluations that other tests have left in the shared one."""
    bundle = read_bundle(words.path)
    hashes = read_training_texts(bundle)
    return write_bundle(tmp_path / "own", bundle.manifest, bundle.data, hashes)


def test_card_gets_the_table_of_the_evaluation_and_the_bundle_stays_what_it_is(own, tiny, pairs):
    before = (own.path / CARD).read_text()
    for _ in range(2):
        assert main(["evaluate", str(own.path), str(pairs), "--baseline", str(tiny.path), "--gate", *PLAIN]) == 0
    (kept,) = json.loads((own.path / EVALUATION).read_text())["reports"]
    card = (own.path / CARD).read_text()
    assert "## Evaluation" not in before
    assert card.count("## Evaluation") == 1
    assert (
        f"| judged | {kept['sets']['judged']['pairs']} | {kept['sets']['judged']['baseline']['spearman']:.4f} |" in card
    )
    assert "The gate's verdict: pass" in card
    assert read_bundle(own.path).identity == own.identity


def stored(bundle):
    return json.loads((bundle.path / EVALUATION).read_text())["reports"]


def test_evaluation_of_another_set_is_added_and_the_gates_stays(own, tiny, pairs, tmp_path):
    other = tmp_path / "other.jsonl"
    other.write_text("".join(pairs.read_text().splitlines(keepends=True)[:20]))
    argv, gated = ["evaluate", str(own.path)], ["--baseline", str(tiny.path), "--gate", *PLAIN]
    assert main([*argv, str(pairs), *gated]) == 0
    (gate,) = stored(own)
    for plain in ([str(other)], [str(pairs)], [str(pairs), "--baseline", str(tiny.path)], [str(other)]):
        assert main([*argv, *plain, *PLAIN]) == 0
    assert stored(own)[0] == gate
    assert [(list(one["sets"]), one["verdict"]) for one in stored(own)] == [
        (["judged"], "pass"), (["judged"], None), (["judged"], None), (["other"], None),
    ]  # fmt: skip
    card = (own.path / CARD).read_text()
    assert card.count("## Evaluation") == 4
    assert card.index("The gate's verdict: pass") < card.index("| other |")
    assert main([*argv, str(pairs), *gated]) == 0
    assert [one["verdict"] for one in stored(own)] == [None, None, None, "pass"]


def test_same_name_of_other_pairs_is_another_set(own, pairs, tmp_path):
    lines = pairs.read_text().splitlines(keepends=True)
    for num in (20, 30, 20):
        (tmp_path / "a.jsonl").write_text("".join(lines[:num]))
        assert main(["evaluate", str(own.path), str(tmp_path / "a.jsonl"), *PLAIN]) == 0
    assert [one["sets"]["a"]["pairs"] for one in stored(own)] == [30, 20]


def test_bundle_keeps_the_latest_evaluations_and_rather_those_of_the_gate(own):
    judged = {"digest": own.manifest.digest}
    for number in range(40):
        baseline = {"name": "b", "digest": f"{number:064x}", "provider": "CPUExecutionProvider", "precision": "fp32"}
        verdict = "pass" if number in (0, 20) else None
        remember_evaluation(own, evaluation_report(bundle=judged, baseline=baseline, verdict=verdict))
    numbers = [int(one["baseline"]["digest"], 16) for one in stored(own)]
    assert numbers == [0, 20, *range(22, 40)]
    for number in range(40, 61):
        baseline = baseline | {"digest": f"{number:064x}"}
        remember_evaluation(own, evaluation_report(bundle=judged, baseline=baseline, verdict="fail"))
    assert [int(one["baseline"]["digest"], 16) for one in stored(own)] == list(range(41, 61))


def test_card_of_a_bundle_that_cannot_be_written_to_stays(words, pairs, disk):
    bundle = shutil.copytree(words.path, disk / "words")
    before = (bundle / CARD).read_bytes()
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    assert main(["evaluate", str(bundle), str(pairs), *PLAIN]) == 0
    assert (bundle / CARD).read_bytes() == before


def test_joined_bundle_and_baseline_have_cards(words, tiny, tmp_path):
    assert main(["join", str(words.path), str(tiny.path), "--out", str(tmp_path / "both")]) == 0
    joined, baseline = ((path / CARD).read_text() for path in (tmp_path / "both", tiny.path))
    assert "weighted mean of 2 members' cosines" in joined
    assert "made by simile join" in joined
    assert "made by simile baseline" in baseline


def test_evaluate_prints_a_note_on_tokens_that_the_encoder_does_not_know(tiny, tmp_path, capsys):
    faces = tmp_path / "faces.jsonl"
    rows = [{"text_a": f"\U0001f600 \U0001f62d my card {i}", "text_b": "my card", "label": i % 2} for i in range(8)]
    faces.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    report = tmp_path / "report.json"
    assert main(["evaluate", str(tiny.path), str(faces), "--json", str(report), *PLAIN]) == 0
    ((base, share),) = json.loads(report.read_text())["sets"]["faces"]["unknown_tokens"].items()
    assert share > 0.2
    note = f"note: {share:.0%} of the tokens of faces are unknown to the encoder {base}: texts that differ in these"
    assert note in capsys.readouterr().out
