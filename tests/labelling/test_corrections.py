"""Corrections: answers change a second file, and nothing else does."""

import pytest

from labelling.answers import Answer
from labelling.corrections import correct
from simile.artifacts import Pair, PairSet
from simile.artifacts.sampled_pairs import SampledPair
from simile.errors import InputError

PAIRS = PairSet("pairs", (Pair("a", "b", 1), Pair("c", "d", 0), Pair("e", "f", 0), Pair("a", "b", 0)), "0" * 64)


def answer(text_a, text_b, choice, annotator="ada"):
    key = SampledPair(text_a, text_b).key
    return Answer(
        pair=key, text_a=text_a, text_b=text_b, answer=choice, annotator=annotator, time="2026-01-01T00:00:00Z"
    )


def test_rows_of_the_same_texts_get_the_label_that_was_given():
    corrected = correct(PAIRS, [answer("a", "b", "different"), answer("c", "d", "same")])
    assert [row.label for row in corrected.pairs] == [0, 1, 0, 0]
    assert (corrected.num_changed, corrected.num_confirmed, corrected.num_undecided) == (2, 1, 0)


@pytest.mark.parametrize("choices", [["unsure"], ["skip"], ["same", "different"], ["same", "unsure"]])
def test_label_stays_where_nobody_decided(choices):
    answers = [answer("c", "d", choice, annotator=f"person {index}") for index, choice in enumerate(choices)]
    corrected = correct(PAIRS, answers)
    assert corrected.pairs == PAIRS.rows
    assert (corrected.num_changed, corrected.num_confirmed, corrected.num_undecided) == (0, 0, 1)


def test_answers_to_other_pairs_are_counted_and_refused_if_there_are_no_others():
    corrected = correct(PAIRS, [answer("c", "d", "different"), answer("x", "y", "same")])
    assert (corrected.num_confirmed, corrected.num_unknown) == (1, 1)
    with pytest.raises(InputError, match="got no answer to any of its pairs"):
        correct(PAIRS, [answer("x", "y", "same")])
