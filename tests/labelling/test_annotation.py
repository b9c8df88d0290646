"""A person's way through the pairs: each click is written once, and a restart goes on where it was."""

import resource
from contextlib import contextmanager

import pytest

from labelling.annotation import Annotation, Click, StaleError, Undo
from labelling.answers import read_answers, read_journal
from labelling.order import audit_order, labelling_order
from labelling.present import PresentLabel
from simile.artifacts.sampled_pairs import SampledPair

PAIRS = [SampledPair(f"first {i}", f"second {i}", stratum="low", inclusion_probability=0.25) for i in range(5)]
TASKS = labelling_order(PAIRS)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "labelled.jsonl"


@pytest.fixture
def annotation(out):
    return Annotation(TASKS, out, annotator="ada")


def click(state, answer="same", seconds=4.0, note=""):
    return Click(sequence=state.sequence, pair=state.pair.key, answer=answer, seconds=seconds, note=note)


def answer_all(annotation, *choices):
    for choice in choices:
        state = annotation.answer(click(annotation.state(), choice))
    return state


def test_answers_are_in_the_journal_with_the_part_and_the_weight_of_their_pairs(annotation, out):
    answer_all(annotation, "same", "skip")
    assert [(one.pair, one.answer) for one in read_answers(out)] == [
        (TASKS[0].pair.key, "same"),
        (TASKS[1].pair.key, "skip"),
    ]
    first = read_answers(out)[0]
    assert (first.annotator, first.part, first.stratum, first.inclusion_probability, first.seconds) == (
        *("ada", "random", "low"),
        *(0.25, 4.0),
    )


def test_click_that_arrives_twice_is_written_once(annotation, out):
    first = click(annotation.state())
    assert annotation.answer(first) == annotation.answer(first)
    assert len(read_journal(out)) == 1


def test_click_that_arrives_again_after_a_restart_is_written_once(annotation, out):
    first = click(annotation.state())
    annotation.answer(first)
    assert Annotation(TASKS, out, annotator="ada").answer(first).progress.done == 1
    assert len(read_journal(out)) == 1


def test_undo_that_arrives_twice_takes_one_answer_back(annotation):
    state = answer_all(annotation, "same", "different")
    undo = Undo(sequence=state.sequence)
    assert annotation.undo(undo) == annotation.undo(undo)
    assert annotation.state().counts == {"same": 1}


@pytest.mark.parametrize(
    "change", [{"sequence": 7}, {"sequence": 0, "answer": "different"}, {"pair": "0" * 16}, {"pair": TASKS[0].pair.key}]
)
def test_click_on_what_is_not_shown_is_refused(annotation, out, change):
    state = answer_all(annotation, "same")
    with pytest.raises(StaleError):
        annotation.answer(click(state).model_copy(update=change))
    assert len(read_journal(out)) == 1


def test_undone_pair_is_shown_again_with_its_note(annotation, out):
    annotation.answer(click(annotation.state(), note="slang"))
    state = answer_all(annotation, "different")
    for expected, note in ((TASKS[1], ""), (TASKS[0], "slang")):
        state = annotation.undo(Undo(sequence=state.sequence))
        assert (state.pair.key, state.pair.note) == (expected.pair.key, note)
    assert read_answers(out) == ()
    with pytest.raises(StaleError):
        annotation.undo(Undo(sequence=state.sequence))
    answer_all(annotation, "unsure", "unsure")
    assert [one.pair for one in read_answers(out)] == [task.pair.key for task in TASKS[:2]]


def test_restart_goes_on_where_it_was(annotation, out):
    before = answer_all(annotation, "same", "unsure")
    assert Annotation(TASKS, out, annotator="ada").state() == before


def test_two_people_in_one_file_each_see_all_pairs(annotation, out):
    answer_all(annotation, "same", "same")
    other = Annotation(TASKS, out, annotator="bob")
    assert other.state().progress.done == 0
    answer_all(other, "different")
    assert [one.annotator for one in read_answers(out)] == ["ada", "ada", "bob"]


def test_answers_to_pairs_of_another_file_are_counted_and_kept(annotation, out):
    answer_all(annotation, "same", "same")
    other = Annotation(TASKS[1:], out, annotator="ada")
    assert (other.num_unknown, other.state().progress.done, other.state().pair.key) == (1, 1, TASKS[2].pair.key)


def test_time_left_is_the_median_of_the_answers_times_what_is_left(annotation):
    for seconds in (2, 900, 3):
        state = annotation.answer(click(annotation.state(), seconds=seconds))
    assert state.progress.seconds_left == 2 * 3
    assert answer_all(annotation, "same", "same").pair is None


def test_no_score_is_in_what_the_browser_gets(out):
    scored = [SampledPair("a", "b", bundle_score=0.123, baseline_score=0.456), SampledPair("c", "d", 0.777, 0.888)]
    state = Annotation(labelling_order(scored, num_random=1), out, annotator="ada").state()
    assert not any(digits in state.model_dump_json() for digits in ("score", "123", "456", "777", "888"))


def test_label_and_reason_of_an_audited_pair_are_shown(out):
    pair = SampledPair("a", "b")
    tasks = audit_order([pair], {pair.key: PresentLabel(0, "0.97")})
    state = Annotation(tasks, out, annotator="ada").state()
    assert (state.pair.label, state.pair.reason) == ("different", "0.97")


@contextmanager
def largest_file(num_bytes):
    """Let no file of this process grow beyond the size, as a full disk would."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_answer_that_could_not_be_written_is_written_by_the_next_attempt(annotation, out):
    state = answer_all(annotation, "same")
    second = click(state, "different")
    with largest_file(out.stat().st_size + 10), pytest.raises(OSError, match="File too large"):
        annotation.answer(second)
    annotation.answer(second)
    assert [one.answer for one in read_journal(out)] == ["same", "different"]
