"""Join tuned encoders, an untouched one and TF-IDF, with equal and with learned weights (`make mpnet` first).

The encoders are those of `original_experiment.py` and `distillation.py`, which are trained if they are absent. A
stopped benchmark resumes from its results in --results.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import distillation
import original_experiment
from harness import SIMILE, Corpus, end_with_children, evaluate, parser_of, run
from results_file import evaluations_table, origin, replace_section, result_file, table, write_result

CORPORA = ("clinc150", "dstc11")
LORA, FULL, MINILM = "MPNet, LoRA", "MPNet, all weights", "MiniLM"
UNTOUCHED, WORDS = "MPNet, untouched", "TF-IDF"
SINGLE = FULL
"""The member that all rows are compared with."""


@dataclass(frozen=True, slots=True)
class Row:
    """A bundle: its members, and the pairs that their weights are learned on."""

    members: Sequence[str]
    fit: str | None = None
    """The name of the file; None for equal weights."""


ALL = (FULL, LORA, MINILM, UNTOUCHED, WORDS)
ROWS: Mapping[str, Row] = {
    **{name: Row([name]) for name in ALL if name != SINGLE},
    "mean of the tuned encoders": Row([FULL, LORA, MINILM]),
    "learned on dev": Row(ALL, "dev"),
    "learned on dev-bands": Row(ALL, "dev-bands"),
    "one encoder and TF-IDF, learned on dev-bands": Row([SINGLE, WORDS], "dev-bands"),
}
ABOUT = """\
The tuned encoders are MPNet by its preset (all weights), MPNet by LoRA (rank 32, one epoch), and MiniLM by its preset.
The first line is the first of them alone, and each cell shows the Spearman correlation, the 95 % interval of its
difference from that line (resampled by groups, on stsb by texts), and the AUC. Learned weights come from `simile join
--fit` on the dev set that the row names, with the untouched encoder and TF-IDF among the members."""


def main() -> None:
    """Measure the rows without a result, and write the sections."""
    args = parser_of(__doc__, CORPORA).parse_args()
    end_with_children()
    for name in args.corpora:
        results = args.results / "ensembles" / name
        if not args.only_write:
            measure(Corpus(args.data / name), args.work, args.results, results)
        write_section(args.out, name, results)


def measure(corpus: Corpus, work: Path, all_results: Path, results: Path) -> None:
    """Evaluate the rows without a result against the single encoder."""
    rows = {name: row for name, row in ROWS.items() if not result_file(results, name).is_file()}
    if not rows:
        return
    folder = work / "ensembles" / corpus.folder.name
    members = train_members(corpus, work, all_results, folder)
    for name, row in rows.items():
        paths, weights = [members[member] for member in row.members], {}
        bundle = paths[0]
        if len(paths) > 1:
            bundle = folder / result_file(results, name).stem
            fit = ["--fit", corpus.folder / f"{row.fit}.jsonl.gz"] if row.fit else []
            if not bundle.is_dir():
                run([*SIMILE, "join", *paths, *fit, "--out", bundle])
            manifest = json.loads((bundle / "manifest.json").read_text())
            weights = manifest["combine"]["weights"]
        data, file = corpus.folder.parent, folder / "evaluation.json"
        evaluation = evaluate(bundle, corpus.tests, members[SINGLE], data, file)
        write_result(result_file(results, name), {"weights": weights, "evaluation": evaluation})


def train_members(corpus: Corpus, work: Path, results: Path, folder: Path) -> dict[str, Path]:
    """Return the bundle of each member by its name; train those that are absent."""
    experiment = work / "original-experiment" / corpus.folder.name
    trained = {FULL: "preset mpnet", LORA: "LoRA 32, one epoch, 2e-4, interpolated"}
    bundles = {
        member: original_experiment.bundle_of(name, corpus, work, results)[0] for member, name in trained.items()
    }
    words = folder / "words"
    if not words.is_dir():
        run([*SIMILE, "baseline", f"lexical:{corpus.documents}", "--out", words])
    default = distillation.train_default(corpus, 0, work)
    return {**bundles, MINILM: default, UNTOUCHED: experiment / "baseline", WORDS: words}


def write_section(path: Path, corpus: str, results: Path) -> None:
    """Write the corpus' section of the results."""
    files = {name: result_file(results, name) for name in ROWS}
    rows = {name: json.loads(file.read_text()) for name, file in files.items() if file.is_file()}
    parts = [origin(rows.values()), f"```\npython benchmarks/ensembles.py --corpora {corpus} --data DIR\n```", ABOUT]
    if rows:
        parts += [f"### Ensembles on {corpus}", evaluations_table(rows, SINGLE)]
        learned = [
            [name, ", ".join(f"{weight:.2f} {member}" for member, weight in row["weights"].items())]
            for name, row in rows.items()
            if ROWS[name].fit
        ]
        parts += ["The learned weights:", table(["ensemble", "weights of the members that are left"], learned)]
    replace_section(path, f"ensembles-{corpus}", "\n\n".join(parts))


if __name__ == "__main__":
    main()
