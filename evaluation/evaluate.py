"""Bundles and labelled pairs in, figures and a verdict out, measured on the artifact that is served.

Shape suffix: P = pairs.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluation.bootstrap import RESAMPLES, SEED, difference, unit_of
from evaluation.gate import Gate, judge
from simile.artifacts import (
    Difference,
    EvaluatedBundle,
    EvaluationReport,
    Figures,
    IntervalMethod,
    LexicalFigures,
    PairSet,
    SetEvaluation,
    read_training_texts,
    text_hash,
)
from simile.errors import InputError
from simile.progress import Progress
from simile.scoring import Scorer, probability, require_finite, require_prior
from simile.scoring.metrics import expected_calibration_error, figures, known, spearman, tfidf_cosines
from simile.version import __version__, commit


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The report, and the scores that it was computed from."""

    report: EvaluationReport
    scores: Mapping[str, Mapping[str, NDArray[np.float32]]]
    """Scores by set or guard, then by ``bundle`` and ``baseline``."""


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
    report = EvaluationReport(
        version=__version__,
        commit=commit(),
        bundle=_evaluated(scorer),
        baseline=_evaluated(baseline) if baseline else None,
        prior=prior,
        sets={pairs.name: entries[pairs.name] for pairs in sets},
        guards={pairs.name: entries[pairs.name] for pairs in guards},
        interval=IntervalMethod(unit={pairs.name: unit_of(pairs) for pairs in judged}, resamples=RESAMPLES, seed=SEED),
        leaked_texts=_num_leaked(judged, training_texts),
        baseline_leaked_texts=_num_leaked(judged, read_training_texts(baseline.bundle) if baseline else None),
    )
    return Evaluation(judge(report, gate, sets) if gate else report, scores)


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
    lexical = known({"spearman": spearman(tfidf_cosines(pairs.texts), pairs.target_P)})
    return SetEvaluation(
        pairs=len(pairs.rows),
        sha256=pairs.sha256,
        graded=pairs.is_graded,
        bundle=by_role["bundle"],
        baseline=by_role.get("baseline"),
        difference=Difference(**known({"spearman": gain.value, "low": gain.low, "high": gain.high})) if gain else None,
        lexical=LexicalFigures(**lexical),
        unknown_tokens=scorers["bundle"].unknown_shares(pairs.texts),
    )


def _figures(pairs: PairSet, score_P: NDArray[np.float32], scorer: Scorer, prior: float | None) -> Figures:
    values = figures(score_P, pairs.target_P, is_graded=pairs.is_graded)
    calibration = scorer.bundle.manifest.calibration
    if calibration and not pairs.is_graded:
        probability_P = probability(calibration, score_P, prior=prior)
        values["calibration_error"] = expected_calibration_error(probability_P, pairs.target_P)
    return Figures(**known(values))


def _num_leaked(sets: Sequence[PairSet], training_texts: Collection[str] | None) -> dict[str, int] | None:
    """Return the number of each set's texts that were trained on, by the set's name; None where nobody knows."""
    if training_texts is None:
        return None
    texts = {pairs.name: {text for pair in pairs.texts for text in pair} for pairs in sets}
    return {name: sum(text_hash(text) in training_texts for text in own) for name, own in texts.items()}
