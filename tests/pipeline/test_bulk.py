"""`simile score` and `simile embed` of a folder: parts that are whole, named by their input, and equal however made."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.bulk import share
from simile.artifacts.bulk_manifest import BulkManifest
from simile.errors import InputError
from simile.scoring import load
from simile.scoring.quantized import int8_embeddings
from simile.scoring.streaming import StreamScorer
from tests.pipeline.bulk_inputs import (
    PLAIN,
    bulk,
    parts,
    read,
    rows,
    text,
    write_csv,
    write_folder,
    write_jsonl,
    write_parquet,
)

ROOT = Path(__file__).parents[2]
SMALL = ("--shard-rows", 64)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of three files of 300 pairs each."""
    return write_folder(tmp_path_factory.mktemp("bulk") / "in")


@pytest.fixture(scope="module")
def whole(folder, bundle, tmp_path_factory):
    """The parts of the folder, written without any disturbance."""
    out = tmp_path_factory.mktemp("bulk") / "out"
    assert bulk("score", bundle, folder, out, *SMALL) == 0
    return out


def refused(capsys) -> str:
    """The one line of a refusal, behind the lines that tell of progress."""
    out, error = capsys.readouterr()
    assert out == ""
    (line,) = [line for line in error.splitlines() if line.startswith("simile: ")]
    return line


def test_parts_hold_every_row_with_the_scores_of_the_scorer(whole, scorer):
    written = read(whole)
    assert [int(row["id"]) for row in written] == list(range(900))
    assert list(written[0]) == ["id", "text_a", "text_b", "note", "score", "probability"]
    expected = scorer.score([(row["text_a"], row["text_b"]) for row in written])
    np.testing.assert_allclose([row["score"] for row in written], expected, atol=1e-6)
    calibration = scorer.bundle.manifest.calibration
    odds = calibration.slope * expected + calibration.intercept
    np.testing.assert_allclose([row["probability"] for row in written], 1 / (1 + np.exp(-odds)), atol=1e-5)


def test_manifest_tells_what_was_computed_from_what(whole, folder, bundle):
    manifest = BulkManifest.model_validate_json((whole / "_SUCCESS").read_text())
    assert (manifest.work.digest, manifest.work.prior, manifest.precision) == (bundle.manifest.digest, 0.5, "fp32")
    assert [one.path for one in manifest.inputs] == [str(path) for path in sorted(folder.iterdir())]
    assert [part.name for part in manifest.parts] == sorted(path.name for path in whole.glob("*.parquet"))
    assert [part.rows for part in manifest.parts] == [64, 64, 64, 64, 44] * 3
    assert manifest.rows == 900
    by_part = [pq.read_table(path, columns=["text_a", "text_b"]) for path in sorted(whole.glob("*.parquet"))]
    assert [part.texts for part in manifest.parts] == [
        len({*table["text_a"].to_pylist(), *table["text_b"].to_pylist()}) for table in by_part
    ]


def test_part_states_bundle_prior_precision_and_input(whole, folder, bundle):
    stated = json.loads(pq.read_schema(whole / "c.parquet.00001.parquet").metadata[b"simile"])
    file = folder / "c.parquet"
    assert stated["input"] == {
        "path": str(file), "size_bytes": file.stat().st_size, "version": str(file.stat().st_mtime_ns)
    }  # fmt: skip
    assert (stated["work"]["digest"], stated["work"]["prior"]) == (bundle.manifest.digest, 0.5)
    assert (stated["precision"], stated["first_row"], stated["num_rows"]) == ("fp32", 64, 64)


def test_rerun_computes_only_the_parts_that_are_missing_or_damaged(folder, bundle, whole, tmp_path, capsys):
    out = tmp_path / "out"
    bulk("score", bundle, folder, out, *SMALL)
    (out / "a.jsonl.00002.parquet").unlink()
    os.truncate(out / "b.csv.00001.parquet", 700)
    before = {path.name: path.stat().st_mtime_ns for path in out.glob("*.parquet")}
    capsys.readouterr()
    assert bulk("score", bundle, folder, out, *SMALL) == 0
    changed = {path.name for path in out.glob("*.parquet") if before.get(path.name) != path.stat().st_mtime_ns}
    assert changed == {"a.jsonl.00002.parquet", "b.csv.00001.parquet"}
    assert parts(out) == parts(whole)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((*SMALL, "--prior", "0.1"), "got a part with prior 0.5, not 0.1"),
        (("--shard-rows", "65"), "got a part with rows_per_shard 64, not 65"),
        ((*SMALL, "--column", "text_a=text_b", "--column", "text_b=text_a"), "got a part with columns {}"),
    ],
)
def test_parts_of_other_work_are_refused(folder, bundle, whole, capsys, options, message):
    before = parts(whole)
    assert bulk("score", bundle, folder, whole, *options) == 2
    assert message in refused(capsys)
    assert parts(whole) == before


def test_parts_of_another_bundle_are_refused(folder, tiny, bundle, whole, capsys):
    before = parts(whole)
    assert bulk("score", tiny, folder, whole, *SMALL) == 2
    assert f"got a part by the bundle tiny@{bundle.manifest.digest[:12]}" in refused(capsys)
    assert parts(whole) == before


def test_parts_of_an_input_that_was_changed_are_refused(bundle, tmp_path, capsys):
    file = write_jsonl(tmp_path / "x.jsonl", rows(100))
    out = f"{tmp_path / 'out'}/"
    assert bulk("score", bundle, file, out, *SMALL) == 0
    before = parts(tmp_path / "out")
    write_jsonl(file, rows(100, 1))
    assert bulk("score", bundle, file, out, *SMALL) == 2
    assert f"got a part of {file} before it was changed" in refused(capsys)
    assert parts(tmp_path / "out") == before


def test_parts_of_an_input_that_is_gone_are_refused(bundle, tmp_path, capsys):
    for name in ("x.jsonl", "y.jsonl"):
        write_jsonl(tmp_path / name, rows(10))
    assert bulk("score", bundle, tmp_path / "*.jsonl", tmp_path / "out") == 0
    (tmp_path / "y.jsonl").unlink()
    assert bulk("score", bundle, tmp_path / "*.jsonl", tmp_path / "out") == 2
    assert "y.jsonl.00000.parquet: is no part of this input" in refused(capsys)


def test_killed_run_goes_on_and_ends_with_the_same_bytes(folder, bundle, whole, tmp_path):
    out, draw = tmp_path / "out", random.Random(0)
    command = [
        sys.executable,
        "-m",
        "pipeline.cli",
        "score",
        str(bundle.path),
        "--pairs",
        str(folder),
        "--out",
        str(out),
    ]
    num_parts = []
    for _ in range(4):
        process = subprocess.Popen(
            [*command, *map(str, SMALL), *PLAIN],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wanted = len(list(out.glob("*.parquet"))) + 1 if out.exists() else 1
        while process.poll() is None and not (out.exists() and len(list(out.glob("*.parquet"))) >= wanted):
            time.sleep(0.001)
        time.sleep(draw.uniform(0, 0.01))
        process.send_signal(signal.SIGKILL)
        process.wait()
        num_parts.append(len(list(out.glob("*.parquet"))))
    assert 0 < num_parts[0] < 15
    assert bulk("score", bundle, folder, out, *SMALL) == 0
    assert parts(out) == parts(whole)
    assert [path.name for path in out.iterdir() if path.name.endswith(".tmp")] == []


def test_shares_of_three_processes_equal_the_whole(folder, bundle, whole, tmp_path, monkeypatch):
    out = tmp_path / "out"
    assert bulk("score", bundle, folder, out, *SMALL, "--shard", "2/3") == 0
    assert len(parts(out)) == 5
    monkeypatch.setenv("SIMILE_SHARDS", "3")
    for index in (0, 2):
        assert "_SUCCESS" not in parts(out)
        monkeypatch.setenv("JOB_COMPLETION_INDEX", str(index))
        assert bulk("score", bundle, folder, out, *SMALL) == 0
    assert parts(out) == parts(whole)


@pytest.mark.parametrize(
    ("option", "environ"),
    [("0/3", {}), ("4/3", {}), ("1", {}), (None, {"JOB_COMPLETION_INDEX": "3", "SIMILE_SHARDS": "3"}),
     (None, {"JOB_COMPLETION_INDEX": "0"}), (None, {"SIMILE_SHARDS": "2"})],
)  # fmt: skip
def test_share_that_is_none_is_refused(option, environ):
    with pytest.raises(InputError, match=r"need (I/N|both numbers)"):
        share(option, environ)


@pytest.mark.parametrize("suffix", ["csv", "csv.gz", "tsv"])
def test_quoted_line_breaks_are_kept_across_shards_and_blocks(bundle, tmp_path, monkeypatch, suffix):
    monkeypatch.setattr("simile.bulk.tables.BLOCK_ROWS", 3)
    given = [{"text_a": f'the "card"\n\n{i}, "', "text_b": "a\ncard", "note": "\n" * (i % 3) + "x"} for i in range(50)]
    file = write_csv(tmp_path / "x.csv", given)
    if suffix != "csv":
        import gzip

        data = file.read_bytes()
        file.unlink()
        file = tmp_path / f"x.{suffix}"
        file.write_bytes(gzip.compress(data) if suffix.endswith(".gz") else data)
    options = ("--delimiter", "comma", "--quote", '"') if suffix == "tsv" else ()
    assert bulk("score", bundle, file, f"{tmp_path / 'out'}/", "--shard-rows", 7, *options) == 0
    written = read(tmp_path / "out")
    assert [{name: row[name] for name in given[0]} for row in written] == given


def test_utf16_is_one_shard(bundle, tmp_path):
    (tmp_path / "x.csv").write_text("text_a,text_b\n" + "the cärd,a card\n" * 20, encoding="utf-16")
    assert bulk("score", bundle, tmp_path / "x.csv", f"{tmp_path / 'out'}/", *SMALL, "--encoding", "utf-16") == 0
    assert [row["text_a"] for row in read(tmp_path / "out")] == ["the cärd"] * 20


def test_columns_of_json_lines_have_the_type_that_holds_all_their_values(bundle, tmp_path):
    pair = {"text_a": "the card", "text_b": "a card"}
    given = [{"n": 1, "x": 1, "s": "a", "mixed": 1, "tags": ["x"]}, {"n": None, "x": 1.5, "mixed": "é", "late": True}]
    write_jsonl(tmp_path / "x.jsonl", [pair | row for row in given])
    assert bulk("score", bundle, tmp_path / "x.jsonl", f"{tmp_path / 'out'}/", "--shard-rows", 1) == 0
    expected = [
        {"n": 1, "x": 1.0, "s": "a", "mixed": "1", "tags": '["x"]', "late": None},
        {"n": None, "x": 1.5, "s": None, "mixed": '"\\u00e9"', "tags": None, "late": True},
    ]
    written = read(tmp_path / "out")
    assert [{name: row[name] for name in expected[0]} for row in written] == expected


def test_columns_that_have_the_names_of_scores_are_kept(bundle, tmp_path):
    given = [row | {"score": 0.25, "input_score": 1} for row in rows(5)]
    write_parquet(tmp_path / "x.parquet", given)
    assert bulk("score", bundle, tmp_path / "x.parquet", f"{tmp_path / 'out'}/") == 0
    (row, *_) = read(tmp_path / "out")
    assert (row["input_input_score"], row["input_score"]) == (0.25, 1)


PAIR = '{"text_a": "x", "text_b": "y"}\n'
BAD = {
    "null": (PAIR + '{"text_a": "x", "text_b": null}\n', "x.jsonl:2: column 'text_b': got None, need a non-empty text"),
    "no text": ('{"text_a": ["secret"], "text_b": "y"}\n', "x.jsonl:1: column 'text_a': got list, need"),
    "no column": ('{"text_a": "x"}\n', "x.jsonl:1: got fields 'text_a', need 'text_a' and 'text_b'"),
    "no JSON": (PAIR + '{"text_a": "secret"', "x.jsonl:2: no JSON ("),
    "an array": (f"[{PAIR.strip()}]\n", "x.jsonl:1: got a JSON list, need an object"),
    "nothing": ("", "x.jsonl: the file is empty, need at least one record"),
}


@pytest.mark.parametrize("bad", BAD)
def test_bad_input_is_one_line_before_any_work(bundle, tmp_path, capsys, bad):
    content, message = BAD[bad]
    (tmp_path / "x.jsonl").write_text(content)
    assert bulk("score", bundle, tmp_path / "x.jsonl", f"{tmp_path / 'out'}/") == 2
    line = refused(capsys)
    assert message in line
    assert "secret" not in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("source", "out", "message"),
    [
        ("in", "in/sub/", "is read as input"),
        ("in/*.jsonl", "in/", "is read as input"),
        ("in/*.jsonl", "scores.jsonl", "got a file to write"),
        ("in/*.nothing", "out", "got no files, need at least one"),
        ("none", "out/", "no such file"),
    ],
)
def test_places_that_do_not_fit_are_refused(bundle, folder, tmp_path, monkeypatch, capsys, source, out, message):
    monkeypatch.chdir(folder.parent)
    assert bulk("score", bundle, source, out) == 2
    assert message in refused(capsys)
    assert [path.name for path in folder.parent.iterdir()] == ["in"]


def test_part_is_not_written_of_an_input_that_changes_meanwhile(bundle, tmp_path, monkeypatch, capsys):
    file = write_parquet(tmp_path / "x.parquet", rows(100))
    score = StreamScorer.score

    def changing(self, pairs):
        os.utime(file)
        return score(self, pairs)

    monkeypatch.setattr(StreamScorer, "score", changing)
    assert bulk("score", bundle, file, f"{tmp_path / 'out'}/") == 2
    assert "was changed while it was read" in refused(capsys)
    assert list(tmp_path.glob("out/*")) == []


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_embeddings_are_those_of_the_scorer(tiny, tmp_path, dtype):
    texts = [text(i) for i in range(150)]
    write_jsonl(tmp_path / "x.jsonl", [{"id": i, "text": one} for i, one in enumerate(texts)])
    out = tmp_path / "out"
    assert bulk("embed", tiny, tmp_path / "x.jsonl", f"{out}/", *SMALL, "--dtype", dtype) == 0
    expected = load(tiny.path, device="cpu", precision="fp32").embed(texts)
    table = pq.read_table(out)
    number = {"float32": pa.float32(), "float16": pa.float16(), "int8": pa.int8()}[dtype]
    assert table.schema.field("embedding").type == pa.list_(number, 32)
    written = np.array(table["embedding"].to_pylist())
    if dtype == "int8":
        assert np.abs(written - int8_embeddings(expected).astype(int)).max() <= 1
        assert (np.abs(written).max(axis=1) == 127).all()
    else:
        np.testing.assert_allclose(written, expected, atol=1e-6 if dtype == "float32" else 1e-3)


def test_lexical_member_has_no_embeddings(bundle, tmp_path, capsys):
    write_jsonl(tmp_path / "x.jsonl", [{"text": "the card"}])
    assert bulk("embed", bundle, tmp_path / "x.jsonl", f"{tmp_path / 'out'}/") == 2
    assert refused(capsys) == f"simile: {bundle.path}: member words has no embeddings, need encoders only"


@pytest.mark.parametrize(
    ("out", "options", "message"),
    [
        ("x.jsonl", ("--engine", "ray"), "got --engine without a folder to write to"),
        ("x.jsonl", ("--shard", "1/2"), "got --shard without a folder to write to"),
        ("out/", ("--num-gpus", "1"), "got --actors or --num-gpus with the local engine"),
    ],
)
def test_options_that_would_have_no_effect_are_refused(bundle, tmp_path, capsys, out, options, message):
    write_jsonl(tmp_path / "in.jsonl", rows(3))
    assert bulk("score", bundle, tmp_path / "in.jsonl", f"{tmp_path}/{out}", *options) == 2
    assert message in refused(capsys)


def test_gateway_gets_the_rows_and_the_shards_left(bundle, tmp_path, monkeypatch):
    pushed = []

    def push(gateway, job, registry, grouping, timeout):
        samples = [sample for family in registry.collect() for sample in family.samples]
        values = {(sample.name, *sample.labels.values()): sample.value for sample in samples}
        pushed.append((gateway, job, grouping, values))

    monkeypatch.setenv("PROMETHEUS_PUSHGATEWAY_URL", "http://gateway:9091")
    monkeypatch.setattr("simile.pushgateway.push_to_gateway", push)
    monkeypatch.setattr("simile.pushgateway.PUSH_INTERVAL_S", 0)
    write_jsonl(tmp_path / "in.jsonl", rows(100))
    assert bulk("score", bundle, tmp_path / "in.jsonl", f"{tmp_path}/out/", "--shard-rows", 10, "--shard", "2/2") == 0
    assert {one[:2] for one in pushed} == {("http://gateway:9091", "simile-score")}
    assert pushed[-1][2] == {"bundle": "tiny", "shard": "2-2"}
    left = [values["simile_bulk_shards_left",] for *_, values in pushed]
    assert (left[1], left[-1]) == (5, 0)
    last = pushed[-1][3]
    assert (last["simile_bulk_rows",], last["simile_bulk_state", "finished"]) == (50, 1)
    assert last["simile_bulk_rows_per_second",] == pytest.approx(50 / last["simile_bulk_seconds",])


def test_full_disk_is_reported_and_what_was_whole_is_kept(bundle, folder, disk, tmp_path, whole, capsys):
    subprocess.run(["mount", "-o", "remount,size=32k", disk], check=True)
    assert bulk("score", bundle, folder, disk / "out", *SMALL) == 75
    assert "the disk is full" in refused(capsys)
    written = parts(disk / "out")
    assert 0 < len(written) < 15
    assert written.items() <= parts(whole).items()
    subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
    assert bulk("score", bundle, folder, disk / "out", *SMALL) == 0
    assert parts(disk / "out") == parts(whole)
