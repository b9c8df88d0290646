"""`simile join`: several bundles to one."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from pipeline.options import ColumnOption, named, value
from pipeline.output import print_lines, require_apart
from simile import artifacts
from simile.artifacts import Bundle, GoldenPair
from simile.artifacts.bundle import Member
from simile.errors import InputError
from simile.progress import say


class Options(ColumnOption):
    """Options of `simile join`."""

    bundles: Annotated[tuple[Path, ...], named("BUNDLE"), Field(min_length=1)]
    """Bundles whose members are joined."""
    out: Annotated[Path, value("BUNDLE")]
    """Where the joined bundle is written."""
    fit: Annotated[Path | None, value("PAIRS")] = None
    """Labelled pairs on which the members' weights, calibration and thresholds are fitted (default: equal weights,
    without calibration). Members that do not help are left out."""
    calibration: Literal["platt", "isotonic"] | None = None
    """Curve from score to probability that ``--fit`` fits: logistic, or any that rises (default: ``platt``)."""


def run(options: Options) -> int:
    """Write the ensemble and print its weights; return the exit code."""
    from pipeline.columns import read_labelled, require_columns_of

    if options.calibration and not options.fit:
        raise InputError("--calibration needs --fit PAIRS to fit it on")
    require_columns_of(options.columns, "pairs")
    require_apart([options.out], [options.fit])
    (fit,) = read_labelled([options.fit], options) if options.fit else (None,)
    bundle = join(options.bundles, options.out, fit, calibration=options.calibration or "platt")
    weights = bundle.manifest.combine.weights
    print_lines(bundle.identity, *(f"{weight:.4f}  {name}" for name, weight in weights.items()))
    return 0


def join(
    paths: Sequence[Path],
    out: Path,
    fit: artifacts.PairSet | None = None,
    *,
    dev_sets: Sequence[artifacts.PairSet] = (),
    calibration_sets: Sequence[artifacts.PairSet] = (),
    calibration: artifacts.CalibrationMethod = "platt",
) -> Bundle:
    """Return the bundle at ``out`` with the members of all these bundles.

    Weights are learned on ``fit`` (`training.fusion`), equal without it. Calibration and thresholds are fitted on
    ``calibration_sets``, pairs like those to be scored, where these are enough; otherwise on ``dev_sets`` or ``fit``.
    """
    from simile.scoring import Scorer, choose_runtime
    from simile.version import __version__, commit
    from training.decision import with_decisions
    from training.fusion import fuse

    artifacts.check_replaceable(out)
    if any(os.path.realpath(path) == os.path.realpath(out) for path in paths):
        raise InputError(f"{out}: is one of the bundles to join, need another --out")
    bundles = [artifacts.read_bundle(path) for path in paths]
    members, data, golden = _collected(bundles)
    if len(members) < 2:
        raise InputError(f"got {len(members)} member in {len(paths)} bundle, need at least two to join")
    if not golden:
        raise InputError("got bundles without a golden pair in common, need bundles made by one version of Simile")
    hashes = [known for bundle in bundles if (known := artifacts.read_training_texts(bundle)) is not None]
    # Unknown as soon as those of one bundle are unknown. Those of members that are left out later count too: their
    # scores helped to choose the weights.
    known_texts = set[str]().union(*hashes)
    texts = known_texts if len(hashes) == len(bundles) else None
    used = [*([fit] if fit else []), *dev_sets, *calibration_sets]
    if trained_texts := artifacts.count_trained(used, known_texts):
        say(f"note: {artifacts.trained_on(trained_texts)}")
    manifest = artifacts.Manifest(
        name=out.name,
        members=tuple(members.values()),
        combine=artifacts.Combine(weights=dict.fromkeys(members, 1 / len(members))),
        golden=golden,
        made=artifacts.JoinProvenance(
            of=tuple(bundle.identity for bundle in bundles),
            fitted_on=fit.sha256 if fit else None,
            texts=None if texts is None else artifacts.texts_digest(texts),
            trained_texts=trained_texts,
            versions={"simile": __version__},
            commit=commit(),
        ),
    )
    runtime = choose_runtime("cpu", "fp32")
    if fit:
        scores = Scorer(Bundle(out, manifest, data), runtime).score_members(fit.texts).members
        weights = fuse(np.stack([scores[name] for name in members], axis=1), fit)
        manifest = _weighted(manifest, dict(zip(members, map(float, weights), strict=True)))
        data = {entry.path: data[entry.path] for member in manifest.members for entry in member.files}
    if decided_on := dev_sets or ([fit] if fit else calibration_sets):
        scorer = Scorer(Bundle(out, manifest, data), runtime)
        manifest = with_decisions(manifest, scorer, calibration_sets, decided_on, method=calibration)
    return artifacts.write_bundle(out, manifest, data, texts)


def _collected(bundles: Sequence[Bundle]) -> tuple[dict[str, Member], dict[str, bytes], tuple[GoldenPair, ...]]:
    """Return all members by a name of their own, their files, and the golden pairs with the scores of all members."""
    members: dict[str, Member] = {}
    data: dict[str, bytes] = {}
    scores: dict[tuple[str, str], dict[str, float]] = {}
    for bundle in bundles:
        own_names: dict[str, str] = {}
        for member in bundle.manifest.members:
            numbered = (f"{member.name}-{number}" for number in range(2, 1000))
            candidates = (member.name, f"{bundle.manifest.name}-{member.name}"[:64], *numbered)
            name = own_names[member.name] = next(name for name in candidates if name not in members)
            fields = {"name": name}
            for key, file in member:
                if (path := getattr(file, "path", None)) is not None:
                    moved = f"members/{name}/{Path(path).name}"
                    data[moved] = bundle.data[path]
                    fields[key] = file.model_copy(update={"path": moved})
            members[name] = member.model_copy(update=fields)
        for pair in bundle.manifest.golden:
            by_member = {own_names[name]: score for name, score in pair.scores.items()}
            scores.setdefault((pair.text_a, pair.text_b), {}).update(by_member)
    complete = {texts: by_member for texts, by_member in scores.items() if len(by_member) == len(members)}
    return members, data, tuple(GoldenPair(text_a=a, text_b=b, scores=own) for (a, b), own in complete.items())


def _weighted(manifest: artifacts.Manifest, weights: Mapping[str, float]) -> artifacts.Manifest:
    """Return the manifest with these weights, without the members that have none: they would only cost time."""
    kept = {name: weight for name, weight in weights.items() if weight}
    if left_out := [name for name in weights if name not in kept]:
        say(f"note: left out {', '.join(left_out)}: the pairs of --fit give them no weight")
    golden = [
        pair.model_copy(update={"scores": {name: pair.scores[name] for name in kept}}) for pair in manifest.golden
    ]
    return manifest.model_copy(
        update={
            "members": tuple(member for member in manifest.members if member.name in kept),
            "combine": artifacts.Combine(method="learned", weights=kept),
            "golden": tuple(golden),
        }
    )
