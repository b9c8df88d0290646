"""Merging: majorities, adjudication, and files that share no text."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labelling.answers import Answer
from labelling.merging import MergedPair, merge, with_response
from labelling.report import balance
from labelling.splitting import PARTS, shortage, split
from simile.artifacts import SampledPair, text_key

SHARES = {"target": 0.4, "calibration": 0.2, "test": 0.4}


def answer(choice, annotator="ada", *, text="a", **values):
    pair = SampledPair(text, "b")
    return Answer(
        pair=pair.key,
        text_a=text,
        text_b="b",
        answer=choice,
        annotator=annotator,
        time="2026-01-01T00:00:00Z",
        **values,
    )


def label_of(*choices, decided=None):
    answers = [answer(choice, f"person {number}") for number, choice in enumerate(choices)]
    (one,) = merge(answers, [answer(decided, "judge")] if decided else [])
    return one.label


@pytest.mark.parametrize(
    ("choices", "label"),
    [
        (["same"], 1),
        (["different"], 0),
        (["same", "different"], None),
        (["same", "different", "same"], 1),
        (["same", "unsure"], None),
        (["same", "same", "unsure"], 1),
        (["same", "skip"], 1),
        (["unsure"], None),
        (["skip"], None),
    ],
)
def test_label_is_that_of_more_than_half_of_those_who_answered(choices, label):
    assert label_of(*choices) == label


def test_adjudicator_overrides_everybody_unless_the_pair_is_skipped():
    assert label_of("same", "same", decided="different") == 0
    assert label_of("same", "different", decided="same") == 1
    assert label_of("same", "same", decided="unsure") is None
    assert label_of("same", "same", decided="skip") == 1


def test_a_pair_of_somebodys_random_part_is_random():
    answers = [answer("same", part="threshold"), answer("same", "bob", part="random")]
    assert merge(answers)[0].is_random
    assert not merge(answers[:1])[0].is_random


def test_weights_of_a_stratum_add_up_to_its_size_in_the_traffic():
    sample = [
        SampledPair(f"a{i}", "b", stratum="xy"[i % 2], inclusion_probability=(0.1, 0.5)[i % 2]) for i in range(40)
    ]
    labelled = [MergedPair(pair, {}, 1) for pair in sample[:11]]
    pairs = with_response([*labelled, MergedPair(sample[12], {}, None)], sample)
    sums = Counter()
    for one in pairs[:11]:
        sums[one.pair.stratum] += 1 / one.pair.inclusion_probability
    assert sums == pytest.approx({"x": 20 / 0.1, "y": 20 / 0.5})


def labelled(texts, label, **values):
    return MergedPair(SampledPair(*texts), {}, label, **values)


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40), st.integers(0, 1), st.booleans()), max_size=80))
def test_no_text_is_in_two_files_and_every_random_pair_is_in_one(drawn):
    pairs = [
        labelled((f"Text {a}", f"text  {b}"), label, part="random" if is_random else "threshold")
        for a, b, label, is_random in drawn
    ]
    files = split(pairs, SHARES)
    texts = [{text_key(text) for one in files[part] for text in (one.pair.text_a, one.pair.text_b)} for part in PARTS]
    assert sum(map(len, texts)) == len(set().union(*texts))
    placed = Counter(id(one) for own in files.values() for one in own)
    assert all(placed[id(one)] == 1 for one in pairs if one.is_random)
    assert all(one.is_random for part in ("calibration", "test") for one in files[part])


def test_files_get_their_shares_of_each_class():
    rng = np.random.default_rng(0)
    pairs = [labelled((f"a{i}", f"b{i}"), int(rng.random() < 0.1)) for i in range(500)]
    files = split(pairs, SHARES)
    positives = sum(one.label for one in pairs)
    for part, share in SHARES.items():
        assert sum(one.label for one in files[part]) == pytest.approx(share * positives, abs=1.5)
        assert len(files[part]) == pytest.approx(share * 500, abs=3)
    assert shortage(files, 500) == []


def test_shortage_says_how_many_labels_are_needed():
    pairs = [labelled((f"a{i}", f"b{i}"), i % 2) for i in range(50)]
    (line,) = shortage(split(pairs, SHARES), 50)
    assert line == (
        "calibration.jsonl: got 5 same and 5 different pairs, need at least 50 pairs and one of each class: "
        "label about 200 more random pairs"
    )
    alone = shortage(split(pairs[::2], SHARES), 25)
    assert [line.partition(":")[0] for line in alone] == [f"{part}.jsonl" for part in PARTS]


def test_balance_is_that_of_the_random_part_by_weights():
    pairs = [labelled((f"a{i}", f"b{i}"), int(i < 10)) for i in range(40)]
    pairs = [replace(one, pair=replace(one.pair, inclusion_probability=0.5 if one.label else 0.1)) for one in pairs]
    chosen = labelled(("x", "y"), 1, part="threshold")
    estimate = balance([*pairs, chosen])
    assert estimate.value == pytest.approx(10 * 2 / (10 * 2 + 30 * 10))
    assert balance([chosen]).value is None
