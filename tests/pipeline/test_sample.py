"""`simile sample`, from pairs, from a folder of sampled traffic, and from documents."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.cli import main
from simile.artifacts import Combine, read_sampled_pairs, write_bundle
from simile.scoring import load

WORDS = ("no", "signal", "water", "cold", "drink", "bars", "phone", "the", "a", "return")


def write_rows(path, rows):
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return str(path)


@pytest.fixture(scope="module")
def encoder_only(bundle, tmp_path_factory):
    """The path of a bundle that has embeddings: the tiny one's encoder alone."""
    member = bundle.manifest.members[0]
    golden = [
        pair.model_copy(update={"scores": {member.name: pair.scores[member.name]}}) for pair in bundle.manifest.golden
    ]
    update = {"members": (member,), "combine": Combine(weights={member.name: 1.0}), "calibration": None}
    manifest = bundle.manifest.model_copy(update={**update, "golden": tuple(golden)})
    paths = [entry.path for entry in (member.model, member.model_fp16, member.tokenizer)]
    data = {path: (bundle.path / path).read_bytes() for path in paths}
    return write_bundle(tmp_path_factory.mktemp("encoder") / "bundle", manifest, data).path


@pytest.fixture
def pairs(tmp_path):
    rows = [{"text_a": f"{a} {b}", "text_b": f"{b} {c}", "label": 1} for a in WORDS for b in WORDS for c in WORDS[:3]]
    return write_rows(tmp_path / "pairs.jsonl", rows)


@pytest.fixture
def documents(tmp_path):
    return write_rows(tmp_path / "documents.jsonl", [{"text": f"{a} {b}", "group": a} for a in WORDS for b in WORDS])


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_pairs_are_scored_and_sampled(pairs, bundle, encoder_only, tmp_path, suffix, capsys):
    out = tmp_path / f"sample.{suffix}"
    bundles = ["--bundle", str(bundle.path), "--baseline", str(encoder_only)]
    assert main(["sample", pairs, "--out", str(out), *bundles, "--pairs", "60"]) == 0
    sample = read_sampled_pairs(out)
    assert len(sample) == 60
    for name, path in (("bundle_score", bundle.path), ("baseline_score", encoder_only)):
        scores = [getattr(pair, name) for pair in sample]
        expected = load(path, device="cpu").score([(pair.text_a, pair.text_b) for pair in sample])
        assert scores == pytest.approx(expected.tolist(), abs=1e-5)
    assert sum(1 / pair.inclusion_probability for pair in sample) == pytest.approx(300)
    printed = capsys.readouterr().out
    assert "stands for" not in printed
    assert printed.splitlines()[-2].split() == ["all", "300", "60"]


def test_folder_of_traffic_keeps_its_scores_and_multiplies_its_probabilities(tmp_path, capsys):
    folder = tmp_path / "traffic"
    folder.mkdir()
    for number in range(2):
        rows = [
            {"text_a": f"a{i}", "text_b": "b", "bundle_score": 0.2, "inclusion_probability": 0.5, "key": None}
            for i in range(number, 20)
        ]
        pq.write_table(pa.Table.from_pylist(rows), folder / f"sampled-{number}.parquet")
    assert main(["sample", str(folder), "--out", str(tmp_path / "sample.jsonl"), "--pairs", "10"]) == 0
    sample = read_sampled_pairs(tmp_path / "sample.jsonl")
    # Of 20 pairs, 19 were drawn twice: they stand for 4 requests' pairs each.
    assert {pair.inclusion_probability for pair in sample} <= {0.125, 0.25}
    assert capsys.readouterr().out.splitlines()[-2].split() == ["all", "20", "78", "10"]


def test_documents_are_proposed_as_pairs(documents, encoder_only, tmp_path, capsys):
    out = tmp_path / "sample.jsonl"
    assert main(["sample", documents, "--out", str(out), "--baseline", str(encoder_only), "--pairs", "80"]) == 0
    sample = read_sampled_pairs(out)
    assert len(sample) == 80
    assert all(pair.baseline_score is not None and pair.bundle_score is None for pair in sample)
    assert len({pair.stratum for pair in sample}) > 5
    assert "0.95 to 1.00" in capsys.readouterr().out


def test_column_can_name_the_text_of_documents(tmp_path, encoder_only):
    path = write_rows(tmp_path / "d.jsonl", [{"body": f"{a} water"} for a in WORDS])
    out = tmp_path / "sample.jsonl"
    arguments = ["--out", str(out), "--column", "text=body", "--bundle", str(encoder_only)]
    assert main(["sample", path, *arguments]) == 0
    assert len(read_sampled_pairs(out)) == 10 * 9 / 2


@pytest.mark.parametrize(
    ("rows", "arguments", "told"),
    [
        ([{"text_a": "a", "text_b": "b"}], [], "got pairs without 'bundle_score', need --bundle BUNDLE"),
        ([{"text": "a"}], [], "got documents, need --bundle or --baseline"),
        ([{"body": "a"}], [], "need 'text_a' and 'text_b' of pairs or 'text' of documents"),
        ([{"text_a_sha256": "0", "text_b_sha256": "1"}], [], "hashes cannot be labelled"),
        ([{"text": "a"}, {"text": "A "}], ["--bundle", "ENCODER"], "got 1 different texts, need at least 2"),
        ([{"text_a": "a", "text_b": "b"}], ["--out", "sample.csv"], "got a file of type '.csv', need .jsonl or"),
    ],
)
def test_input_that_cannot_be_sampled_is_told_in_one_line(tmp_path, encoder_only, rows, arguments, told, capsys):
    path = write_rows(tmp_path / "input.jsonl", rows)
    arguments = [str(encoder_only) if one == "ENCODER" else one for one in arguments]
    out = [] if "--out" in arguments else ["--out", str(tmp_path / "sample.jsonl")]
    assert main(["sample", path, *out, *arguments]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert told in line
