"""The mining report: figures of each set and of the target, and warnings.

Shape suffix: P = pairs.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import get_args

import numpy as np

from mining.config import MineConfig
from mining.corpus.embeddings import Vectors
from mining.matching.target import SHORTCUT_LIMIT, Target
from mining.mine import Mined
from mining.report.comparison import View, match_report, view_of, view_of_target
from simile.artifacts import (
    MIN_DEV_PAIRS,
    BaselineFigures,
    MinedSet,
    MiningReport,
    Shortcuts,
    TargetSet,
    Tier,
    unknown_notes,
)
from simile.scoring.metrics import figures, known, spearman, tfidf_cosines
from simile.version import __version__, commit

DISTANCE_LIMIT = 0.1
"""Largest total variation distance to the target's joint distribution, per class, that does not raise a warning."""


def describe(mined: Mined) -> MiningReport:
    """Return the report on mined pairs. It warns of settings that were given explicitly and had no effect."""
    views = {name: view_of(pairs, mined.vectors) for name, pairs in mined.sets.items()}
    tiers, target = tiers_of(mined), mined.target
    # The pairs of the other tiers are not meant to follow the target.
    following = tiers.get("target") if tiers else views["pairs"]
    sets = {name: _mined_set(view, mined.vectors) for name, view in views.items()}
    report = MiningReport(
        version=__version__,
        commit=commit(),
        **dict(mined.facts),
        config=mined.config.model_dump(mode="json"),
        sets=sets,
        # Often one tier has all training pairs, and their figures.
        tiers={
            tier: sets["pairs"] if len(view) == len(views["pairs"]) else _mined_set(view, mined.vectors)
            for tier, view in tiers.items()
        },
        target=_target_set(target, mined.vectors) if target else None,
        match=match_report(following, target, mined.vectors, seed=mined.config.seed) if target and following else None,
        triplets=len(mined.triplets),
    )
    return report.model_copy(update={"warnings": (*mined.notes, *_warnings(report, mined.config))})


def tiers_of(mined: Mined) -> dict[Tier, View]:
    """Return the training pairs of each tier that has any; none where pairs were not mined by tiers."""
    by_tier = {tier: [pair for pair in mined.sets["pairs"] if pair.tier == tier] for tier in get_args(Tier)}
    return {tier: view_of(pairs, mined.vectors) for tier, pairs in by_tier.items() if pairs}


def _mined_set(view: View, vectors: Vectors | None) -> MinedSet:
    texts = [(pair.text_a, pair.text_b) for pair in view.pairs]
    is_counted_C = [pair.label == 0 and pair.same_category is not None for pair in view.pairs]
    same_C = view.is_same_category_C[np.array(is_counted_C, dtype=bool)]
    label_C, is_same_C = view.is_positive_C.astype(np.float64), view.is_same_category_C.astype(np.float64)
    features = {"tfidf": tfidf_cosines(texts), "length_ratio": view.length_ratio_C, "same_category": is_same_C}
    return MinedSet(
        pairs=len(view),
        positives=int(view.is_positive_C.sum()),
        texts=len({text for pair in texts for text in pair}),
        characters=float(np.mean([len(text) for pair in texts for text in pair])),
        same_category_negatives=float(np.mean(same_C)) if len(same_C) else None,
        alone=Shortcuts(**known({name: spearman(feature_C, label_C) for name, feature_C in features.items()})),
        baseline=_baseline_figures(view) if view.has_baseline else None,
        unknown_tokens=vectors.baseline.unknown_shares(texts) if vectors else {},
    )


def _target_set(target: Target, vectors: Vectors | None) -> TargetSet:
    """Return the target's figures, without those of imputed labels, which would reflect the imputation only."""
    view = view_of_target(target)
    entry = _mined_set(view if target.is_labelled else replace(view, baseline_C=np.full(len(view), np.nan)), vectors)
    if not target.is_labelled:
        alone = Shortcuts(tfidf=None, length_ratio=None, same_category=None)
        entry = entry.model_copy(update={"alone": alone, "same_category_negatives": None})
    return TargetSet(
        **dict(entry),
        is_labelled=target.is_labelled,
        without_category=int((~target.knows_category_T).sum()),
        outside_band=target.num_outside,
        matched_tfidf=target.shortcut,
    )


def _baseline_figures(view: View) -> BaselineFigures:
    score_C, is_positive_C = view.baseline_C, view.is_positive_C
    positive, negative = score_C[is_positive_C], score_C[~is_positive_C]
    return BaselineFigures(
        **known(figures(score_C, is_positive_C.astype(np.float64), is_graded=False)),
        positives_below_negatives=float(np.mean(positive < np.median(negative))),
        negatives_above_positives=float(np.mean(negative > np.median(positive))),
    )


def _warnings(report: MiningReport, config: MineConfig) -> Iterator[str]:
    yield from _setting_warnings(report, config)
    if report.labels == "categories":
        yield "the documents have no groups: pairs are labelled by category, and such labels are noisy"
    if report.training.pairs < 2 * (report.wanted // 2):
        yield f"the documents yield {report.training.pairs:,} pairs, {report.wanted:,} were asked for"
    alone = report.hardest.alone.tfidf
    # Few pairs correlate by chance. In the tier of the groups a correlation is meant: ranking alone learns from it.
    is_matched = next(iter(report.tiers), None) != "group"
    if is_matched and alone is not None and abs(alone) > max(SHORTCUT_LIMIT, 2 / math.sqrt(report.hardest.pairs)):
        yield f"TF-IDF alone reaches Spearman {alone:.3f} on the training pairs: a model can learn word overlap"
    yield from _held_out_warnings(report, config)
    if report.target:
        yield from _target_warnings(report, report.target, config)
    if report.not_sampled:
        yield f"pairs were mined from a sample of {report.sampled:,} of {report.documents:,} documents, over all groups"
    if report.categories == 1:
        yield "the documents have one category only: all pairs are of one category"
    for lacking in ("no group", "no category"):
        if num := report.dropped.get(lacking):
            yield f"{num:,} documents have {lacking} and were left out"
    if report.cut:
        yield f"{report.cut:,} texts were too long and were cut"
    yield from unknown_notes({name: entry.unknown_tokens for name, entry in report.shown_sets.items()})


def _setting_warnings(report: MiningReport, config: MineConfig) -> Iterator[str]:
    """Yield the settings that the strategy did not use, and what it used instead."""
    given, strategy = config.model_fields_set, config.strategy
    if strategy == "bands" and "band" in given:
        yield (
            "--band applied to the held-out sets only: strategy 'bands' takes positives with a TF-IDF cosine of "
            f"{_interval(config.positive_band)} (--positive-band) and negatives with one of "
            f"{_interval(config.negative_band)} (--negative-band)"
        )
    unused = [f"--{name.replace('_', '-')}" for name in ("positive_band", "negative_band") if name in given]
    if strategy != "bands" and unused:
        used = {
            "matched": f"takes both classes from one band, {_interval(report.band)} (--band, or the target's)",
            "curriculum": f"sets the bands of its first phases itself, and the last one's is {_interval(report.band)}",
        }
        yield f"{' and '.join(unused)} had no effect: strategy {strategy!r} {used[strategy]}"
    target_decides = report.target and report.have_category_relations and not report.target.without_category
    if "same_category" in given and strategy == "matched" and target_decides:
        yield "--same-category had no effect: the target states which pairs are of one category, and its share was used"


def _interval(band: Sequence[float]) -> str:
    return f"{band[0]:.3g}-{band[1]:.3g}"


def _held_out_warnings(report: MiningReport, config: MineConfig) -> Iterator[str]:
    """Yield the held-out sets that were asked for and are missing, or that do not follow the target."""
    missing = [name for name in ("dev-seen", "dev-unseen") if name not in report.sets]
    target = report.target
    target_is_dev_set = target and target.is_labelled and target.pairs + target.outside_band >= MIN_DEV_PAIRS
    if missing and config.dev_share is None and not target_is_dev_set:
        why = f"there are too few documents for {MIN_DEV_PAIRS} pairs, so all are trained on"
        yield f"no {' and no '.join(missing)}: {why}"
    for part, share in (("dev", config.dev_share), ("test", config.test_share)):
        for name in (f"{part}-seen", f"{part}-unseen") if share else ():
            if name in report.sets:
                continue
            split = report.split.get(name)
            why = f"there are too few {'documents' if name.endswith('-seen') else 'groups'}"
            if split:
                why = f"{split.documents:,} documents of {split.groups:,} groups yield no pairs of both classes"
            yield f"no {name} with --{part}-share {share:g}: {why}"
    for name in report.unlike_target:
        yield (
            f"{name} does not follow the target: its {report.split[name].documents:,} documents yield too few such "
            "pairs; its two classes are similar in words and length only"
        )


def _target_warnings(report: MiningReport, target: TargetSet, config: MineConfig) -> Iterator[str]:
    if config.strategy == "bands":
        yield "strategy 'bands' uses its own bands: the training pairs do not follow the target"
    elif report.tiers and "target" not in report.tiers:
        yield "the documents yield no pairs like the target's"
    elif not target.is_labelled:
        yield "the target has no labels: half of its pairs were guessed to be positive to follow its distribution"
    if target.matched_tfidf is not None and abs(target.matched_tfidf) > SHORTCUT_LIMIT:
        yield (
            f"the TF-IDF cosines that are matched reach Spearman {target.matched_tfidf:.3f} on the target: its pairs "
            "were weighted so that the mined ones have no such shortcut"
        )
    if target.without_category and report.have_category_relations:
        yield (
            f"{target.without_category:,} pairs of the target do not state if they are of one category: "
            "the configured share (--same-category) was used for them"
        )
    if target.outside_band:
        yield f"{target.outside_band:,} pairs of the target lie outside the band and were not followed"
    distance = max(report.match.distance.values(), default=0) if report.match else 0
    if config.strategy == "matched" and distance > DISTANCE_LIMIT:
        yield (
            f"{distance:.0%} of the pairs of a class that should follow the target differ from it in words, length, "
            "category or baseline score: the documents yield no more similar ones"
        )
