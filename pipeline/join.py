"""Joining the members of several bundles into one ensemble."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from simile.artifacts import (
    Bundle,
    CalibrationMethod,
    Combine,
    GoldenPair,
    JoinProvenance,
    Manifest,
    PairSet,
    check_replaceable,
    read_bundle,
    read_training_texts,
    texts_digest,
    write_bundle,
    write_training_hashes,
)
from simile.artifacts.bundle import Member
from simile.errors import InputError
from simile.scoring import Scorer, choose_runtime
from simile.version import __version__, commit
from training.decision import with_decisions


def join(
    paths: Sequence[Path],
    out: Path,
    fit: PairSet | None = None,
    *,
    dev_sets: Sequence[PairSet] = (),
    calibration_sets: Sequence[PairSet] = (),
    calibration: CalibrationMethod = "platt",
) -> Bundle:
    """Return the bundle at ``out`` with the members of all these bundles.

    Args:
        paths: the bundles.
        out: folder of the new bundle.
        fit: labelled pairs to learn the members' weights on; None for the mean of their scores.
        dev_sets: pairs to fit calibration and thresholds on; without, those of ``fit``.
        calibration_sets: pairs more like those to be scored; used alone where there are enough.
        calibration: the calibration method.

    Raises:
        InputError: there are fewer than two members, or ``out`` is one of the bundles.
    """
    check_replaceable(out)
    if any(path.resolve() == out.resolve() for path in paths):
        raise InputError(f"{out}: is one of the bundles to join, need another --out")
    bundles = [read_bundle(path) for path in paths]
    parts = _Parts()
    for bundle in bundles:
        parts.add(bundle)
    if len(parts.members) < 2:
        raise InputError(f"got {len(parts.members)} member in {len(paths)} bundle, need at least two to join")
    names, data = [member.name for member in parts.members], parts.data
    texts = _training_texts(bundles)
    manifest = Manifest(
        name=out.name,
        members=tuple(parts.members),
        combine=Combine(weights=dict.fromkeys(names, 1 / len(names))),
        golden=parts.golden_pairs,
        made=JoinProvenance(
            of=tuple(bundle.identity for bundle in bundles),
            fitted_on=fit.sha256 if fit else None,
            texts=None if texts is None else texts_digest(texts),
            versions={"simile": __version__},
            commit=commit(),
        ),
    )
    if fit:
        scores = _scorer(out, manifest, data).score_members(fit.texts).members
        weights = learn_weights(np.stack([scores[name] for name in names], axis=1), fit.target_P)
        combine = Combine(method="learned", weights=dict(zip(names, map(float, weights), strict=True)))
        manifest = manifest.model_copy(update={"combine": combine})
    if decided_on := dev_sets or ([fit] if fit else calibration_sets):
        manifest = with_decisions(
            manifest, _scorer(out, manifest, data), calibration_sets, decided_on, method=calibration
        )
    joined = write_bundle(out, manifest, data)
    if texts is not None:
        write_training_hashes(out, texts)
    return joined


def _training_texts(bundles: Sequence[Bundle]) -> set[str] | None:
    """Return the hashes of all bundles' training texts; None where those of a bundle are unknown."""
    known: set[str] = set()
    for bundle in bundles:
        if (hashes := read_training_texts(bundle)) is None:
            return None
        known |= hashes
    return known


def _scorer(out: Path, manifest: Manifest, data: Mapping[str, bytes]) -> Scorer:
    return Scorer(Bundle(out, manifest, data), choose_runtime("cpu", "fp32"))


@dataclass(frozen=True, slots=True)
class _Parts:
    """The members, files and golden scores that an ensemble is made of."""

    members: list[Member] = field(default_factory=list)
    data: dict[str, bytes] = field(default_factory=dict)
    scores: dict[tuple[str, str], dict[str, float]] = field(default_factory=dict)
    """Scores of each golden pair by member."""

    @property
    def golden_pairs(self) -> tuple[GoldenPair, ...]:
        """The golden pairs that have the scores of all members."""
        return tuple(
            GoldenPair(text_a=a, text_b=b, scores=scores)
            for (a, b), scores in self.scores.items()
            if len(scores) == len(self.members)
        )

    def add(self, bundle: Bundle) -> None:
        """Add the bundle's members, under names that are still free."""
        renamed: dict[str, str] = {}
        for member in bundle.manifest.members:
            name = _free_name(member.name, bundle.manifest.name, {other.name for other in self.members})
            renamed[member.name] = name
            fields = {"name": name}
            for key, value in member:
                if (path := getattr(value, "path", None)) is not None:
                    moved = f"members/{name}/{Path(path).name}"
                    self.data[moved] = bundle.data[path]
                    fields[key] = value.model_copy(update={"path": moved})
            self.members.append(member.model_copy(update=fields))
        for pair in bundle.manifest.golden:
            scores = {renamed[name]: score for name, score in pair.scores.items()}
            self.scores.setdefault((pair.text_a, pair.text_b), {}).update(scores)


def _free_name(member: str, bundle: str, taken: set[str]) -> str:
    """Return the member's name, or one that names its bundle where the name is taken."""
    candidates = [member, f"{bundle}-{member}"[:64], *(f"{member}-{number}" for number in range(2, 1000))]
    return next(name for name in candidates if name not in taken)


def learn_weights(score_PM: NDArray[np.float32], target_P: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the members' weights, non-negative with sum 1, that maximise the correlation of mean score and target.

    The linear correlation is used because it is smooth, unlike the rank correlation.

    Args:
        score_PM: score of each pair by each member.
        target_P: labels or graded scores.
    """
    target_P = (target_P - target_P.mean()) / target_P.std()

    def loss(raw_M: NDArray[np.float64]) -> float:
        weight_M = np.abs(raw_M) / np.abs(raw_M).sum()
        mixed_P = score_PM @ weight_M
        return -float(np.corrcoef(mixed_P, target_P)[0, 1])

    num_members = score_PM.shape[1]
    optimum = minimize(loss, np.full(num_members, 1 / num_members), method="Nelder-Mead", options={"maxiter": 2000})
    weight_M: NDArray[np.float64] = np.abs(optimum.x) / np.abs(optimum.x).sum()
    return weight_M
