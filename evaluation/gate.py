"""The gate: whether an evaluated bundle may be released, and every reason why.

The rules are in docs/evaluation.md.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from evaluation.bootstrap import ALPHA, MIN_UNITS, low_end, num_units, unit_of
from evaluation.needed import needed_for_gains, needed_for_guards
from simile.artifacts import EvaluationReport, GuardResult, Looks, PairSet, SetEvaluation

_UNKNOWN = "the bundle's training texts are unknown, so nobody can tell whether it was judged on some of them"


@dataclass(frozen=True, slots=True)
class Gate:
    """The conditions of a release."""

    guard_margin: float = 0.03
    """How far a guard's Spearman may fall below the baseline's."""
    allow_undecided_guards: bool = False
    """Whether a guard passes whose interval does not tell whether more than the margin was lost."""
    allow_unknown_training_texts: bool = False
    """Whether a bundle passes of which nobody can tell whether it was trained on the test texts."""
    looks: Mapping[str, int] = field(default_factory=dict)
    """Number of different bundles judged on each set so far, this one included (default: 1)."""
    remarks: tuple[str, ...] = ()
    """Remarks that come with the verdict."""


def judge(
    report: EvaluationReport, gate: Gate, sets: Sequence[PairSet], *, guard_sets: Sequence[PairSet] = ()
) -> EvaluationReport:
    """Return the report with the verdict and its reasons: every reason against, or else what held; then remarks."""
    looks = {pairs.name: _looks(pairs, report.sets[pairs.name], gate.looks.get(pairs.name, 1)) for pairs in sets}
    guards = {name: _guard_result(entry, gate.guard_margin) for name, entry in report.guards.items()}
    against = [*_unproven_gains(looks, sets), *_unproven_guards(report, guards, gate)]
    leaked = {name: num for name, num in (report.leaked_texts or {}).items() if num}
    against += [f"{name}: {num} of its texts are among the training texts, need none" for name, num in leaked.items()]
    if report.leaked_texts is None and not gate.allow_unknown_training_texts:
        against.append(f"{_UNKNOWN}; need its texts.sha256, or --allow-unknown-training-texts")
    held = [f"{name}: low end {look.low:+.4f}" for name, look in looks.items() if look.low is not None]
    held += [f"{name}: {guards[name]} with {_interval(report.guards[name])} (the guard)" for name in guards]
    return report.model_copy(
        update={
            "looks": looks,
            "guard_results": guards,
            "needed": needed_for_gains(sets, report.sets, looks=looks)
            | needed_for_guards(guard_sets, report.guards, results=guards, margin=gate.guard_margin),
            "verdict": "fail" if against else "pass",
            "reasons": (*(against or held), *_remarks(report, gate, looks)),
        }
    )


def _remarks(report: EvaluationReport, gate: Gate, looks: Mapping[str, Looks]) -> list[str]:
    """Return what whoever reads the verdict has to know, whichever it is."""
    remarks = [_UNKNOWN] if report.leaked_texts is None and gate.allow_unknown_training_texts else []
    remarks += [
        f"{name}: {look.bundles} different bundles were judged on it, so this verdict is at a level of "
        f"{100 * look.level:.2g} % ({100 * ALPHA:g} % / {look.bundles})"
        for name, look in looks.items()
        if look.bundles > 1
    ]
    remarks += [
        f"{name}: {num} of its texts are among the baseline's training texts, which makes the baseline look better"
        for name, num in (report.baseline_leaked_texts or {}).items()
        if num
    ]
    return [*remarks, *gate.remarks]


def _looks(pairs: PairSet, entry: SetEvaluation, bundles: int) -> Looks:
    level, gain, low = ALPHA / bundles, entry.difference, None
    if gain and gain.spearman is not None and gain.low is not None:
        low = low_end(gain.spearman, gain.low, units=num_units(pairs), alpha=level)
    return Looks(bundles=bundles, level=level, low=low)


def _unproven_gains(looks: Mapping[str, Looks], sets: Sequence[PairSet]) -> list[str]:
    """Return the sets on which the bundle is not shown to be better, and why."""
    against = []
    for pairs in sets:
        name, units, low = pairs.name, num_units(pairs), looks[pairs.name].low
        if units < MIN_UNITS:
            against.append(f"{name}: got pairs of {units} {unit_of(pairs)}s, need at least {MIN_UNITS} for an interval")
        elif low is None:
            against.append(f"{name}: got constant scores, need some that differ")
        elif not low > 0:
            against.append(f"{name}: the interval of the difference starts at {low:+.4f}, need above 0")
    return against


def _guard_result(entry: SetEvaluation, margin: float) -> GuardResult:
    """Return whether the interval lies above the loss that is accepted (kept), below it (lost), or on both sides."""
    gain = entry.difference
    if gain is None or gain.spearman is None:
        # Constant scores guard nothing.
        return "lost"
    if gain.low is None or gain.high is None:
        return "undecided"
    # Equal scores differ by exactly 0, which a margin of 0 accepts.
    return "kept" if gain.low >= -margin else "lost" if gain.high < -margin else "undecided"


def _unproven_guards(report: EvaluationReport, results: Mapping[str, GuardResult], gate: Gate) -> list[str]:
    """Return the guards that are lost, and those that are undecided where that is not accepted."""
    against = []
    for name, entry in report.guards.items():
        need = f"need {-gate.guard_margin:+.4f} or more (the guard)"
        if entry.difference is None or entry.difference.spearman is None:
            who = "bundle" if entry.bundle.spearman is None else "baseline"
            against.append(f"{name}: got constant scores of the {who}, need some that differ (the guard)")
        elif results[name] == "lost":
            against.append(f"{name}: lost, the difference is {_interval(entry)}, {need}")
        elif results[name] == "undecided" and not gate.allow_undecided_guards:
            more = "need more pairs to decide, or --allow-undecided-guards"
            against.append(f"{name}: undecided, the difference is {_interval(entry)}, {need}; {more}")
    return against


def _interval(entry: SetEvaluation) -> str:
    gain = entry.difference
    if gain is None or gain.spearman is None:
        return "no interval"
    if gain.low is None or gain.high is None:
        return f"{gain.spearman:+.4f} without an interval"
    return f"{gain.spearman:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}]"
