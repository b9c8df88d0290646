"""`simile labels`: from the answers of several people to files that the other commands read."""

import json

import numpy as np
import pytest

from labelling.answers import Answer, append_answer, read_answers
from pipeline.cli import main
from simile.artifacts import SampledPair, Thresholds, read_labelled_pairs, read_sampled_pairs, text_key, write_bundle

NUM, TRAFFIC = 300, {"low": 2000, "high": 200}


@pytest.fixture(scope="module")
def sample():
    """Pairs of two strata, of which the high one is over-sampled; those with even numbers mean the same."""
    return [
        SampledPair(
            f"card {i} lost", f"card {i} {'lost' if i % 2 else 'found'} today", bundle_score=i / NUM, stratum=stratum
        )
        for i in range(NUM)
        for stratum in [("low", "high")[i % 3 == 0]]
    ]


@pytest.fixture(scope="module")
def files(sample, tmp_path_factory):
    """The sample, and journals of three people, of whom one is a poor annotator."""
    folder = tmp_path_factory.mktemp("labels")
    sizes = {name: sum(pair.stratum == name for pair in sample) for name in TRAFFIC}
    rng = np.random.default_rng(0)
    rows = []
    for number, pair in enumerate(sample):
        inclusion = sizes[pair.stratum] / TRAFFIC[pair.stratum]
        rows.append({"text_a": pair.text_a, "text_b": pair.text_b, "stratum": pair.stratum})
        rows[-1] |= {"inclusion_probability": inclusion, "bundle_score": pair.bundle_score}
        for person, error in (("ada", 0), ("bob", 0.05), ("eve", 0.3)):
            choice = ("different", "same")[int(number % 2 == 0) ^ int(rng.random() < error)]
            append = json.dumps({"pair": pair.key, "text_a": pair.text_a, "text_b": pair.text_b, "answer": choice,
                                 "annotator": person, "time": "2026-01-01T00:00:00Z",
                                 "part": "random" if number < 250 else "threshold", "stratum": pair.stratum,
                                 "inclusion_probability": inclusion})  # fmt: skip
            with (folder / f"{person}.jsonl").open("a") as file:
                file.write(f"{append}\n")
    (folder / "sample.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return folder


def merged(files, out, *options, people=("ada", "bob", "eve")):
    journals = [str(files / f"{person}.jsonl") for person in people]
    assert (
        main(["labels", "merge", *journals, "--pairs", str(files / "sample.jsonl"), *options, "--out", str(out)]) == 0
    )
    return out


def rows_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_files_are_usable_and_share_no_text(files, tmp_path, capsys):
    out = merged(files, tmp_path / "out")
    printed = capsys.readouterr().out
    texts = []
    for part in ("target", "calibration", "test"):
        pairs = read_labelled_pairs(out / f"{part}.jsonl")
        assert pairs.is_weighted
        texts.append({text_key(text) for pair in pairs.texts for text in pair})
    assert sum(map(len, texts)) == len(set.union(*texts))
    report = json.loads((out / "report.json").read_text())
    kappas = {(two["first"], two["second"]): two["kappa"]["value"] for two in report["agreement"]["annotators"]}
    assert kappas["ada", "bob"] > 0.8 > kappas["ada", "eve"] > 0.2
    assert "ada, bob" in printed
    assert "share of positives of the traffic (--prior)" in printed
    page = (out / "report.html").read_text()
    assert "Agreement" in page
    assert "by 3 people" in page


def test_page_of_one_persons_labels_has_no_agreement(files, tmp_path):
    page = (merged(files, tmp_path / "out", people=("ada",)) / "report.html").read_text()
    assert "by 1 person" in page
    assert "Agreement" not in page


def test_weights_of_each_file_add_up_to_the_traffic(files, tmp_path):
    out = merged(files, tmp_path / "out")
    for name in ("test", "calibration"):
        weights = {stratum: 0.0 for stratum in TRAFFIC}
        for pair in read_sampled_pairs(out / f"{name}.jsonl"):
            weights[pair.stratum] += 1 / pair.inclusion_probability
        assert weights == pytest.approx(TRAFFIC)


def test_disagreements_can_be_labelled_and_the_adjudicators_answers_count(files, tmp_path):
    out = merged(files, tmp_path / "out", people=("ada", "eve"))
    waiting = [row for row in rows_of(out / "disagreements.jsonl") if not row["decided"]]
    assert waiting
    assert waiting[0]["answers"].keys() == {"ada", "eve"}
    for pair in read_sampled_pairs(out / "disagreements.jsonl"):
        answer = Answer(pair=pair.key, text_a=pair.text_a, text_b=pair.text_b, answer="same", annotator="judge",
                        time="2026-01-01T00:00:00Z")  # fmt: skip
        append_answer(tmp_path / "judge.jsonl", answer)
    out = merged(files, tmp_path / "decided", "--adjudicated", str(tmp_path / "judge.jsonl"), people=("ada", "eve"))
    report = json.loads((out / "report.json").read_text())
    assert (report["undecided"], report["labelled"]) == (0, NUM)
    labels = {(row["text_a"], row["text_b"]): row["label"] for row in rows_of(out / "labels.jsonl")}
    assert {labels[row["text_a"], row["text_b"]] for row in waiting} == {1}


def test_too_few_labels_are_told_and_a_file_without_both_classes_is_not_written(files, tmp_path, capsys):
    journal = tmp_path / "few.jsonl"
    journal.write_text("".join((files / "ada.jsonl").read_text().splitlines(keepends=True)[:3]))
    assert main(["labels", "merge", str(journal), "--out", str(tmp_path / "out")]) == 0
    assert "note: calibration.jsonl: got" in capsys.readouterr().out
    assert not (tmp_path / "out" / "calibration.jsonl").exists()


def test_weights_without_the_sample_are_told(files, tmp_path, capsys):
    merged(files, tmp_path / "weighted")
    assert "without the sample" not in capsys.readouterr().out
    assert main(["labels", "merge", str(files / "ada.jsonl"), "--out", str(tmp_path / "out")]) == 0
    assert "note: without the sample (--pairs), weights and intervals take" in capsys.readouterr().out


def test_folder_with_other_files_is_not_replaced(files, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    merged(files, tmp_path / "out")
    merged(files, tmp_path / "out")
    (tmp_path / "out" / "mine.txt").write_text("not of a merge")
    capsys.readouterr()
    assert main(["labels", "merge", str(files / "ada.jsonl"), "--out", str(tmp_path / "out")]) == 2
    assert "out: holds files that are no merged labels, need a new or empty folder" in capsys.readouterr().err
    assert (tmp_path / "out" / "mine.txt").exists()


def test_pairs_of_another_sample_are_refused(files, tmp_path, capsys):
    other = tmp_path / "other.jsonl"
    other.write_text("".join((files / "sample.jsonl").read_text().splitlines(keepends=True)[5:]))
    argv = ["labels", "merge", str(files / "ada.jsonl"), "--pairs", str(other), "--out", str(tmp_path / "out")]
    assert main(argv) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "other.jsonl: got a sample without 5 of the answered pairs, need the file that was labelled" in line


def test_different_answers_under_one_name_in_two_files_are_told(files, tmp_path, capsys):
    other = tmp_path / "other.jsonl"
    lines = (files / "ada.jsonl").read_text().splitlines(keepends=True)[:4]
    swapped = {"same": "different", "different": "same"}
    rows = [json.loads(line) for line in lines]
    other.write_text("".join(f"{json.dumps({**row, 'answer': swapped[row['answer']]})}\n" for row in rows))
    assert main(["labels", "merge", str(files / "ada.jsonl"), str(other), "--out", str(tmp_path / "out")]) == 0
    assert "note: 4 answers replace another one of the same person" in capsys.readouterr().out


@pytest.fixture
def judged(words, tmp_path):
    """A bundle with thresholds."""
    manifest = words.manifest.model_copy(update={"thresholds": Thresholds(best_f1=0.5, precision_95=None)})
    return write_bundle(tmp_path / "judged", manifest, words.data)


def test_estimates_are_of_the_random_part_with_weights(files, judged, tmp_path, capsys):
    out = merged(files, tmp_path / "out", people=("ada",))
    capsys.readouterr()
    json_file = tmp_path / "estimates.json"
    argv = ["labels", "estimate", str(out / "labels.jsonl"), "--bundle", str(judged.path), "--json", str(json_file)]
    assert main(argv) == 0
    printed = capsys.readouterr()
    assert "250 pairs stand for 2,200, in 2 strata" in printed.out
    assert "50 pairs were chosen by their scores" in printed.err
    estimates = json.loads(json_file.read_text())
    names = ["share of positives", "Spearman", "AUC", "precision at 0.5000 (best F1)", "recall at 0.5000 (best F1)"]
    assert list(estimates) == names
    share = estimates["share of positives"]
    assert share["low"] < 0.5 < share["high"]


def test_pairs_in_several_rows_count_with_the_weight_of_each(tmp_path, capsys):
    path = tmp_path / "pairs.jsonl"
    rows = [{"text_a": f"{i}", "text_b": "b", "label": i % 2, "inclusion_probability": 0.5} for i in range(4)]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in [*rows, rows[1]]))
    assert main(["labels", "estimate", str(path)]) == 0
    printed = capsys.readouterr()
    assert "5 pairs stand for 10, in 1 stratum" in printed.out
    assert "share of positives   0.6000" in printed.out
    assert not printed.err


def test_pairs_that_are_no_sample_get_a_note(tmp_path, capsys):
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(f'{{"text_a": "{i}", "text_b": "b", "label": {i % 2}}}\n' for i in range(4)))
    assert main(["labels", "estimate", str(path)]) == 0
    assert "no pair has an inclusion_probability below 1" in capsys.readouterr().err


@pytest.mark.parametrize("argv", [
    ["label", "-", "--out", "x.jsonl"], ["labels", "estimate", "-"], ["labels", "power", "/dev/stdin"],
    ["labels", "audit", "-", "--bundle", "b", "--out", "x.jsonl"],
])  # fmt: skip
def test_stream_is_refused_by_commands_that_read_the_pairs_twice(capsys, argv):
    assert main(argv) == 2
    assert "got a stream, need a file" in capsys.readouterr().err


@pytest.mark.parametrize("tiny", ["1e-300", "5e-324"])
def test_probability_whose_inverse_would_outweigh_everything_is_refused(tmp_path, capsys, tiny):
    path = tmp_path / "pairs.jsonl"
    row = {"text_b": "b", "bundle_score": 0.5}
    lines = [json.dumps({**row, "text_a": f"{i}", "label": i % 2, "inclusion_probability": 0.5}) for i in range(4)]
    path.write_text("\n".join([*lines[:3], lines[3].replace("0.5}", f"{tiny}}}")]))
    for argv in (["sample", str(path), "--out", str(tmp_path / "out.jsonl")], ["labels", "estimate", str(path)]):
        assert main(argv) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.endswith(f"pairs.jsonl:4: got inclusion_probability {float(tiny):g}, need a number from 1e-12 to 1")


def test_what_is_exported_is_imported_once_it_is_answered(files, tmp_path, capsys):
    sheet, journal = tmp_path / "sheet.csv", tmp_path / "journal.jsonl"
    assert main(["labels", "export", str(files / "sample.jsonl"), "--format", "csv", "--out", str(sheet)]) == 0
    lines = sheet.read_text("utf-8-sig").splitlines()
    sheet.write_text("\n".join([lines[0], *(line.replace(",,,,", ",same,,,") for line in lines[1:])]), "utf-8-sig")
    argv = ["labels", "import", str(sheet), "--format", "csv", "--annotator", "ada", "--out", str(journal)]
    assert main(argv) == 0
    assert f"{NUM} answers by 1 person" in capsys.readouterr().out
    answers = read_answers(journal)
    pairs = read_sampled_pairs(files / "sample.jsonl")
    assert [one.pair for one in answers] == [pair.key for pair in pairs]
    assert [one.inclusion_probability for one in answers] == [pair.inclusion_probability for pair in pairs]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["merge", "{}/none.jsonl", "--out", "{}/out"], "none.jsonl: no such file, need a journal of answers"),
        (["merge", "{}/empty.jsonl", "--out", "{}/out"], "empty.jsonl: got no answers, need some of simile label"),
        (["estimate", "{}/none.jsonl"], "none.jsonl: no such file"),
        (["import", "{}/none.csv", "--format", "csv", "--out", "{}/x"], "none.csv: no such file"),
        (["import", "{}/empty.jsonl", "--format", "csv", "--encoding", "x", "--out", "{}/x"], "--encoding: got 'x'"),
        (["export", "{}/empty.jsonl", "--format", "excel", "--out", "{}/x"], "--format"),
    ],
)
def test_bad_input_gives_one_line(tmp_path, capsys, argv, message):
    (tmp_path / "empty.jsonl").write_text("")
    assert main(["labels", *(word.format(tmp_path) for word in argv)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
