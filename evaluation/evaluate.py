"""Bundles x labelled pairs -> figures and a verdict, on the artefact that is served.

Shape suffix: P = pairs.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer

from evaluation.bootstrap import FEWEST_UNITS, RESAMPLES, SEED, difference, num_units, unit_of
from simile.artifacts import Calibration, PairSet, text_hash
from simile.errors import InputError
from simile.progress import Progress
from simile.scoring import Scorer, probability, require_finite, require_prior
from simile.scoring.metrics import expected_calibration_error, figures, known, spearman


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What was found: the report as written to JSON, and the scores behind it."""

    report: dict[str, Any]
    scores: Mapping[str, Mapping[str, NDArray[np.float32]]]
    """By set or guard, then ``bundle`` and ``baseline``."""


@dataclass(frozen=True, slots=True)
class Gate:
    """What a release has to hold."""

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
        scorer: the bundle's.
        sets: labelled pairs to judge on.
        baseline: another bundle's scorer, on the same runtime.
        guards: labelled pairs on which nothing may be lost.
        gate: None for no verdict; needs a baseline.
        training_texts: hashes of the texts the bundle was trained on (`text_hash`); None where they are not known.
        prior: share of positives that the probabilities assume; None for the calibrations' own.

    Raises:
        InputError: two sets of one name, a score that is not finite, or a prior for a bundle without calibration.
    """
    names = [pairs.name for pairs in (*sets, *guards)]
    if len(set(names)) < len(names):
        raise InputError(f"got sets named {', '.join(names)}, need one set a name")
    require_prior(scorer.bundle, prior)
    scorers = {"bundle": scorer} | ({"baseline": baseline} if baseline else {})
    scores = _score_all([*sets, *guards], scorers)
    report: dict[str, Any] = {
        "bundle": _identity(scorer),
        "baseline": _identity(baseline) if baseline else None,
        "prior": prior,
        "sets": {pairs.name: _compare(pairs, scores[pairs.name], scorers, prior) for pairs in sets},
        "guards": {pairs.name: _compare(pairs, scores[pairs.name], scorers, prior) for pairs in guards},
        "interval": {
            "unit": {pairs.name: unit_of(pairs) for pairs in (*sets, *guards)},
            "resamples": RESAMPLES,
            "seed": SEED,
        },
        "leaked_texts": _leaked([*sets, *guards], training_texts),
    }
    report["verdict"], report["reasons"] = _judge(report, gate, sets) if gate else (None, [])
    return Evaluation(report, scores)


def _identity(scorer: Scorer) -> dict[str, str]:
    return {
        "name": scorer.bundle.manifest.name,
        "digest": scorer.bundle.manifest.digest,
        "provider": scorer.runtime.provider,
        "precision": scorer.runtime.precision,
    }


def _score_all(sets: Sequence[PairSet], scorers: Mapping[str, Scorer]) -> dict[str, dict[str, NDArray[np.float32]]]:
    num_texts = sum(len({text for pair in pairs.texts for text in pair}) for pairs in sets)
    num_encoders = sum(len(one.members) for one in scorers.values())
    found: dict[str, dict[str, NDArray[np.float32]]] = {pairs.name: {} for pairs in sets}
    with Progress("evaluating", num_texts * num_encoders, "texts") as progress:
        for pairs in sets:
            for who, one in scorers.items():
                score_P = one.score_members(pairs.texts, progress.advance).score_P
                require_finite(score_P, one.runtime)
                found[pairs.name][who] = score_P
    return found


def _compare(
    pairs: PairSet, scores: Mapping[str, NDArray[np.float32]], scorers: Mapping[str, Scorer], prior: float | None
) -> dict[str, Any]:
    found = {
        who: _figures(pairs, scores[who], scorer.bundle.manifest.calibration, prior) for who, scorer in scorers.items()
    }
    entry: dict[str, Any] = {
        "pairs": len(pairs.rows),
        "sha256": pairs.sha256,
        "graded": pairs.is_graded,
        "bundle": found["bundle"],
        "baseline": found.get("baseline"),
        "difference": None,
        "lexical": known({"spearman": spearman(lexical_scores(pairs), pairs.target_P)}),
    }
    if "baseline" in scores:
        gain = difference(pairs, scores["bundle"], scores["baseline"])
        entry["difference"] = known({"spearman": gain.value, "low": gain.low, "high": gain.high})
    return entry


def _figures(
    pairs: PairSet, score_P: NDArray[np.float32], calibration: Calibration | None, prior: float | None
) -> dict[str, float | None]:
    found = figures(score_P, pairs.target_P, is_graded=pairs.is_graded)
    if calibration and not pairs.is_graded:
        probability_P = probability(calibration, score_P, prior=prior)
        found["calibration_error"] = expected_calibration_error(probability_P, pairs.target_P)
    return known(found)


def lexical_scores(pairs: PairSet) -> NDArray[np.float64]:
    """Return each pair's TF-IDF cosine, shape ``(P,)``: as the pairs state it, else fitted on their own texts."""
    if all(row.tfidf is not None for row in pairs.rows):
        return np.array([row.tfidf for row in pairs.rows], dtype=np.float64)
    texts = list(dict.fromkeys(text for pair in pairs.texts for text in pair))
    # Single letters count as words here: the shortest texts have nothing else.
    vectorizer = TfidfVectorizer(sublinear_tf=True, token_pattern=r"(?u)\S+").fit(texts)
    a_PW, b_PW = (vectorizer.transform([pair[side] for pair in pairs.texts]) for side in (0, 1))
    return np.asarray(a_PW.multiply(b_PW).sum(axis=1), dtype=np.float64).ravel()


def _leaked(sets: Sequence[PairSet], training_texts: Collection[str] | None) -> dict[str, int] | None:
    """Return how many of each set's texts were trained on, or None where that is not known."""
    if training_texts is None:
        return None
    return {
        pairs.name: sum(text_hash(text) in training_texts for text in {text for pair in pairs.texts for text in pair})
        for pairs in sets
    }


def _unproven(report: Mapping[str, Any], sets: Sequence[PairSet]) -> list[str]:
    """Return on which sets the bundle is not shown to be better, and why."""
    against = []
    for pairs in sets:
        name, units = pairs.name, num_units(pairs)
        low = report["sets"][name]["difference"]["low"]
        if units < FEWEST_UNITS:
            of = unit_of(pairs)
            against.append(f"{name}: got pairs of {units} {of}s, need at least {FEWEST_UNITS} to say how sure it is")
        elif low is None:
            against.append(f"{name}: got scores that order nothing, need some that differ")
        elif not low > 0:
            against.append(f"{name}: the interval of the difference starts at {low:+.4f}, need above 0")
    return against


def _judge(report: Mapping[str, Any], gate: Gate, sets: Sequence[PairSet]) -> tuple[str, list[str]]:
    """Return the verdict and why: every reason against, or what held."""
    against = _unproven(report, sets)
    for name, entry in report["guards"].items():
        bundle, baseline = entry["bundle"]["spearman"], entry["baseline"]["spearman"]
        # None: scores that order nothing guard nothing.
        if None in (bundle, baseline) or bundle < baseline - gate.guard_margin:
            got = "none" if bundle is None else f"{bundle:.4f}"
            need = "one of the baseline" if baseline is None else f"at least {baseline - gate.guard_margin:.4f}"
            against.append(f"{name}: Spearman {got}, need {need} (the guard)")
    for name, num in (report["leaked_texts"] or {}).items():
        if num:
            against.append(f"{name}: {num} of its texts are among the training texts, need none")
    if against:
        return "fail", against
    held = [f"{name}: low end {entry['difference']['low']:+.4f}" for name, entry in report["sets"].items()]
    if report["leaked_texts"] is None:
        held.append("the training texts are not known: that none was judged on is not checked")
    return "pass", held
