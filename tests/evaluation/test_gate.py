import pytest

from evaluation.bootstrap import low_end
from evaluation.gate import Gate, judge
from simile.artifacts import EvaluationReport, Pair, PairSet
from tests.evaluation_reports import evaluation_report

PAIRS = PairSet("seen", tuple(Pair(f"a{i}", f"b{i}", label=i % 2) for i in range(10)), "0" * 64)
"""Pairs of 20 texts."""


def entry(difference: float | None, low: float | None, high: float | None, *, bundle: float | None = 0.5) -> dict:
    return {
        "pairs": 10,
        "sha256": "0" * 64,
        "graded": False,
        "bundle": {"spearman": bundle},
        "baseline": {"spearman": 0.5},
        "difference": {"spearman": difference, "low": low, "high": high},
        "lexical": {"spearman": 0.0},
    }


GAIN = (0.2, 0.1, 0.3)


def judged(gain=GAIN, guard=None, leaked=0, baseline_leaked=None, **conditions) -> EvaluationReport:
    """The verdict on one set and perhaps one guard."""
    report = evaluation_report(
        sets={"seen": entry(*gain)},
        guards={"general": guard} if guard else {},
        leaked_texts=None if leaked is None else {"seen": leaked},
        baseline_leaked_texts=None if baseline_leaked is None else {"seen": baseline_leaked},
    )
    return judge(report, Gate(**conditions), [PAIRS])


def test_first_look_is_judged_by_the_95_percent_interval():
    report = judged()
    assert (report.verdict, report.reasons) == ("pass", ("seen: low end +0.1000",))
    assert report.looks["seen"].model_dump() == {"bundles": 1, "level": 0.05, "low": 0.1}


def test_from_the_second_look_on_the_level_is_divided_by_the_looks():
    report = judged(looks={"seen": 2})
    low = low_end(0.2, 0.1, units=20, alpha=0.025)
    assert 0 < low < 0.1
    assert report.looks["seen"].model_dump() == {"bundles": 2, "level": 0.025, "low": low}
    assert report.reasons == (
        f"seen: low end {low:+.4f}",
        "seen: 2 different bundles were judged on it, so this verdict is at a level of 2.5 % (5 % / 2)",
    )


def test_gain_that_one_look_proves_is_not_proven_by_many():
    gain = (0.1, 0.01, 0.2)
    assert judged(gain).verdict == "pass"
    report = judged(gain, looks={"seen": 10})
    assert report.verdict == "fail"
    assert report.reasons[0].startswith("seen: the interval of the difference starts at -0.0")
    assert report.reasons[1].endswith("so this verdict is at a level of 0.5 % (5 % / 10)")
    assert report.sets["seen"].difference.low == 0.01


@pytest.mark.parametrize(
    ("interval", "result", "verdict"),
    [
        ((-0.01, -0.029, 0.01), "kept", "pass"),
        ((0.0, 0.0, 0.0), "kept", "pass"),
        ((-0.02, -0.031, 0.01), "undecided", "fail"),
        ((-0.04, -0.06, -0.02), "undecided", "fail"),
        ((-0.01, None, None), "undecided", "fail"),
        ((-0.05, -0.06, -0.031), "lost", "fail"),
    ],
)
def test_guard_is_judged_by_its_interval(interval, result, verdict):
    report = judged(guard=entry(*interval))
    assert (report.guard_results, report.verdict) == ({"general": result}, verdict)
    assert f"general: {result}" in " ".join(report.reasons)
    allowed = judged(guard=entry(*interval), allow_undecided_guards=True)
    assert allowed.verdict == ("fail" if result == "lost" else "pass")
    assert f"general: {result}" in " ".join(allowed.reasons)


def test_undecided_guard_says_what_it_needs():
    (reason,) = judged(guard=entry(-0.02, -0.05, 0.01)).reasons
    assert reason == (
        "general: undecided, the difference is -0.0200 [-0.0500, +0.0100], need -0.0300 or more (the guard); "
        "need more pairs to decide, or --allow-undecided-guards"
    )


def test_margin_moves_what_a_guard_may_lose():
    guard = entry(-0.05, -0.08, -0.03)
    results = [judged(guard=guard, guard_margin=margin).guard_results["general"] for margin in (0.02, 0.05, 0.08)]
    assert results == ["lost", "undecided", "kept"]


@pytest.mark.parametrize(("bundle", "who"), [(None, "bundle"), (0.5, "baseline")])
def test_constant_scores_guard_nothing(bundle, who):
    report = judged(guard=entry(None, None, None, bundle=bundle), allow_undecided_guards=True)
    assert (report.verdict, report.guard_results) == ("fail", {"general": "lost"})
    assert report.reasons == (f"general: got constant scores of the {who}, need some that differ (the guard)",)


def test_unknown_training_texts_fail_the_gate_unless_allowed():
    report = judged(leaked=None)
    assert report.verdict == "fail"
    assert report.reasons == (
        "the bundle's training texts are unknown, so nobody can tell whether it was judged on some of them; "
        "need its texts.sha256, or --allow-unknown-training-texts",
    )
    report = judged(leaked=None, allow_unknown_training_texts=True)
    assert report.verdict == "pass"
    assert report.reasons[1].startswith("the bundle's training texts are unknown")


def test_leak_of_the_bundle_fails_the_gate_and_that_of_the_baseline_is_a_remark():
    assert judged(leaked=1).verdict == "fail"
    assert judged(leaked=1, allow_unknown_training_texts=True).verdict == "fail"
    report = judged(baseline_leaked=3)
    assert report.verdict == "pass"
    assert report.reasons[1].startswith("seen: 3 of its texts are among the baseline's training texts")
    assert len(judged(baseline_leaked=0).reasons) == 1


def test_remarks_follow_the_reasons_of_either_verdict():
    for gain in (GAIN, (0.1, -0.1, 0.3)):
        report = judged(gain, remarks=("a remark",))
        assert report.reasons[1:] == ("a remark",)
