"""Measure Simile on small corpora beside plain sentence-transformers, both with their defaults.

A point is a corpus that is cut to some documents per group, some groups, or one category, or that is replaced by some
labelled pairs of its documents. A stopped benchmark resumes: points with a result in --results are skipped. The figures
go into docs/results.md, the picture into its folder images.
"""

import json
import random
import shutil
import sys
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from harness import SIMILE, end_with_children, evaluate, place_parser, run, write_jsonl
from learning_curve_report import SETS, write_section
from results_file import write_result
from sample_corpus import SAMPLE, split_sample
from sklearn.feature_extraction.text import TfidfVectorizer

from simile.artifacts import read_training_history, work_folder
from simile.artifacts.reading import read_rows

CORPUS, DEV, PAIRS, TESTS = "corpus", "dev", "pairs", SETS[:2]
TIERS = ("target", "matched", "group")
"""Tiers of the mined pairs, in the order of their likeness to the target."""

Row = dict[str, Any]
Sets = dict[str, list[Row]]


@dataclass(frozen=True, slots=True)
class Point:
    """A corpus, and what is kept of it; None keeps everything."""

    corpus: str
    per_group: int | None = None
    """Maximum number of documents per group."""
    groups: int | None = None
    """Number of groups."""
    category: str | None = None
    pairs: int | None = None
    """Number of labelled pairs to train on in place of the documents, without a dev set."""


POINTS: Mapping[str, Point] = {
    **{f"clinc150-{num}-per-group": Point("clinc150", per_group=num) for num in (3, 6, 12, 25, 50, 100)},
    **{f"clinc150-{num}-groups": Point("clinc150", groups=num) for num in (10, 25, 50)},
    **{f"newsgroups20-{num}-per-group": Point("newsgroups20", per_group=num) for num in (6, 25)},
    "helpdesk": Point("helpdesk"),
    "helpdesk-delivery": Point("helpdesk", category="delivery"),
    "dstc11": Point("dstc11"),
    "sofmattress": Point("sofmattress"),
    "clinc150-2000-pairs": Point("clinc150", pairs=2_000),
    "dstc11-400-pairs": Point("dstc11", pairs=400),
}


def main() -> None:
    """Measure the points without a result, and write the section."""
    parser = place_parser(__doc__)
    parser.add_argument("--points", nargs="+", choices=tuple(POINTS), default=list(POINTS))
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="measure with seeds 0 to N-1 (default: 1)")
    parser.add_argument("--only-write", action="store_true", help="write the existing results without measuring")
    args = parser.parse_args()
    end_with_children()
    work, results = (folder / "learning-curve" for folder in (args.work, args.results))
    if not args.only_write:
        for seed in range(args.seeds):
            for name in args.points:
                measure(name, seed, args.data, work, results)
    write_section(args.out, results_of(results))


def results_of(results: Path) -> dict[str, list[Row]]:
    """Return the results of each point that has any, with one result per seed."""
    files = {name: sorted(results.glob(f"{name}-seed-*.json")) for name in POINTS}
    return {name: [json.loads(file.read_text()) for file in of_point] for name, of_point in files.items() if of_point}


def measure(name: str, seed: int, data: Path, work: Path, results: Path) -> None:
    """Train Simile and the peer on a point and evaluate both, unless there is a result; keep only the result."""
    point, folder = POINTS[name], work / f"{name}-seed-{seed}"
    file = results / f"{folder.name}.json"
    if file.is_file():
        return
    shutil.rmtree(folder, ignore_errors=True)
    sets = cut(load(point.corpus, data), point)
    for set_name, rows in sets.items():
        write_jsonl(folder / f"{set_name}.jsonl", rows)
    baseline = work / "baseline"
    if not baseline.is_dir():
        run([*SIMILE, "baseline", "bundled:minilm", "--out", baseline])
    seconds = train(folder, baseline, seed)
    tests = [path for test in TESTS if (path := folder / f"{test}.jsonl").is_file()]
    untouched, peer = (
        evaluate(folder / "tuned", tests, other, data, folder / "evaluation.json")
        for other in (baseline, folder / "peer")
    )
    losses = read_training_history(work_folder(folder / "tuned")).losses
    tiers = Counter(row.fields.get("tier") for row in read_rows(pairs_file(folder)))
    documents = sets.get(CORPUS, [])
    result = {
        "documents": len(documents),
        "groups": len({row["group"] for row in documents}),
        "tiers": {tier: tiers[tier] for tier in TIERS},
        "steps": losses[-1].step if losses else 0,
        "seconds": seconds,
        "sets": {
            set_name: {
                "pairs": entry["pairs"],
                "untouched": untouched[kind][set_name]["baseline"]["spearman"],
                "peer": entry["baseline"]["spearman"],
                "simile": entry["bundle"]["spearman"],
                "difference": entry["difference"],
            }
            for kind in ("sets", "guards")
            for set_name, entry in peer[kind].items()
        },
    }
    write_result(file, result)
    shutil.rmtree(folder)


def train(folder: Path, baseline: Path, seed: int) -> dict[str, float]:
    """Train Simile (``tuned``) and the peer (``peer``) on the sets in the folder; return the seconds of each command.

    README's commands have no option but paths and the seed. A dev set that the cut has left out is not given.
    """
    documents, dev, pairs = (folder / f"{name}.jsonl" for name in (CORPUS, DEV, PAIRS))
    tests = [word for name in TESTS if (path := folder / f"{name}.jsonl").is_file() for word in ("--held-out", path)]
    target, dev_set, dev_held_out = (
        [option, dev] if dev.is_file() else [] for option in ("--target", "--dev", "--held-out")
    )
    script = Path(__file__).with_name("st_train.py")
    mine = [*SIMILE, "mine", documents, *target, *tests, "--baseline", baseline, "--seed", str(seed)]
    tune = [*SIMILE, "train", "minilm", "--pairs", pairs_file(folder), *dev_set, "--set", f"seed={seed}"]
    source = ["--pairs", pairs] if pairs.is_file() else [documents, *dev_held_out, *tests]
    peer = [sys.executable, script, *source, "--seed", str(seed)]
    return {
        "mine": run([*mine, "--out", folder / "mined"]).seconds if documents.is_file() else 0.0,
        "train": run([*tune, "--out", folder / "tuned"]).seconds,
        "peer": run([*peer, "--out", folder / "peer"]).seconds,
    }


def pairs_file(folder: Path) -> Path:
    """Return the file of the pairs that Simile trains on."""
    given = folder / f"{PAIRS}.jsonl"
    return given if given.is_file() else folder / "mined" / "pairs.jsonl"


def load(corpus: str, data: Path) -> Sets:
    """Return the documents of a whole corpus and its held-out pairs, by the name of the file."""
    if corpus == "helpdesk":
        return split_sample([row.fields for row in read_rows(SAMPLE)])
    files = {name: data / corpus / f"{name}.jsonl.gz" for name in (CORPUS, DEV, *TESTS)}
    return {name: [row.fields for row in read_rows(file)] for name, file in files.items()}


def cut(sets: Mapping[str, Sequence[Row]], point: Point) -> Sets:
    """Return what the point keeps of a corpus: always the same documents, and a smaller cut is part of a larger one.

    If groups are cut, dev and test-seen keep the pairs whose two groups both remain. A set without pairs of both
    classes is left out.
    """
    if point.pairs:
        return {PAIRS: labelled(sets[CORPUS], point.pairs), **{name: list(sets[name]) for name in TESTS}}
    rng = random.Random(0)
    by_group: dict[str, list[Row]] = defaultdict(list)
    for row in rng.sample(sets[CORPUS], len(sets[CORPUS])):
        if point.category in (None, row["category"]):
            by_group[row["group"]].append(row)
    groups = rng.sample(sorted(by_group), len(by_group))[: point.groups]
    corpus = [row for group in groups for row in by_group[group][: point.per_group]]
    held_out = {name: list(sets[name]) for name in (DEV, *TESTS)}
    if point.groups or point.category:
        for name in (DEV, "test-seen"):
            held_out[name] = [row for row in held_out[name] if {row["group_a"], row["group_b"]} <= set(groups)]
    usable = {name: rows for name, rows in held_out.items() if len({row["label"] for row in rows}) == 2}
    return {CORPUS: corpus, **usable}


def labelled(documents: Sequence[Row], num: int) -> list[Row]:
    """Return pairs as people label them: a text beside another of its meaning, and beside one with similar words.

    Every text_a is in a positive pair, with a random document of its group, and in a negative one, with the document of
    another group that has the highest TF-IDF cosine. No other document is in two pairs.
    """
    rng = np.random.default_rng(0)
    tfidf = TfidfVectorizer(sublinear_tf=True).fit_transform([row["text"] for row in documents])
    group_D = np.array([row["group"] for row in documents])
    is_free_D = np.ones(len(documents), dtype=bool)
    pairs: list[Row] = []
    for anchor in rng.permutation(len(documents)):
        is_same_D = group_D == group_D[anchor]
        if len(pairs) >= num:
            break
        if not is_free_D[anchor] or (is_free_D & is_same_D).sum() < 2 or not (is_free_D & ~is_same_D).any():
            continue
        is_free_D[anchor] = False
        cosine_D = (tfidf @ tfidf[anchor].T).toarray().ravel()
        positive = rng.choice(np.flatnonzero(is_free_D & is_same_D))
        negative = np.where(is_free_D & ~is_same_D, cosine_D, -1.0).argmax()
        for partner, label in ((positive, 1), (negative, 0)):
            is_free_D[partner] = False
            pairs.append({"text_a": documents[anchor]["text"], "text_b": documents[partner]["text"], "label": label})
    if len(pairs) < num:
        raise ValueError(f"got {len(pairs)} pairs from {len(documents)} documents, need {num}")
    return pairs


if __name__ == "__main__":
    main()
