"""Bundles or endpoints and labelled pairs in, figures and a verdict out, measured on what is served.

Shape suffix: P = pairs.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluation.bootstrap import RESAMPLES, SEED, difference, unit_of
from evaluation.gate import Gate, judge
from evaluation.judged import Endpoint, Judged, calibration_of, evaluated, num_members, score, unknown_shares
from simile.artifacts import (
    BundleReport,
    Difference,
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
from simile.scoring import probability, require_prior
from simile.scoring.metrics import expected_calibration_error, figures, known, spearman, tfidf_cosines
from simile.version import __version__, commit


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The report, and the scores that it was computed from."""

    report: EvaluationReport
    scores: Mapping[str, Mapping[str, NDArray[np.float32]]]
    """Scores by set or guard, then by ``bundle`` and ``baseline``."""


def evaluate(
    judged: Judged,
    sets: Sequence[PairSet],
    *,
    baseline: Judged | None = None,
    guards: Sequence[PairSet] = (),
    gate: Gate | None = None,
    training_texts: Collection[str] | None = None,
    prior: float | None = None,
) -> Evaluation:
    """Return the figures on every set, beside the baseline's, and the gate's verdict.

    The report is a `BundleReport` unless an endpoint takes part.

    Args:
        judged: scorer of a bundle, or an endpoint.
        sets: labelled pairs to judge on.
        baseline: scorer of another bundle, on the same runtime, or an endpoint.
        guards: labelled pairs on which nothing may be lost.
        gate: None for no verdict; needs a bundle and a baseline.
        training_texts: hashes of the bundle's training texts (`text_hash`); None where they are unknown.
        prior: share of positives that the probabilities assume; None for the calibrations' own.

    Raises:
        InputError: two sets have one name, a score is not finite, or a prior was given for an uncalibrated bundle.
        ServerError: an endpoint does not give all scores.
    """
    all_sets = [*sets, *guards]
    names = [pairs.name for pairs in all_sets]
    if len(set(names)) < len(names):
        raise InputError(f"got sets named {', '.join(names)}, need a different name for each set")
    if not isinstance(judged, Endpoint):
        require_prior(judged.bundle, prior)
    roles = {"bundle": judged} | ({"baseline": baseline} if baseline else {})
    scores = _score_all(all_sets, roles)
    entries = {pairs.name: _compare(pairs, scores[pairs.name], roles, prior) for pairs in all_sets}
    has_endpoint = any(isinstance(one, Endpoint) for one in roles.values())
    report = (EvaluationReport if has_endpoint else BundleReport)(
        version=__version__,
        commit=commit(),
        bundle=evaluated(judged),
        baseline=evaluated(baseline) if baseline else None,
        prior=prior,
        sets={pairs.name: entries[pairs.name] for pairs in sets},
        guards={pairs.name: entries[pairs.name] for pairs in guards},
        interval=IntervalMethod(
            unit={pairs.name: unit_of(pairs) for pairs in all_sets}, resamples=RESAMPLES, seed=SEED
        ),
        leaked_texts=_num_leaked(all_sets, training_texts),
        baseline_leaked_texts=_num_leaked(all_sets, _training_texts(baseline)),
    )
    return Evaluation(judge(report, gate, sets, guard_sets=guards) if gate else report, scores)


def _training_texts(judged: Judged | None) -> Collection[str] | None:
    return None if judged is None or isinstance(judged, Endpoint) else read_training_texts(judged.bundle)


def _score_all(sets: Sequence[PairSet], roles: Mapping[str, Judged]) -> dict[str, dict[str, NDArray[np.float32]]]:
    num_texts = sum(len({text for pair in pairs.texts for text in pair}) for pairs in sets)
    num_encoders = sum(map(num_members, roles.values()))
    scores: dict[str, dict[str, NDArray[np.float32]]] = {pairs.name: {} for pairs in sets}
    with Progress("evaluating", num_texts * num_encoders, "texts") as progress:
        for pairs in sets:
            for role, judged in roles.items():
                scores[pairs.name][role] = score(judged, pairs.texts, progress.advance)
    return scores


def _compare(
    pairs: PairSet, scores: Mapping[str, NDArray[np.float32]], roles: Mapping[str, Judged], prior: float | None
) -> SetEvaluation:
    by_role = {role: _figures(pairs, scores[role], judged, prior) for role, judged in roles.items()}
    gain = difference(pairs, scores["bundle"], scores["baseline"]) if "baseline" in scores else None
    lexical = known({"spearman": spearman(tfidf_cosines(pairs.texts), pairs.target_P, weight_P=_weights(pairs))})
    return SetEvaluation(
        pairs=len(pairs.rows),
        sha256=pairs.sha256,
        graded=pairs.is_graded,
        weighted=pairs.is_weighted,
        bundle=by_role["bundle"],
        baseline=by_role.get("baseline"),
        difference=Difference(**known({"spearman": gain.value, "low": gain.low, "high": gain.high})) if gain else None,
        lexical=LexicalFigures(**lexical),
        unknown_tokens=unknown_shares(roles["bundle"], pairs.texts),
    )


def _figures(pairs: PairSet, score_P: NDArray[np.float32], judged: Judged, prior: float | None) -> Figures:
    values = figures(score_P, pairs.target_P, is_graded=pairs.is_graded, weight_P=_weights(pairs))
    calibration = calibration_of(judged)
    if calibration and not pairs.is_graded:
        probability_P = probability(calibration, score_P, prior=prior)
        values["calibration_error"] = expected_calibration_error(
            probability_P, pairs.target_P, weight_P=_weights(pairs)
        )
    return Figures(**known(values))


def _weights(pairs: PairSet) -> NDArray[np.float64] | None:
    """Return the pairs' weights; None where all are equal, so that such figures are those of pairs without weights."""
    return pairs.weight_P if pairs.is_weighted else None


def _num_leaked(sets: Sequence[PairSet], training_texts: Collection[str] | None) -> dict[str, int] | None:
    """Return the number of each set's texts that were trained on, by the set's name; None where nobody knows."""
    if training_texts is None:
        return None
    texts = {pairs.name: {text for pair in pairs.texts for text in pair} for pairs in sets}
    return {name: sum(text_hash(text) in training_texts for text in own) for name, own in texts.items()}
