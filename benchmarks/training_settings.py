"""Compare training settings: rows that change one default each, and a peer, on the same mined pairs.

A stopped benchmark resumes from its results under --work. The figures go into docs/results.md, one section per corpus.
"""

import json
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import SIMILE, TESTS, end_with_children, evaluate, parser_of, run
from results_file import commit, entry_of, evaluations_table, machine, replace_section, table

from pipeline.presets import read_train_config
from simile.files import write_whole

DEV_SETS = ("dev-seen", "dev-unseen")
CORPORA = {"clinc150": 10_000, "newsgroups20": 2_000, "helpdesk": 10_000, "helpdesk-one-category": 10_000}
"""Mined pairs per corpus; `sample_corpus.py` writes the two corpora that are not given."""
GIVEN = ["clinc150", "newsgroups20"]
POSITIVES = {"clinc150": 7_000, "newsgroups20": 4_000, "helpdesk": 7_000, "helpdesk-one-category": 7_000}
"""Number of positive pairs that the peer trains on."""
PEER = "sentence-transformers"
COSENT = ("loss=cosent", "learning_rate=5e-5")
ROWS: Mapping[str, tuple[str, ...]] = {
    PEER: (),
    "CoSENT alone, 5e-5": COSENT,
    "default": (),
    "LoRA 32, 2e-4": ("method=lora", "learning_rate=2e-4"),
    "ranking alone": ("loss=ranking",),
    "CoSENT alone": ("loss=cosent",),
    "ranking + 0.05 CoSENT": ("loss={ranking: 1, cosent: 0.05}",),
    "AnglE for CoSENT": ("loss={ranking: 1, angle: 0.3}",),
    "focal for CoSENT": ("loss={ranking: 1, focal: 0.3}",),
    "online contrastive alone": ("loss=online-contrastive",),
    "cosine-MSE alone": ("loss=mse",),
    "5e-5": ("learning_rate=5e-5",),
    "2e-4": ("learning_rate=2e-4",),
    "one training over all pairs": ("most_pairs=null",),
    "shares of 4,000 pairs at most": ("most_pairs=4000",),
    "two epochs": ("epochs=2",),
    "ten epochs": ("epochs=10",),
}
COMPARED = "default"
"""The row that is also compared with the peer."""
ABOUT = """\
The peer is plain sentence-transformers: multiple negatives ranking on {positives} random positive pairs of the
documents' groups, all weights, learning rate 5e-5, one epoch (`benchmarks/st_train.py`). All other rows train the
preset `minilm`, with the change that the row names, on {pairs} pairs that match the difficulty of the corpus' `dev`;
{held_out} of the groups and of the other groups' documents are held out as dev-unseen and dev-seen. Each cell shows the
Spearman correlation of the bundle, the 95 % interval of its difference from the baseline (resampled by groups, on stsb
by texts), and the AUC. The table below shows the difference of the default from the peer in the same way. Minutes are
those of the training process."""


@dataclass(frozen=True, slots=True)
class Bench:
    """The settings and paths of one corpus."""

    data: Path
    work: Path
    corpus: str
    pairs: int
    max_length: int
    seed: int
    dev_share: float

    @property
    def folder(self) -> Path:
        """Folder of this corpus with these settings."""
        name = f"{self.pairs}-pairs-{self.max_length}-tokens-{self.dev_share}-held-out-seed-{self.seed}"
        return self.work / "training" / self.corpus / name

    @property
    def dev_sets(self) -> list[Path]:
        """The mined dev sets that exist."""
        return [self.mined(name) for name in DEV_SETS if self.mined(name).is_file()]

    @property
    def tests(self) -> list[Path]:
        """The corpus' test sets that exist."""
        return [path for name in TESTS if (path := self.given(name)).is_file()]

    @property
    def baseline(self) -> Path:
        """The untouched encoder as a bundle."""
        return self.folder / "baseline"

    @property
    def peer(self) -> Path:
        """The bundle that plain sentence-transformers trains."""
        return self.folder / "peer"

    def given(self, name: str) -> Path:
        """Return the file of this name in the corpus."""
        return self.data / self.corpus / f"{name}.jsonl.gz"

    def mined(self, name: str) -> Path:
        """Return the mined file of this name."""
        return self.folder / "mined" / f"{name}.jsonl"

    def result(self, row: str) -> Path:
        """Return the file of the row's result."""
        return self.folder / f"{row.replace(' ', '-').replace('/', '_')}.json"


def main() -> None:
    """Measure the rows without a result, and write the sections."""
    parser = parser_of(__doc__, CORPORA)
    parser.set_defaults(corpora=GIVEN)
    parser.add_argument("--rows", nargs="+", choices=tuple(ROWS), default=list(ROWS))
    parser.add_argument("--pairs", type=int, help="mined pairs (default: by corpus)")
    parser.add_argument(
        "--max-length",
        type=int,
        default=read_train_config("minilm").max_length,
        help="maximum length of a text in tokens",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--dev-share", type=float, default=0.05, help="share of groups and documents held out of training"
    )
    args = parser.parse_args()
    end_with_children()
    benches = [
        Bench(args.data, args.work, corpus, args.pairs or CORPORA[corpus], args.max_length, args.seed, args.dev_share)
        for corpus in args.corpora
    ]
    if not args.only_write:
        for row in args.rows:
            for bench in benches:
                measure(bench, row)
    for bench in benches:
        write_section(args.out, bench, shown(sys.argv[1:]))


def shown(arguments: Sequence[str]) -> str:
    """Return the arguments that affect the results."""
    words = [word for word in arguments if word != "--only-write"]
    for place in ("--data", "--work", "--out"):
        if place in words:
            at = words.index(place)
            words = words[:at] + words[at + 2 :]
    return shlex.join(words)


def measure(bench: Bench, row: str) -> None:
    """Train and evaluate the row unless it has a result; keep only the evaluation."""
    if bench.result(row).is_file():
        return
    held_out = [word for path in (bench.given("dev"), *bench.tests) for word in ("--held-out", path)]
    length = str(bench.max_length)
    if not bench.baseline.is_dir():
        run([*SIMILE, "baseline", "bundled:minilm", "--max-length", length, "--out", bench.baseline])
    if not bench.mined("pairs").is_file():
        target = ["--target", bench.given("dev"), *held_out[2:], "--baseline", bench.baseline]
        counts = ["--pairs", str(bench.pairs), "--dev-share", str(bench.dev_share), "--seed", str(bench.seed)]
        usage = run([*SIMILE, "mine", bench.given("corpus"), *target, *counts, "--out", bench.folder / "mined"])
        write_whole(bench.folder / "mined.seconds", f"{usage.seconds:.0f}\n")
    bundle = bench.peer if row == PEER else bench.folder / "bundle"
    if row == PEER:
        script = Path(__file__).with_name("st_train.py")
        counts = ["--positives", str(POSITIVES[bench.corpus]), "--seed", str(bench.seed), "--max-length", length]
        usage = run([sys.executable, script, bench.given("corpus"), *held_out, *counts, "--out", bundle])
    else:
        settings = [f"max_length={length}", f"seed={bench.seed}", *ROWS[row]]
        changes = [word for setting in settings for word in ("--set", setting)]
        devs = [word for path in bench.dev_sets for word in ("--dev", path)]
        train = [*SIMILE, "train", "minilm", "--pairs", bench.mined("pairs"), *devs, *changes]
        usage = run([*train, "--out", bundle, "--restart"])
    sets = [*bench.dev_sets, *bench.tests]
    evaluation = evaluate(bundle, sets, bench.baseline, bench.data, bench.folder / "evaluation.json")
    result = {"commit": commit(), "minutes": usage.seconds / 60, "evaluation": evaluation}
    if row == COMPARED and bench.peer.is_dir():
        result["against_peer"] = evaluate(bundle, bench.tests, bench.peer, bench.data, bench.folder / "evaluation.json")
    write_whole(bench.result(row), json.dumps(result, indent=2) + "\n")
    for path in bench.folder.glob("bundle*"):
        shutil.rmtree(path)


def write_section(path: Path, bench: Bench, arguments: str) -> None:
    """Write the corpus' section of the results."""
    rows = _results(bench)
    commits = {result["commit"] for result in rows.values()}
    seconds = bench.folder / "mined.seconds"
    parts = [
        f"Commit {', '.join(sorted(commits)) or 'none yet'}, on {machine()}:",
        f"```\n{' '.join(['python benchmarks/training_settings.py', arguments]).strip()}\n```",
        ABOUT.format(
            positives=f"{POSITIVES[bench.corpus]:,}", pairs=f"{bench.pairs:,}", held_out=f"{bench.dev_share:.0%}"
        ),
    ]
    if rows:
        parts += [f"### Training on {bench.corpus}", evaluations_table(rows)]
        parts += [_against_peer(against)] if (against := rows.get(COMPARED, {}).get("against_peer")) else []
        parts += [f"Mining took {seconds.read_text().strip()} seconds."] if seconds.is_file() else []
    replace_section(path, f"training-{bench.corpus}", "\n\n".join(parts))


def _results(bench: Bench) -> dict[str, dict[str, Any]]:
    return {row: json.loads(bench.result(row).read_text()) for row in ROWS if bench.result(row).is_file()}


def _against_peer(evaluation: Mapping[str, Any]) -> str:
    names = [*evaluation["sets"], *evaluation["guards"]]
    gains = [entry_of(evaluation, name)["difference"] for name in names]
    cells = [f"{gain['spearman']:+.4f} [{gain['low']:+.3f}, {gain['high']:+.3f}]" for gain in gains]
    return table([f"{COMPARED} less {PEER}", *names], [["", *cells]])


if __name__ == "__main__":
    main()
