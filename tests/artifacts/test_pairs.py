import csv
import dataclasses
import hashlib
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simile.artifacts import Pair, ReadOptions, named_pair_paths, read_labelled_pairs, read_pairs, write_pairs
from simile.errors import InputError

TEXTS = {"text_a": "a", "text_b": "b"}
POSITIVE, NEGATIVE = {**TEXTS, "label": 1}, {**TEXTS, "label": 0}

some_text = st.text(st.characters(codec="utf-8"), min_size=1).filter(str.strip)
some_name = st.sampled_from(["card", "Pin 17", "\u00e9", "17", " x "])
some_number = st.floats(allow_nan=False, allow_infinity=False)
some_pairs = st.builds(
    Pair,
    text_a=some_text,
    text_b=some_text,
    label=st.sampled_from([0, 1]),
    group_a=st.none() | some_name,
    group_b=st.none() | some_name,
    tfidf=st.none() | some_number,
    same_category=st.none() | st.booleans(),
)


def write(path, *records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def fault_of(read, path) -> str:
    with pytest.raises(InputError) as caught:
        read(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@given(st.lists(some_pairs, min_size=1, max_size=5))
def test_written_pairs_are_read_back_the_same(tmp_path_factory, pairs):
    path = tmp_path_factory.mktemp("pairs") / "x.jsonl"
    write_pairs(path, pairs)
    assert read_pairs(path).rows == tuple(pairs)


def test_graded_pairs_are_read_back_the_same(tmp_path):
    pairs = (Pair("a", "b", score=-3.25), Pair("c", "d", score=5.0))
    write_pairs(tmp_path / "x.jsonl", pairs)
    assert read_pairs(tmp_path / "x.jsonl").rows == pairs


def test_pair_set_knows_the_sha256_of_its_file(tmp_path):
    path = write(tmp_path / "x.jsonl", POSITIVE)
    assert read_pairs(path).sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    "names",
    [
        ("text_a", "text_b"),
        ("text1", "text2"),
        ("text_1", "text_2"),
        ("sentence1", "sentence2"),
        ("sentence_1", "sentence_2"),
        ("sentence_a", "sentence_b"),
        ("question1", "question2"),
    ],
)
def test_usual_names_of_the_texts_are_read(tmp_path, names):
    path = write(tmp_path / "x.jsonl", {names[0]: "left", names[1]: "right"})
    assert read_pairs(path).texts == (("left", "right"),)


@pytest.mark.parametrize("name", ["label", "is_duplicate"])
@pytest.mark.parametrize("value", [1, 1.0, "1", "1.0", " 1 ", "1.00", True, "true", "True", "TRUE"])
def test_usual_names_and_spellings_of_the_label_are_read(tmp_path, name, value):
    row = read_pairs(write(tmp_path / "x.jsonl", {**TEXTS, name: value})).rows[0]
    assert (row.label, row.score) == (1, None)


@pytest.mark.parametrize("name", ["score", "similarity", "similarity_score"])
def test_usual_names_of_the_score_are_read(tmp_path, name):
    row = read_pairs(write(tmp_path / "x.jsonl", {**TEXTS, name: "3.5"})).rows[0]
    assert (row.label, row.score, row.target) == (None, 3.5, 3.5)


def test_where_both_are_there_the_label_counts(tmp_path):
    row = read_pairs(write(tmp_path / "x.jsonl", {**TEXTS, "label": 0, "score": 0.7})).rows[0]
    assert (row.label, row.score, row.target) == (0, None, 0)


def test_a_null_label_leaves_the_score(tmp_path):
    row = read_pairs(write(tmp_path / "x.jsonl", {**TEXTS, "label": None, "is_duplicate": None, "score": 2})).rows[0]
    assert (row.label, row.score) == (None, 2)


def test_csv_with_empty_cells_and_other_names_is_read(tmp_path):
    path = tmp_path / "x.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["left", "right", "label", "tfidf", "same_category", "group_a"])
        writer.writerow(["a", "b", "1", "0.25", "True", "g"])
        writer.writerow(["c", "d", "0", "", "false", ""])
    assert read_pairs(path, columns={"text_a": "left", "text_b": "right"}).rows == (
        Pair("a", "b", label=1, tfidf=0.25, same_category=True, group_a="g"),
        Pair("c", "d", label=0, same_category=False),
    )


def test_tsv_and_json_arrays_are_pairs_too(tmp_path):
    (tmp_path / "x.tsv").write_text("sentence1\tsentence2\tscore\na\tb\t4.5\n")
    (tmp_path / "x.json").write_text(json.dumps([{"sentence1": "a", "sentence2": "b", "score": 4.5}]))
    assert read_pairs(tmp_path / "x.tsv").rows == read_pairs(tmp_path / "x.json").rows == (Pair("a", "b", score=4.5),)


@pytest.mark.parametrize(
    ("record", "fault"),
    [
        ({"text_a": "a", "text": "b"}, "got fields 'text_a', 'text', need 'text_a' and 'text_b'"),
        ({}, "got fields none, need 'text_a' and 'text_b'"),
        ({"text_a": "a", "text_b": " "}, "got text_b ' ', need a non-empty text"),
        ({"text_a": None, "text_b": "b"}, "got text_a None, need a non-empty text"),
        ({"text1": "a", "text2": 5}, "got text2 5, need a non-empty text"),
        ({"text_a": "a", "text_b": "\udc00"}, "got text_b with half a surrogate pair at character 0"),
        ({**TEXTS, "label": 2}, "got label 2, need 0 or 1"),
        ({**TEXTS, "label": 0.5}, "got label 0.5, need 0 or 1"),
        ({**TEXTS, "label": -1}, "got label -1, need 0 or 1"),
        ({**TEXTS, "label": "yes"}, "got label 'yes', need 0 or 1, or --label positive=WORD,WORD to say which"),
        ({**TEXTS, "label": "duplicate"}, "got label 'duplicate', need 0 or 1, or --label positive=WORD"),
        ({**TEXTS, "label": [1]}, "got label [1], need 0 or 1"),
        ({**TEXTS, "label": float("nan")}, "got label nan, need 0 or 1"),
        ({**TEXTS, "score": float("nan")}, "got score nan, need a finite number"),
        ({**TEXTS, "score": float("inf")}, "got score inf, need a finite number"),
        ({**TEXTS, "score": float("-inf")}, "got score -inf, need a finite number"),
        ({**TEXTS, "score": "NaN"}, "got score 'NaN', need a finite number"),
        ({**TEXTS, "score": "high"}, "got score 'high', need a finite number"),
        ({**TEXTS, "score": 10**400}, "got score 1000"),
        ({**TEXTS, "label": 1, "tfidf": "x"}, "got tfidf 'x', need a finite number"),
        ({**TEXTS, "label": 1, "same_category": "maybe"}, "got same_category 'maybe', need true or false"),
    ],
)
def test_unusable_pair_is_refused_with_its_line(tmp_path, record, fault):
    path = write(tmp_path / "x.jsonl", {**TEXTS, "label": 1}, record)
    assert fault_of(read_pairs, path).startswith(f"{path}:2: {fault}")


@pytest.mark.parametrize(
    ("first", "second", "fault"),
    [
        (POSITIVE, {**TEXTS, "score": 0.5}, "got a pair with score after pairs with label"),
        ({**TEXTS, "score": 0.5}, POSITIVE, "got a pair with label after pairs with score"),
        (POSITIVE, TEXTS, "got a pair with no label after pairs with label"),
        (TEXTS, NEGATIVE, "got a pair with label after pairs with no label"),
    ],
)
def test_file_that_mixes_kinds_is_refused_with_the_line(tmp_path, first, second, fault):
    path = write(tmp_path / "x.jsonl", first, second)
    assert fault_of(read_pairs, path) == f"{path}:2: {fault}, need the same for all"


def test_unlabelled_pairs_can_be_read_but_not_judged_by(tmp_path):
    path = write(tmp_path / "x.jsonl", TEXTS, TEXTS)
    assert not read_pairs(path).is_labelled
    assert fault_of(read_labelled_pairs, path).startswith(f"{path}: got pairs without a label")


@pytest.mark.parametrize(("record", "value"), [(POSITIVE, "1"), (NEGATIVE, "0"), ({**TEXTS, "score": 2.5}, "2.5")])
def test_one_class_alone_is_nothing_to_judge_by(tmp_path, record, value):
    path = write(tmp_path / "x.jsonl", record, record, record)
    assert read_pairs(path).is_labelled
    assert fault_of(read_labelled_pairs, path) == (
        f"{path}: all 3 pairs have the same label {value}, need both classes"
    )


def test_labelled_and_graded_sets_know_what_they_are(tmp_path):
    labelled = read_labelled_pairs(write(tmp_path / "x.jsonl", POSITIVE, NEGATIVE))
    graded = read_labelled_pairs(write(tmp_path / "y.jsonl", {**TEXTS, "score": 1}, {**TEXTS, "score": 0.5}))
    assert (labelled.is_graded, graded.is_graded) == (False, True)
    np.testing.assert_array_equal(labelled.target_P, [1.0, 0.0])
    np.testing.assert_array_equal(graded.target_P, [1.0, 0.5])


def test_set_has_groups_only_where_every_text_has(tmp_path):
    grouped = {**POSITIVE, "group_a": "g", "group_b": 5}
    assert read_pairs(write(tmp_path / "x.jsonl", grouped)).have_groups
    assert read_pairs(tmp_path / "x.jsonl").rows[0].group_b == "5"
    assert not read_pairs(write(tmp_path / "y.jsonl", grouped, {**POSITIVE, "group_a": "g"})).have_groups


def test_groups_of_pairs_are_one_whatever_their_spelling(tmp_path, capsys):
    spellings = ["Caf\u00e9", "cafe\u0301 ", "17", "17.0", "CAF&Eacute;"]
    path = write(tmp_path / "x.jsonl", *({**POSITIVE, "group_a": name, "group_b": "pin"} for name in spellings))
    pairs = read_pairs(path)
    assert [row.group_a for row in pairs.rows] == ["Caf\u00e9", "Caf\u00e9", "17", "17", "Caf\u00e9"]
    assert len({end for pair in pairs.ends for end in pair}) == 3
    assert f"note: {path}: 3 spellings of a group differ" in capsys.readouterr().err
    # Pairs that were not read from a file are compared alike.
    raw = dataclasses.replace(pairs, rows=tuple(Pair("a", "b", 1, group_a=name, group_b="pin") for name in spellings))
    assert raw.ends == pairs.ends


def test_group_of_a_pair_that_stands_for_a_missing_value_is_none(tmp_path, capsys):
    (tmp_path / "x.csv").write_text("text_a,text_b,label,group_a,group_b\na,b,1,nan,x\nc,d,0,y,NA\n")
    pairs = read_pairs(tmp_path / "x.csv")
    assert [(row.group_a, row.group_b) for row in pairs.rows] == [(None, "x"), ("y", None)]
    assert not pairs.have_groups
    assert "2 names of a group stand for a missing value" in capsys.readouterr().err


def test_ends_of_pairs_are_their_groups_where_all_are_known_else_their_texts(tmp_path):
    grouped = {**POSITIVE, "group_a": "g", "group_b": 7}
    assert read_pairs(write(tmp_path / "x.jsonl", grouped)).ends == (("g", "7"),)
    assert read_pairs(write(tmp_path / "y.jsonl", grouped, POSITIVE)).ends == (("a", "b"), ("a", "b"))


@pytest.mark.parametrize("name", ["test-seen.jsonl.gz", "test-seen.csv", "test-seen.parquet"])
def test_pair_file_is_named_without_its_suffixes(tmp_path, name):
    assert named_pair_paths([str(tmp_path / name)]) == {"test-seen": tmp_path / name}


def test_pair_set_is_named_by_its_file_or_as_it_is_told(tmp_path):
    path = write(tmp_path / "test-seen.jsonl", POSITIVE)
    assert read_pairs(path).name == "test-seen"
    assert read_pairs(path, name="other").name == "other"


def test_name_before_an_equals_sign_overrides(tmp_path):
    path = tmp_path / "x.jsonl"
    assert named_pair_paths([f"hard={path}", str(path)]) == {"hard": path, "x": path}


def test_equals_sign_in_a_path_is_part_of_the_path(tmp_path):
    there = write(tmp_path / "a=b.jsonl", POSITIVE)
    in_folder = f"{tmp_path}/c=d/e.jsonl"
    assert [str(path) for path in named_pair_paths([str(there), in_folder]).values()] == [str(there), in_folder]


@pytest.mark.parametrize("arguments", [("a/x.jsonl", "b/x.csv"), ("x=a/1.jsonl", "x=a/2.jsonl"), ("x=1.csv", "x.csv")])
def test_two_files_of_one_name_are_refused(arguments):
    with pytest.raises(InputError, match=r"got two pair files named 'x' .* need NAME=PATH for one"):
        named_pair_paths(arguments)


def test_half_of_our_columns_does_not_give_way_to_others(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('{"text1": "a", "text2": "a", "x": "something else"}\n')
    with pytest.raises(InputError, match="need 'text_a' and 'text_b'"):
        read_pairs(path, columns={"text_a": "x"})


@pytest.mark.parametrize(
    ("positive", "labels", "expected"),
    [("0", [0, 1, 2], [1, 0, 0]), ("yes", ["\uff39\uff25\uff33", "no", 1], [1, 0, 1]), ("2", [2, 1, 0], [1, 0, 0])],
)
def test_words_that_are_numbers_replace_0_and_1(tmp_path, positive, labels, expected):
    path = tmp_path / "x.jsonl"
    write = [json.dumps({"text_a": "a", "text_b": "b", "label": label}) + "\n" for label in labels]
    path.write_text("".join(write))
    pairs = read_pairs(path, options=ReadOptions(positive=frozenset({positive})))
    assert [pair.label for pair in pairs.rows] == expected


@pytest.mark.parametrize("label", ["nan", "N/A", "-"])
def test_missing_label_is_no_negative(tmp_path, label):
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps({"text_a": "a", "text_b": "b", "label": label}) + "\n")
    with pytest.raises(InputError, match="got label"):
        read_pairs(path, options=ReadOptions(positive=frozenset({"yes"})))
