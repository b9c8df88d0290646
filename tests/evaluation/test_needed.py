import numpy as np
import pytest
from scipy.stats import norm

from evaluation.gate import Gate, judge
from simile.artifacts import EvaluationReport, Pair, PairSet
from tests.evaluation.test_gate import entry
from tests.evaluation_reports import evaluation_report

SEEN, GUARD = (
    PairSet(name, tuple(Pair(f"a{i}", f"b{i}", label=i % 2) for i in range(100)), "0" * 64)
    for name in ("seen", "general")
)
"""100 pairs of 200 texts each."""


def judged(gain, guard=None, **conditions) -> EvaluationReport:
    report = evaluation_report(
        sets={"seen": entry(*gain)},
        guards={"general": entry(*guard)} if guard else {},
        leaked_texts={"seen": 0},
        interval={"unit": {"seen": "text", "general": "text"}, "resamples": 1000, "seed": 0},
    )
    return judge(report, Gate(**conditions), [SEEN], guard_sets=[GUARD] if guard else [])


def test_needed_pairs_show_the_gain_in_four_of_five_draws_where_the_interval_is_exact():
    report = judged((0.05, -0.03, 0.13))
    needed = report.needed["seen"]
    assert needed.units == pytest.approx(2 * needed.pairs, rel=0.1)
    # The interval of 100 pairs is 0.08 to each side, that of as many pairs as needed narrower by the root.
    half_width = 0.08 / np.sqrt(needed.pairs / 100)
    drawn = np.random.default_rng(0).normal(0.05, half_width / norm.ppf(0.975), 100_000)
    assert (drawn > half_width).mean() == pytest.approx(0.8, abs=0.02)


def test_note_says_how_many_pairs_and_units_are_needed():
    report = judged((0.05, -0.03, 0.13))
    assert report.needed["seen"].model_dump() == {"pairs": 530, "units": 1100}
    note = "about 530 pairs over 1,100 texts would show the observed gain of +0.0500 with a chance of 80 %"
    assert report.notes == (f"seen: not sure yet; {note}",)
    assert report.model_dump(mode="json")["needed"] == {"seen": {"pairs": 530, "units": 1100}}


def test_more_looks_need_more_pairs():
    gain = (0.05, -0.03, 0.13)
    assert judged(gain, looks={"seen": 5}).needed["seen"].pairs > judged(gain).needed["seen"].pairs


@pytest.mark.parametrize("gain", [(0.05, 0.01, 0.09), (-0.05, -0.1, 0.01), (0.0, -0.1, 0.1), (None, None, None)])
def test_nothing_is_said_where_the_gain_is_shown_or_there_is_none(gain):
    report = judged(gain)
    assert (report.needed, report.notes) == ({}, ())
    assert "needed" not in report.model_dump(mode="json")


def test_undecided_guard_needs_the_pairs_that_tell_on_which_side_of_the_margin_it_is():
    report = judged((0.2, 0.1, 0.3), guard=(-0.01, -0.05, 0.03), guard_margin=0.03)
    times = ((1 + norm.ppf(0.8) / norm.ppf(0.975)) * 0.04 / 0.02) ** 2
    assert report.needed["general"].pairs == pytest.approx(100 * times, rel=0.1)
    assert report.notes[0].endswith("would decide the guard with a chance of 80 %")
    lost = judged((0.2, 0.1, 0.3), guard=(-0.05, -0.1, -0.01), guard_margin=0.03)
    assert lost.needed["general"].pairs == report.needed["general"].pairs
    kept = judged((0.2, 0.1, 0.3), guard=(-0.01, -0.02, 0.0), guard_margin=0.03)
    assert kept.needed == {}


def test_difference_that_lies_on_the_margin_needs_more_pairs_than_are_worth_telling():
    assert judged((0.2, 0.1, 0.3), guard=(-0.03, -0.05, 0.0), guard_margin=0.03).needed == {}
