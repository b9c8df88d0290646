"""`simile score --url`: what it prints is what it prints of a bundle."""

import json
import subprocess
import sys

import numpy as np
import pytest

from pipeline.cli import main
from serving.app import create_app
from serving.settings import Settings
from simile.scoring import load
from tests.live_servers import BUNDLE, Watched, described, error, scripted, served

TEXTS = ["forgot my password", "I forgot the password"]


@pytest.fixture(scope="module")
def server(words):
    """The service of a bundle, a few pairs a request."""
    app = Watched(create_app(Settings(max_pairs=16), load(words.path, device="cpu", precision="fp32")))
    with served(app) as url:
        yield url, app


def said(capsys, *argv) -> str:
    assert main([*map(str, argv)]) == 0
    return capsys.readouterr().out


def test_two_texts_are_scored_as_by_the_bundle(server, words, capsys):
    assert said(capsys, "score", "--url", server[0], *TEXTS) == said(capsys, "score", words.path, *TEXTS)
    assert said(capsys, "score", *TEXTS, "--url", server[0]) == said(capsys, "score", words.path, *TEXTS)


def test_file_is_scored_as_by_the_bundle(server, words, pairs, tmp_path, capsys):
    here, there = tmp_path / "here.jsonl", tmp_path / "there.jsonl"
    printed = said(capsys, "score", "--url", server[0], "--pairs", pairs)
    assert printed == said(capsys, "score", words.path, "--pairs", pairs)
    assert said(capsys, "score", "--url", server[0], "--pairs", pairs, "--out", there) == ""
    said(capsys, "score", words.path, "--pairs", pairs, "--out", here)
    rows_here, rows_there = ([json.loads(line) for line in file.read_text().splitlines()] for file in (here, there))
    assert [list(row) for row in rows_there] == [["text_a", "text_b", "label", "score", "probability"]] * len(rows_here)
    assert [row["text_b"] for row in rows_there] == [row["text_b"] for row in rows_here]
    scores = [[row["score"] for row in rows] for rows in (rows_here, rows_there)]
    np.testing.assert_allclose(*scores, rtol=0, atol=1e-6)
    assert len(server[1].bodies) > 2


def test_progress_is_shown_for_a_file_and_not_for_two_texts(server, pairs, capsys):
    main(["score", "--url", server[0], *TEXTS])
    assert capsys.readouterr().err == ""
    main(["score", "--url", server[0], "--pairs", str(pairs)])
    num_pairs = len(pairs.read_text().splitlines())
    assert f"100%  {num_pairs}/{num_pairs} pairs" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("status", "code"), [(401, 2), (404, 2), (422, 2), (500, 1), (429, 75), (502, 75), (503, 75), (504, 75)]
)
def test_errors_of_the_server_are_one_line_and_an_exit_code(status, code, capsys, monkeypatch):
    monkeypatch.setenv("SIMILE_API_KEY", "sk-secret")
    refusal = error(status, "some_kind", "what was got", retry_after="0")
    with scripted(lambda request: described() if request.path == BUNDLE else refusal) as server:
        assert main(["score", "--url", server.url, *TEXTS]) == code
        assert server.requests[-1].headers["authorization"] == "Bearer sk-secret"
    out, line = capsys.readouterr()
    assert line.startswith(f"simile: {server.url}/v1/similarity: {status} some_kind: what was got")
    assert line.count("\n") == 1
    assert "sk-secret" not in line
    assert out == ""


def test_file_is_not_given_up_at_the_first_refusals(words, pairs, tmp_path, capsys):
    refusals = iter([error(503, "not_ready", retry_after="0")] * 20)
    with scripted(lambda _: next(refusals, error(422))) as server:
        assert main(["score", "--url", server.url, "--pairs", str(pairs)]) == 2
        assert len(server.requests) == 21


def test_scoring_by_a_server_needs_no_onnx_runtime(server):
    program = """
import sys
sys.modules["onnxruntime"] = None
from pipeline.cli import main
sys.exit(main(sys.argv[1:]))
"""
    command = [sys.executable, "-c", program, "score", "--url", server[0], *TEXTS]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_missing_http_library_is_told_with_its_extra(monkeypatch, capsys):
    for name in [name for name in sys.modules if name.startswith("simile.client")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "httpx2", None)
    assert main(["score", "--url", "http://localhost", *TEXTS]) == 2
    assert capsys.readouterr().err == (
        "simile: score needs the package httpx2, which is not installed: pip install 'simile-pairs[client]'\n"
    )
