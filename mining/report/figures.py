"""What mining found, as figures (JSON).

Shape suffix: P = pairs.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mining.matching.target import SHORTCUT_LIMIT, Target
from mining.mine import Mined
from mining.report.comparison import View, proof, view_of, view_of_target
from simile.scoring.metrics import figures, known, spearman

DISTANCE_LIMIT = 0.1
"""Share of a class that may lie in other cells of the joint table than the target's does."""


def describe(mined: Mined, config: Mapping[str, Any], *, given: Collection[str] = ()) -> dict[str, Any]:
    """Return the figures of each set, of the target, of how like they are, and what there is to warn of.

    Args:
        mined: what there is to describe.
        config: every setting by its name.
        given: the settings that were chosen and not left as they are: those that were of no use are warned of.
    """
    views = {name: view_of(pairs, mined.vectors) for name, pairs in mined.sets.items()}
    report: dict[str, Any] = {
        **mined.facts,
        "config": dict(config),
        "sets": {name: _entry(view) for name, view in views.items()},
        "target": None,
        "match": None,
        "triplets": len(mined.triplets),
    }
    if mined.target:
        target = mined.target
        report["target"] = _target_entry(target) | {
            "is_labelled": target.is_labelled,
            "without_category": int((~target.knows_category_T).sum()),
            "outside_band": target.num_outside,
            "tfidf_alone": target.shortcut,
        }
        report["match"] = proof(views["pairs"], target, mined.vectors, seed=int(config.get("seed", 0)))
    return report | {"warnings": _warnings(report, given)}


def _entry(view: View) -> dict[str, Any]:
    label_P = view.is_positive_P.astype(np.float64)
    return {
        "pairs": len(view.pairs),
        "positives": int(view.is_positive_P.sum()),
        "texts": len({text for pair in view.pairs for text in (pair.text_a, pair.text_b)}),
        "same_category_negatives": _same_category_share(view),
        "alone": _shortcuts(view),
        "baseline": None
        if view.baseline_P is None
        else known(figures(view.baseline_P, label_P, is_graded=False)) | _crossed(view.baseline_P, view.is_positive_P),
    }


def _target_entry(target: Target) -> dict[str, Any]:
    """Return the target's figures; those of labels that are guessed, by the baseline itself, would be no findings."""
    entry = _entry(view_of_target(target))
    if not target.is_labelled:
        entry |= {"alone": dict.fromkeys(entry["alone"]), "baseline": None, "same_category_negatives": None}
    return entry


def _shortcuts(view: View) -> dict[str, float | None]:
    """Return the Spearman that each cheap feature reaches alone; None where it is constant."""
    features = {
        "tfidf": view.tfidf_P,
        "length_ratio": view.length_ratio_P,
        "same_category": view.is_same_category_P.astype(np.float64),
    }
    label_P = view.is_positive_P.astype(np.float64)
    return known({name: spearman(feature_P, label_P) for name, feature_P in features.items()})


def _crossed(score_P: NDArray[np.float64], is_positive_P: NDArray[np.bool_]) -> dict[str, float]:
    """Return the share of each class that the baseline places beyond the middle of the other one."""
    positive, negative = score_P[is_positive_P], score_P[~is_positive_P]
    return {
        "positives_below_negatives": float(np.mean(positive < np.median(negative))),
        "negatives_above_positives": float(np.mean(negative > np.median(positive))),
    }


def _same_category_share(view: View) -> float | None:
    named = [
        same
        for pair, same in zip(view.pairs, view.is_same_category_P.tolist(), strict=True)
        if pair.label == 0 and pair.same_category is not None
    ]
    return float(np.mean(named)) if named else None


def _warnings(report: Mapping[str, Any], given: Collection[str]) -> list[str]:
    return [
        *_of_settings(report, given),
        *_of_labels(report),
        *_of_pairs(report),
        *_of_held_out(report),
        *_of_target(report),
        *_of_documents(report),
    ]


def _of_settings(report: Mapping[str, Any], given: Collection[str]) -> list[str]:
    """Return which settings the recipe had no use for, and what it took instead."""
    found = []
    config, target = report["config"], report["target"]
    recipe = config.get("strategy")
    if recipe == "bands" and "band" in given:
        found.append(
            f"--band was followed by the held-out sets only: strategy 'bands' takes positives of TF-IDF cosine "
            f"{_stretch(config['positive_band'])} (--positive-band) and negatives of "
            f"{_stretch(config['negative_band'])} (--negative-band)"
        )
    unused = [f"--{name.replace('_', '-')}" for name in ("positive_band", "negative_band") if name in given]
    if recipe != "bands" and unused:
        bands = {
            "matched": f"takes both classes from one band, {_stretch(report['band'])} (--band, or the target's)",
            "curriculum": f"finds its first phases' bands itself, and the last one's is {_stretch(report['band'])}",
        }
        found.append(f"{' and '.join(unused)} had no effect: strategy {recipe!r} {bands[recipe]}")
    follows_kinds = target and _categories_say_kinds(report) and not target["without_category"]
    if "same_category" in given and recipe == "matched" and follows_kinds:
        found.append(
            "--same-category had no effect: the target says which of its pairs are, and its share was followed"
        )
    return found


def _categories_say_kinds(report: Mapping[str, Any]) -> bool:
    """Whether pairs may be of one category or not: there are categories, and they are no labels."""
    return bool(report["labels"] != "categories" and report["categories"] > 0)


def _stretch(band: Sequence[float]) -> str:
    return f"{band[0]:.3g}-{band[1]:.3g}"


def _of_labels(report: Mapping[str, Any]) -> list[str]:
    if report["labels"] == "categories":
        return ["the documents have no groups: pairs are labelled by category, and such labels are noisy"]
    return []


def _of_pairs(report: Mapping[str, Any]) -> list[str]:
    found = []
    pairs = report["sets"]["pairs"]
    if pairs["pairs"] < 2 * (report["wanted"] // 2):
        found.append(f"the documents give {pairs['pairs']:,} pairs, {report['wanted']:,} were wanted")
    alone = pairs["alone"]["tfidf"]
    if alone is not None and abs(alone) > SHORTCUT_LIMIT:
        found.append(f"TF-IDF alone reaches Spearman {alone:.3f} on the training pairs: a model can learn word overlap")
    return found


def _of_held_out(report: Mapping[str, Any]) -> list[str]:
    """Return which held-out sets were asked for and cannot be made, or not like the target."""
    found = []
    for part in ("dev", "test"):
        share = report["config"].get(f"{part}_share", 0)
        for name in (f"{part}-seen", f"{part}-unseen") if share else ():
            if name in report["sets"]:
                continue
            split = report["split"].get(name)
            why = "there are too few documents" if name.endswith("-seen") else "there are too few groups"
            if split:
                why = f"{split['documents']:,} documents of {split['groups']:,} groups give no pairs of both classes"
            found.append(f"no {name} with --{part}-share {share:g}: {why}")
    for name in report["unlike_target"]:
        documents = report["split"][name]["documents"]
        found.append(
            f"{name} does not follow the target: its {documents:,} documents give too few such pairs; "
            "its classes are alike in words and length only"
        )
    return found


def _of_target(report: Mapping[str, Any]) -> list[str]:
    target = report["target"]
    if target is None:
        return []
    found = []
    if report["config"].get("strategy") == "bands":
        found.append("strategy 'bands' has its own bands: the training pairs do not follow the target")
    elif not target["is_labelled"]:
        found.append("the target has no labels: they were guessed, half of each, to follow its joint distribution")
    if target["tfidf_alone"] is not None and abs(target["tfidf_alone"]) > SHORTCUT_LIMIT:
        found.append(
            f"TF-IDF alone reaches Spearman {target['tfidf_alone']:.3f} on the target: its pairs were weighted so that "
            "the mined ones have no such shortcut"
        )
    if target["without_category"] and _categories_say_kinds(report):
        found.append(
            f"{target['without_category']:,} pairs of the target do not say if they are of one category: "
            "the share of the config was taken"
        )
    if target["outside_band"]:
        found.append(f"{target['outside_band']:,} pairs of the target lie outside the band and were not followed")
    distance = max(report["match"]["distance"].values(), default=0)
    if report["config"].get("strategy") == "matched" and distance > DISTANCE_LIMIT:
        found.append(f"{distance:.0%} of a class lie in other cells than the target's: the documents give no more")
    return found


def _of_documents(report: Mapping[str, Any]) -> list[str]:
    found = []
    if report["not_sampled"]:
        found.append(
            f"{report['sampled']:,} of {report['documents']:,} documents were mined from: a sample over all groups"
        )
    if report["categories"] == 1:
        found.append("the documents have one category only: all pairs are of one category")
    for lacking in ("no group", "no category"):
        if num := report["dropped"].get(lacking):
            found.append(f"{num:,} documents have {lacking}: they were left out")
    if report["cut"]:
        found.append(f"{report['cut']:,} texts were too long and were cut")
    return found
