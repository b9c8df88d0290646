"""Repeat the experiment that Simile was made for, with its encoder: all-mpnet-base-v2 (`make mpnet` installs it).

Easy pairs had made it worse on hard ones. Each row is a training of that time, the preset of today, or plain
sentence-transformers. A stopped benchmark resumes from its results in --results.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness import SIMILE, Corpus, end_with_children, evaluate, parser_of, run, train_peer
from results_file import evaluations_table, origin, replace_section, result_file, write_result

from pipeline.run_config import PHASES

CORPORA = ("clinc150", "dstc11", "helpdesk")
BASE, PRESET, PEER = "bundled:mpnet", "mpnet-bundled", "sentence-transformers"
LORA = ("method=lora", "learning_rate=2e-4", "epochs=1")
"""The settings of LoRA of rank 32; later ones replace them."""
WHOLE = "min_base_agreement=0"
"""The setting of the trainings of that time, which did not interpolate."""


@dataclass(frozen=True, slots=True)
class Row:
    """A training: the pairs it is given, and the settings that differ from the preset."""

    settings: tuple[str, ...] = ()
    pairs: int = 10_000
    strategy: str = "matched"


ROWS: Mapping[str, Row] = {
    PEER: Row(),
    "easy curriculum, 2-2-4 epochs, 5e-5": Row(
        (*LORA, "epochs=[2, 2, 4]", "learning_rate=5e-5", WHOLE), pairs=4_000, strategy="curriculum"
    ),
    "hard pairs only, 10 epochs, 1e-4": Row((*LORA, "epochs=10", "learning_rate=1e-4", WHOLE), pairs=4_000),
    "rank 64, 15 epochs, 2e-4": Row(
        (*LORA, "lora={rank: 64, alpha: 128, dropout: 0.05}", "epochs=15", WHOLE), pairs=4_000
    ),
    "all weights, 3 epochs, 2e-5": Row((WHOLE,)),
    "focal loss": Row((*LORA, "loss=focal", WHOLE)),
    "LoRA 32, one epoch, 2e-4, interpolated": Row((*LORA, "min_base_agreement=0.95")),
    "preset mpnet": Row(),
}
ABOUT = """\
All rows start from all-mpnet-base-v2. Where a row names ten or fifteen epochs or a curriculum, it has 4,000 pairs in
place of 10,000 and 20,000, which would take hours. All pairs but the curriculum's follow the corpus' `dev`, which is
also the dev set. Rows train LoRA of rank 32 for one epoch at 2e-4, unless their name says otherwise. The preset
(`min_base_agreement` 0.97) and the row that says so (0.95) interpolate. The preset trains all weights for three epochs
at 2e-5. The peer is plain sentence-transformers: multiple negatives ranking on 7,000 random positive pairs, all
weights, 5e-5, one epoch. One seed. Each cell shows the Spearman correlation, the 95 % interval of its difference from
the untouched encoder (resampled by groups, on stsb by texts), and the AUC. Minutes are those of the training."""


def main() -> None:
    """Measure the rows without a result, and write the sections."""
    parser = parser_of(__doc__, CORPORA)
    parser.add_argument("--rows", nargs="+", choices=tuple(ROWS), default=list(ROWS))
    args = parser.parse_args()
    end_with_children()
    for corpus in args.corpora:
        folder, results = (folder / "original-experiment" / corpus for folder in (args.work, args.results))
        if not args.only_write:
            for name in args.rows:
                measure(name, Corpus(args.data / corpus), folder, result_file(results, name))
        write_section(args.out, corpus, results)


def measure(name: str, corpus: Corpus, folder: Path, file: Path) -> None:
    """Train and evaluate the row unless it has a result; keep the result and the bundle.

    Args:
        name: name of the row.
        corpus: what is trained and tested on.
        folder: folder of the baseline, the mined pairs and the bundles.
        file: the file of the result.
    """
    if file.is_file():
        return
    row = ROWS[name]
    baseline, bundle = folder / "baseline", folder / file.stem
    if not baseline.is_dir():
        run([*SIMILE, "baseline", BASE, "--out", baseline])
    if name == PEER:
        usage = train_peer(corpus, bundle, "--base", BASE)
    else:
        mined = folder / f"{row.strategy}-{row.pairs}-pairs"
        corpus.mine(baseline, mined, "--strategy", row.strategy, "--pairs", str(row.pairs))
        names = PHASES if row.strategy == "curriculum" else ("pairs",)
        pairs = [word for name in names for word in ("--pairs", mined / f"{name}.jsonl")]
        changes = [word for setting in row.settings for word in ("--set", setting)]
        usage = run([*SIMILE, "train", PRESET, *pairs, "--dev", corpus.dev, *changes, "--out", bundle])
    evaluation = evaluate(bundle, corpus.tests, baseline, corpus.folder.parent, folder / "evaluation.json")
    write_result(file, {"minutes": usage.seconds / 60, "evaluation": evaluation})
    for path in folder.glob(f"{bundle.name}.*"):
        if path.is_dir():
            shutil.rmtree(path)


def bundle_of(name: str, corpus: Corpus, work: Path, results: Path) -> tuple[Path, float]:
    """Return the bundle of a row and the minutes of its training; measure the row if the bundle is absent."""
    part = f"original-experiment/{corpus.folder.name}"
    file = result_file(results / part, name)
    bundle = work / part / file.stem
    if not bundle.is_dir():
        file.unlink(missing_ok=True)
    measure(name, corpus, work / part, file)
    return bundle, json.loads(file.read_text())["minutes"]


def write_section(path: Path, corpus: str, results: Path) -> None:
    """Write the corpus' section of the results."""
    files = {name: result_file(results, name) for name in ROWS}
    rows = {name: json.loads(file.read_text()) for name, file in files.items() if file.is_file()}
    parts = [
        origin(rows.values()),
        f"```\npython benchmarks/original_experiment.py --corpora {corpus} --data DIR\n```",
        ABOUT,
    ]
    if rows:
        parts += [f"### all-mpnet-base-v2 on {corpus}", evaluations_table(rows)]
    replace_section(path, f"original-experiment-{corpus}", "\n\n".join(parts))


if __name__ == "__main__":
    main()
