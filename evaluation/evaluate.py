"""Bundles and labelled pairs in, figures and a verdict out, measured on the artifact that is served.

Shape suffix: P = pairs.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer

from evaluation.bootstrap import MIN_UNITS, RESAMPLES, SEED, difference, num_units, unit_of
from simile.artifacts import (
    Difference,
    EvaluatedBundle,
    EvaluationReport,
    Figures,
    IntervalMethod,
    LexicalFigures,
    PairSet,
    SetEvaluation,
    text_hash,
)
from simile.errors import InputError
from simile.progress import Progress
from simile.scoring import Scorer, probability, require_finite, require_prior
from simile.scoring.metrics import expected_calibration_error, figures, known, spearman
from simile.version import __version__, commit


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The report, and the scores that it was computed from."""

    report: EvaluationReport
    scores: Mapping[str, Mapping[str, NDArray[np.float32]]]
    """Scores by set or guard, then by ``bundle`` and ``baseline``."""


@dataclass(frozen=True, slots=True)
class Gate:
    """The conditions of a release."""

    guard_margin: float = 0.01
    """How far a guard's Spearman may fall below the baseline's."""


def evaluate(
    scorer: Scorer,
    sets: Sequence[PairSet],
    *,
    baseline: Scorer | None = None,
    guards: Sequence[PairSet] = (),
    gate: Gate | None = None,
    training_texts: Collection[str] | None = None,
    prior: float | None = None,
) -> Evaluation:
    """Return the figures of the bundle on every set, beside the baseline's, and the gate's verdict.

    Args:
        scorer: scorer of the bundle.
        sets: labelled pairs to judge on.
        baseline: scorer of another bundle, on the same runtime.
        guards: labelled pairs on which nothing may be lost.
        gate: None for no verdict; needs a baseline.
        training_texts: hashes of the bundle's training texts (`text_hash`); None where they are unknown.
        prior: share of positives that the probabilities assume; None for the calibrations' own.

    Raises:
        InputError: two sets have one name, a score is not finite, or a prior was given for an uncalibrated bundle.
    """
    judged = [*sets, *guards]
    names = [pairs.name for pairs in judged]
    if len(set(names)) < len(names):
        raise InputError(f"got sets named {', '.join(names)}, need a different name for each set")
    require_prior(scorer.bundle, prior)
    scorers = {"bundle": scorer} | ({"baseline": baseline} if baseline else {})
    scores = _score_all(judged, scorers)
    entries = {pairs.name: _compare(pairs, scores[pairs.name], scorers, prior) for pairs in judged}
    leaked = None
    if training_texts is not None:
        leaked = {pairs.name: _num_leaked(pairs, training_texts) for pairs in judged}
    report = EvaluationReport(
        version=__version__,
        commit=commit(),
        bundle=_evaluated(scorer),
        baseline=_evaluated(baseline) if baseline else None,
        prior=prior,
        sets={pairs.name: entries[pairs.name] for pairs in sets},
        guards={pairs.name: entries[pairs.name] for pairs in guards},
        interval=IntervalMethod(unit={pairs.name: unit_of(pairs) for pairs in judged}, resamples=RESAMPLES, seed=SEED),
        leaked_texts=leaked,
    )
    return Evaluation(_judge(report, gate, sets) if gate else report, scores)


def _evaluated(scorer: Scorer) -> EvaluatedBundle:
    return EvaluatedBundle(
        name=scorer.bundle.manifest.name,
        digest=scorer.bundle.manifest.digest,
        provider=scorer.runtime.provider,
        precision=scorer.runtime.precision,
    )


def _score_all(sets: Sequence[PairSet], scorers: Mapping[str, Scorer]) -> dict[str, dict[str, NDArray[np.float32]]]:
    num_texts = sum(len({text for pair in pairs.texts for text in pair}) for pairs in sets)
    num_encoders = sum(len(scorer.members) for scorer in scorers.values())
    scores: dict[str, dict[str, NDArray[np.float32]]] = {pairs.name: {} for pairs in sets}
    with Progress("evaluating", num_texts * num_encoders, "texts") as progress:
        for pairs in sets:
            for role, scorer in scorers.items():
                score_P = scorer.score_members(pairs.texts, progress.advance).score_P
                require_finite(score_P, scorer.runtime)
                scores[pairs.name][role] = score_P
    return scores


def _compare(
    pairs: PairSet, scores: Mapping[str, NDArray[np.float32]], scorers: Mapping[str, Scorer], prior: float | None
) -> SetEvaluation:
    by_role = {role: _figures(pairs, scores[role], scorer, prior) for role, scorer in scorers.items()}
    gain = difference(pairs, scores["bundle"], scores["baseline"]) if "baseline" in scores else None
    lexical = known({"spearman": spearman(lexical_scores(pairs), pairs.target_P)})
    return SetEvaluation(
        pairs=len(pairs.rows),
        sha256=pairs.sha256,
        graded=pairs.is_graded,
        bundle=by_role["bundle"],
        baseline=by_role.get("baseline"),
        difference=Difference(**known({"spearman": gain.value, "low": gain.low, "high": gain.high})) if gain else None,
        lexical=LexicalFigures(**lexical),
    )


def _figures(pairs: PairSet, score_P: NDArray[np.float32], scorer: Scorer, prior: float | None) -> Figures:
    values = figures(score_P, pairs.target_P, is_graded=pairs.is_graded)
    calibration = scorer.bundle.manifest.calibration
    if calibration and not pairs.is_graded:
        probability_P = probability(calibration, score_P, prior=prior)
        values["calibration_error"] = expected_calibration_error(probability_P, pairs.target_P)
    return Figures(**known(values))


def lexical_scores(pairs: PairSet) -> NDArray[np.float64]:
    """Return the TF-IDF cosine of each pair, shape ``(P,)``: the pairs' own, or else fitted on their texts."""
    if all(row.tfidf is not None for row in pairs.rows):
        return np.array([row.tfidf for row in pairs.rows], dtype=np.float64)
    texts = list(dict.fromkeys(text for pair in pairs.texts for text in pair))
    # Single letters count as words here, because the shortest texts have nothing else.
    vectorizer = TfidfVectorizer(sublinear_tf=True, token_pattern=r"(?u)\S+").fit(texts)
    a_PW, b_PW = (vectorizer.transform([pair[side] for pair in pairs.texts]) for side in (0, 1))
    return np.asarray(a_PW.multiply(b_PW).sum(axis=1), dtype=np.float64).ravel()


def _num_leaked(pairs: PairSet, training_texts: Collection[str]) -> int:
    """Return the number of the set's texts that were trained on."""
    return sum(text_hash(text) in training_texts for text in {text for pair in pairs.texts for text in pair})


def _judge(report: EvaluationReport, gate: Gate, sets: Sequence[PairSet]) -> EvaluationReport:
    """Return the report with the verdict and its reasons: every reason against, or else what held."""
    leaked = {name: num for name, num in (report.leaked_texts or {}).items() if num}
    against = [*_unproven_gains(report, sets), *_lost_guards(report, gate)]
    against += [f"{name}: {num} of its texts are among the training texts, need none" for name, num in leaked.items()]
    if against:
        return report.model_copy(update={"verdict": "fail", "reasons": tuple(against)})
    held = [
        f"{name}: low end {entry.difference.low:+.4f}"
        for name, entry in report.sets.items()
        if entry.difference and entry.difference.low is not None
    ]
    if report.leaked_texts is None:
        held.append("the training texts are unknown, so it was not checked that none of them was judged on")
    return report.model_copy(update={"verdict": "pass", "reasons": tuple(held)})


def _unproven_gains(report: EvaluationReport, sets: Sequence[PairSet]) -> list[str]:
    """Return the sets on which the bundle is not shown to be better, and why."""
    against = []
    for pairs in sets:
        name, units = pairs.name, num_units(pairs)
        gain = report.sets[name].difference
        low = gain.low if gain else None
        if units < MIN_UNITS:
            against.append(f"{name}: got pairs of {units} {unit_of(pairs)}s, need at least {MIN_UNITS} for an interval")
        elif low is None:
            against.append(f"{name}: got constant scores, need some that differ")
        elif not low > 0:
            against.append(f"{name}: the interval of the difference starts at {low:+.4f}, need above 0")
    return against


def _lost_guards(report: EvaluationReport, gate: Gate) -> list[str]:
    """Return the guards on which too much was lost; constant scores guard nothing."""
    against = []
    for name, entry in report.guards.items():
        got, baseline = entry.bundle.spearman, entry.baseline.spearman if entry.baseline else None
        if got is None or baseline is None or got < baseline - gate.guard_margin:
            shown = "none" if got is None else f"{got:.4f}"
            need = "one of the baseline" if baseline is None else f"at least {baseline - gate.guard_margin:.4f}"
            against.append(f"{name}: Spearman {shown}, need {need} (the guard)")
    return against
