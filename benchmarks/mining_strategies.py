"""Compare mining strategies: train alike on the pairs of each, and evaluate on the same held-out pairs.

A stopped benchmark resumes from its results under --work. The figures go into docs/results.md.
"""

import argparse
import json
import random
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import SIMILE, TESTS, end_with_children, evaluate, parser_of, run, write_jsonl
from mining_strategies_report import SAMPLE_SIZE, Measured, write_section
from results_file import commit

from pipeline.presets import read_train_config
from simile.artifacts.reading import read_rows
from simile.files import whole_directory, write_whole

Command = list[str | Path]

ST = "sentence-transformers"


@dataclass(frozen=True, slots=True)
class Corpus:
    """The settings of a corpus; the command line may change the first two."""

    pairs: int
    seeds: int
    positive_band: tuple[str, str]
    negative_band: tuple[str, str]


@dataclass(frozen=True, slots=True)
class Strategy:
    """The miner, and the mined files in the order in which they are trained on."""

    miner: str
    files: tuple[str, ...] = ("pairs",)


CORPORA = {
    "clinc150": Corpus(10_000, 3, ("0.30", "0.50"), ("0.20", "0.45")),
    "newsgroups20": Corpus(2_000, 1, ("0.14", "0.30"), ("0.10", "0.28")),
}
STRATEGIES = {
    "matched": Strategy("matched"),
    "bands": Strategy("bands"),
    "curriculum 1-2-3": Strategy("curriculum", ("phase1", "phase2", "phase3")),
    "curriculum 3-2-1": Strategy("curriculum", ("phase3", "phase2", "phase1")),
    ST: Strategy(ST),
}


@dataclass(frozen=True, slots=True)
class Bench:
    """The folders, and the training settings beside the preset."""

    data: Path
    work: Path
    settings: tuple[str, ...]

    @property
    def baseline(self) -> Path:
        """Bundle of the untouched encoder with the trained one's maximum length."""
        return self.work / f"baseline-{self.max_length}"

    @property
    def max_length(self) -> str:
        """Maximum length of a text in tokens, by the settings or the preset."""
        return str(read_train_config("minilm", self.settings).max_length)


@dataclass(frozen=True, slots=True)
class Run:
    """One strategy on one corpus with one seed, and the paths of its results."""

    corpus: str
    strategy: str
    pairs: int
    seed: int
    bench: Bench

    @property
    def folder(self) -> Path:
        """Folder of this corpus, number of pairs and seed."""
        return self.bench.work / self.corpus / f"{self.pairs}-pairs" / f"seed-{self.seed}"

    @property
    def mined(self) -> Path:
        """Folder of the mined pairs and the report on mining; both curricula share one."""
        return self.folder / "mined" / STRATEGIES[self.strategy].miner

    @property
    def result(self) -> Path:
        """File of the evaluation, one per training settings."""
        return self.folder / f"{self._name}.json"

    @property
    def training(self) -> Path:
        """Folder of the bundles until they are evaluated."""
        return self.folder / "training" / self._name

    @property
    def _name(self) -> str:
        return ",".join([self.strategy.replace(" ", "-"), *self.bench.settings]).replace("/", "_")

    def data(self, name: str) -> Path:
        """Return the file of this name in the corpus."""
        return self.bench.data / self.corpus / f"{name}.jsonl.gz"


def main() -> None:
    """Measure the runs without a result, and write the section."""
    args = _arguments()
    end_with_children()
    bench = Bench(args.data, args.work / "mining-strategies", tuple(args.set))
    pairs = {name: corpus.pairs for name, corpus in CORPORA.items()} | dict(args.pairs)
    seeds = {name: corpus.seeds for name, corpus in CORPORA.items()} | dict(args.seeds)
    runs = [
        Run(corpus, strategy, num, seed, bench)
        for corpus in args.corpora
        # All strategies of a seed come before the next seed, so that a stopped benchmark has something to compare.
        for seed in range(seeds[corpus])
        for strategy, num in _strategies_of(corpus, pairs)
        if strategy in args.strategies
    ]
    if not args.only_write:
        for one in runs:
            measure(one)
    measured = [described(one, pairs) for one in runs]
    command = ["--corpora", *args.corpora]
    for option in ("seeds", "pairs"):
        given = getattr(args, option)
        command += [f"--{option}", *(f"{name}={num}" for name, num in given)] if given else []
    command += [word for setting in args.set for word in ("--set", setting)]
    write_section(args.out, command, measured)


def _arguments() -> argparse.Namespace:
    parser = parser_of(__doc__, CORPORA)
    parser.add_argument("--strategies", nargs="+", choices=tuple(STRATEGIES), default=list(STRATEGIES))
    parser.add_argument("--seeds", nargs="+", type=_named_number, default=[], metavar="CORPUS=N", help="seeds 0 to N-1")
    parser.add_argument(
        "--pairs",
        nargs="+",
        type=_named_number,
        default=[],
        metavar="CORPUS[/STRATEGY]=N",
        help="training pairs; with a strategy (clinc150/bands=20000) for an additional run",
    )
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="passed on to `simile train`")
    return parser.parse_args()


def _named_number(argument: str) -> tuple[str, int]:
    name, _, number = argument.partition("=")
    corpus, _, strategy = name.partition("/")
    if corpus not in CORPORA or strategy not in ("", *STRATEGIES) or not number.isdecimal():
        raise argparse.ArgumentTypeError(f"got {argument!r}, need e.g. clinc150=3")
    return name, int(number)


def _strategies_of(corpus: str, pairs: Mapping[str, int]) -> list[tuple[str, int]]:
    """Return each strategy with the corpus' number of pairs, then those with a number of their own."""
    own = [(strategy, pairs[f"{corpus}/{strategy}"]) for strategy in STRATEGIES if f"{corpus}/{strategy}" in pairs]
    return [(strategy, pairs[corpus]) for strategy in STRATEGIES] + own


def measure(one: Run) -> None:
    """Mine, train and evaluate unless there are results; keep only the evaluation."""
    if one.result.is_file():
        return
    if not one.bench.baseline.is_dir():
        length = one.bench.max_length
        run([*SIMILE, "baseline", "bundled:minilm", "--max-length", length, "--out", one.bench.baseline])
    if not one.mined.is_dir():
        mine(one)
    bundle, tests = train(one), [one.data(name) for name in TESTS]
    evaluation = evaluate(bundle, tests, one.bench.baseline, one.bench.data, one.training / "evaluation.json")
    write_whole(one.result, json.dumps({"commit": commit(), "evaluation": evaluation}, indent=2) + "\n")
    shutil.rmtree(one.training)


def mine(one: Run) -> None:
    """Mine, and write a report on the time and the difficulty of the pairs."""
    with whole_directory(one.mined) as folder:
        usage = run([*_miner(one), "--out", folder / "mined"])
        report = {"commit": commit(), "seconds": usage.seconds, "files": difficulty(one, folder)}
        if STRATEGIES[one.strategy].miner == ST:
            report["negatives"] = json.loads((folder / "mined" / "report.json").read_text())
        write_whole(folder / "mining.json", json.dumps(report, indent=2) + "\n")


def _miner(one: Run) -> Command:
    """Return the mining command without its output folder; all miners keep out the texts of dev and test pairs."""
    miner, corpus = STRATEGIES[one.strategy].miner, CORPORA[one.corpus]
    tests: Command = [word for name in TESTS for word in ("--held-out", one.data(name))]
    common: Command = [one.data("corpus"), *tests, "--pairs", str(one.pairs), "--seed", str(one.seed)]
    if miner == ST:
        own: Command = ["--held-out", one.data("dev"), "--max-length", one.bench.max_length]
        return [sys.executable, Path(__file__).with_name("st_mine.py"), *common, *own]
    # No dev set is used here, since sentence-transformers trains on every document too.
    common += ["--target", one.data("dev"), "--strategy", miner, "--baseline", one.bench.baseline, "--dev-share", "0"]
    if miner == "bands":
        common += ["--positive-band", *corpus.positive_band, "--negative-band", *corpus.negative_band]
    return [*SIMILE, "mine", *common]


def difficulty(one: Run, folder: Path) -> dict[str, dict[str, Any]]:
    """Return each mined file's number of pairs, and the baseline's and TF-IDF's figures on a sample."""
    samples = folder / "samples"
    samples.mkdir()
    names = sorted(STRATEGIES[one.strategy].files)
    counts = {name: _sample(folder / "mined" / f"{name}.jsonl", samples / f"{name}.jsonl") for name in names}
    file = samples / "evaluation.json"
    run([*SIMILE, "evaluate", one.bench.baseline, *(samples / f"{name}.jsonl" for name in names), "--json", file])
    sets = json.loads(file.read_text())["sets"]
    shutil.rmtree(samples)
    return {
        name: {"pairs": counts[name], "baseline": sets[name]["bundle"], "tfidf": sets[name]["lexical"]["spearman"]}
        for name in names
    }


def _sample(pairs: Path, out: Path) -> int:
    """Write a sample of the pairs; return the total number of pairs."""
    rows = [row.fields for row in read_rows(pairs)]
    write_jsonl(out, random.Random(0).sample(rows, min(SAMPLE_SIZE, len(rows))))
    return len(rows)


def train(one: Run) -> Path:
    """Train on the mined files in turn, each from the weights of the previous one; return the last bundle."""
    base: Sequence[str] = ()
    bundle = Path()
    for name in STRATEGIES[one.strategy].files:
        bundle = one.training / name
        pairs = one.mined / "mined" / f"{name}.jsonl"
        settings = [word for setting in (f"seed={one.seed}", *one.bench.settings, *base) for word in ("--set", setting)]
        # A killed training resumes, and a finished one is kept.
        run([*SIMILE, "train", "minilm", "--pairs", pairs, "--out", bundle, *settings])
        base = [f"base={bundle}.weights/minilm"]
    return bundle


def described(one: Run, pairs: Mapping[str, int]) -> Measured:
    """Return the results of mining and evaluation, where they exist, with their labels in the tables."""
    num = "" if one.pairs == pairs[one.corpus] else f", {one.pairs:,} pairs"
    mining, result = (
        json.loads(file.read_text()) if file.is_file() else None for file in (one.mined / "mining.json", one.result)
    )
    return Measured(one.corpus, one.strategy + num, STRATEGIES[one.strategy].miner + num, one.seed, mining, result)


if __name__ == "__main__":
    main()
