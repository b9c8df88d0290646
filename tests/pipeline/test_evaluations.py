import json
import shutil
import subprocess

import pytest

from pipeline.cli import main
from simile.artifacts import CARD, EVALUATION, read_bundle

PLAIN = ("--device", "cpu", "--precision", "fp32")


@pytest.fixture
def own(words, tmp_path):
    """A bundle that may be written to."""
    return read_bundle(shutil.copytree(words.path, tmp_path / "own"))


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
    note = (
        f"note: {share:.0%} of the tokens of faces are unknown to the encoder {base}: texts that differ in these look"
    )
    assert note in capsys.readouterr().out
