"""Distil a tuned MPNet into MiniLM, and compare the student with the one that has no teacher (`make mpnet` first).

The teacher is the row "preset mpnet" of `original_experiment.py`. Where a corpus has unlabelled texts, the student is
trained with and without them. A stopped benchmark resumes from its results in --results.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import original_experiment
from harness import SIMILE, Corpus, end_with_children, evaluate, parser_of, run, train_peer
from results_file import evaluations_table, origin, replace_section, result_file, write_result

CORPORA = ("clinc150", "dstc11", "helpdesk")
PRESET, PEER, TEACHER = "minilm", "sentence-transformers", "the teacher"
STUDENTS: Mapping[str, bool] = {"distilled": True, "distilled without unlabelled texts": False}
"""Whether the student gets unlabelled texts, by the name of its row."""
ABOUT = """\
The student is MiniLM, trained by `simile distill` on the pairs of its own mining; the teacher is MPNet, tuned by its
preset. The first line is the default without a teacher: the preset `minilm` on the same pairs, with the same seed. Each
cell shows the Spearman correlation, the 95 % interval of its difference from that line (resampled by groups, on stsb by
texts), and the AUC. The peer is plain sentence-transformers on MiniLM. Minutes are those of the training."""
AGAINST_PEER = "Differences from the peer, by Spearman's correlation:"


def main() -> None:
    """Measure the rows without a result, and write the sections."""
    parser = parser_of(__doc__, CORPORA)
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="measure with seeds 0 to N-1 (default: 1)")
    args = parser.parse_args()
    end_with_children()
    for name in args.corpora:
        corpus, results = Corpus(args.data / name), args.results / "distillation" / name
        if not args.only_write:
            for seed in range(args.seeds):
                measure(corpus, seed, args.work, results / f"seed-{seed}")
        write_section(args.out, name, results)


def measure(corpus: Corpus, seed: int, work: Path, results: Path) -> None:
    """Train the bundles of a seed that have no result, and evaluate each against the default; keep the bundles."""
    default = train_default(corpus, seed, work)
    teacher, teacher_minutes = original_experiment.bundle_of("preset mpnet", corpus, work, results.parents[2])
    folder, peer = default.parent, default.with_name(PEER)

    def write_row(name: str, bundle: Path, minutes: float) -> None:
        data, file = corpus.folder.parent, folder / "evaluation.json"
        others = {"default": default} if name == PEER else {"default": default, "peer": peer}
        reports = {key: evaluate(bundle, corpus.tests, other, data, file) for key, other in others.items()}
        write_result(result_file(results, name), {"minutes": minutes, "evaluations": reports})

    if not result_file(results, PEER).is_file():
        shutil.rmtree(peer, ignore_errors=True)
        write_row(PEER, peer, train_peer(corpus, peer, "--seed", str(seed)).seconds / 60)
    if not result_file(results, TEACHER).is_file():
        write_row(TEACHER, teacher, teacher_minutes)
    for name, has_unlabelled in STUDENTS.items():
        if result_file(results, name).is_file() or (has_unlabelled and not corpus.unlabelled.is_file()):
            continue
        bundle = folder / result_file(results, name).stem
        unlabelled = ["--unlabelled", corpus.unlabelled] if has_unlabelled else []
        given = data_options(corpus, seed, work)
        usage = run([*SIMILE, "distill", teacher, "--into", PRESET, *given, *unlabelled, "--out", bundle])
        write_row(name, bundle, usage.seconds / 60)


def train_default(corpus: Corpus, seed: int, work: Path) -> Path:
    """Return the bundle without a teacher; mine and train if it is absent."""
    folder = work / "distillation" / corpus.folder.name
    untouched, bundle = folder / "untouched", folder / f"seed-{seed}" / "default"
    if not untouched.is_dir():
        run([*SIMILE, "baseline", "bundled:minilm", "--out", untouched])
    corpus.mine(untouched, folder / "mined", "--pairs", "10000")
    if not bundle.is_dir():
        run([*SIMILE, "train", PRESET, *data_options(corpus, seed, work), "--out", bundle])
    return bundle


def data_options(corpus: Corpus, seed: int, work: Path) -> list[str | Path]:
    """Return the options that the default and its distilled counterparts have in common."""
    mined = work / "distillation" / corpus.folder.name / "mined"
    return ["--pairs", mined / "pairs.jsonl", "--dev", corpus.dev, "--set", f"seed={seed}"]


def write_section(path: Path, corpus: str, results: Path) -> None:
    """Write the corpus' section of the results, with one table per seed."""
    seeds: dict[str, dict[str, Any]] = {}
    for folder in sorted(results.glob("seed-*")):
        files = {name: result_file(folder, name) for name in (PEER, TEACHER, *STUDENTS)}
        seeds[folder.name] = {name: json.loads(file.read_text()) for name, file in files.items() if file.is_file()}
    parts = [
        origin(row for rows in seeds.values() for row in rows.values()),
        f"```\npython benchmarks/distillation.py --corpora {corpus} --seeds {max(1, len(seeds))} --data DIR\n```",
        ABOUT,
    ]
    for seed, rows in seeds.items():
        parts += [f"### MPNet distilled into MiniLM on {corpus}, {seed.replace('-', ' ')}", table_of(rows, "default")]
        students = {name: row for name, row in rows.items() if name in STUDENTS}
        if students:
            parts += [AGAINST_PEER, table_of(students, "peer")]
    replace_section(path, f"distillation-{corpus}", "\n\n".join(parts))


def table_of(rows: Mapping[str, Any], against: str) -> str:
    """Return the table of the rows' evaluations against the default or the peer."""
    return evaluations_table(
        {name: {"minutes": row["minutes"], "evaluation": row["evaluations"][against]} for name, row in rows.items()}
    )


if __name__ == "__main__":
    main()
