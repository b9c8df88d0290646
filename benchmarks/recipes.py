"""Does the recipe of mining matter? The same training on pairs mined by each recipe, judged on the same held-out pairs.

Goes on where it was stopped: what is done already under --work is not done again. The figures go into docs/results.md.
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

from harness import SIMILE, TESTS, commit, end_with_children, evaluate, parser_of, run, write_jsonl
from recipes_report import MEASURED, Measured, write_section
from sklearn.feature_extraction.text import TfidfVectorizer

from pipeline.presets import read_train_config
from simile.artifacts.reading import read_rows
from simile.files import whole_directory, write_whole

Command = list[str | Path]

ST = "sentence-transformers"


@dataclass(frozen=True, slots=True)
class Corpus:
    """What is asked of a corpus; the command line may say otherwise of the first two."""

    pairs: int
    seeds: int
    positive_band: tuple[str, str]
    negative_band: tuple[str, str]


@dataclass(frozen=True, slots=True)
class Recipe:
    """Who mines, and the mined files in the order in which they are trained on."""

    miner: str
    files: tuple[str, ...] = ("pairs",)


CORPORA = {
    "clinc150": Corpus(10_000, 3, ("0.30", "0.50"), ("0.20", "0.45")),
    "newsgroups20": Corpus(2_000, 1, ("0.14", "0.30"), ("0.10", "0.28")),
}
RECIPES = {
    "matched": Recipe("matched"),
    "bands": Recipe("bands"),
    "curriculum 1-2-3": Recipe("curriculum", ("phase1", "phase2", "phase3")),
    "curriculum 3-2-1": Recipe("curriculum", ("phase3", "phase2", "phase1")),
    ST: Recipe(ST),
}


@dataclass(frozen=True, slots=True)
class Bench:
    """Where everything lies, and what training is told beside its preset."""

    data: Path
    work: Path
    settings: tuple[str, ...]

    @property
    def baseline(self) -> Path:
        """The untouched encoder as a bundle, which reads as much of a text as the trained one."""
        return self.work / f"baseline-{self.max_length}"

    @property
    def max_length(self) -> str:
        """Tokens of a text: the preset's, where the settings say nothing else."""
        return str(read_train_config("minilm", self.settings).max_length)


@dataclass(frozen=True, slots=True)
class Run:
    """One recipe on one corpus with one seed, and where it keeps what it finds."""

    corpus: str
    recipe: str
    pairs: int
    seed: int
    bench: Bench

    @property
    def folder(self) -> Path:
        """Of this corpus, number of pairs, and seed."""
        return self.bench.work / self.corpus / f"{self.pairs}-pairs" / f"seed-{self.seed}"

    @property
    def mined(self) -> Path:
        """Folder of the mined pairs and what mining took; both curricula share one."""
        return self.folder / "mined" / RECIPES[self.recipe].miner

    @property
    def result(self) -> Path:
        """File of the evaluation; other settings of training make another."""
        return self.folder / f"{self._name}.json"

    @property
    def training(self) -> Path:
        """Folder of the bundles, until they are evaluated."""
        return self.folder / "training" / self._name

    @property
    def _name(self) -> str:
        return ",".join([self.recipe.replace(" ", "-"), *self.bench.settings]).replace("/", "_")

    def data(self, name: str) -> Path:
        """Return the file of the corpus that has this name."""
        return self.bench.data / self.corpus / f"{name}.jsonl.gz"


def main() -> None:
    """Measure what is not measured yet, and write the section."""
    args = _arguments()
    end_with_children()
    bench = Bench(args.data, args.work / "recipes", tuple(args.set))
    pairs = {name: corpus.pairs for name, corpus in CORPORA.items()} | dict(args.pairs)
    seeds = {name: corpus.seeds for name, corpus in CORPORA.items()} | dict(args.seeds)
    runs = [
        Run(corpus, recipe, num, seed, bench)
        for corpus in args.corpora
        # All recipes of one seed before the next seed: stopped early, there is something to compare.
        for seed in range(seeds[corpus])
        for recipe, num in _recipes_of(corpus, pairs)
        if recipe in args.recipes
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
    parser.add_argument("--recipes", nargs="+", choices=tuple(RECIPES), default=list(RECIPES))
    parser.add_argument("--seeds", nargs="+", type=_named_number, default=[], metavar="CORPUS=N", help="seeds 0 to N-1")
    parser.add_argument(
        "--pairs",
        nargs="+",
        type=_named_number,
        default=[],
        metavar="CORPUS[/RECIPE]=N",
        help="training pairs; with a recipe (clinc150/bands=20000) in a run beside the others",
    )
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="passed on to `simile train`")
    return parser.parse_args()


def _named_number(argument: str) -> tuple[str, int]:
    name, _, number = argument.partition("=")
    corpus, _, recipe = name.partition("/")
    if corpus not in CORPORA or recipe not in ("", *RECIPES) or not number.isdecimal():
        raise argparse.ArgumentTypeError(f"got {argument!r}, need e.g. clinc150=3")
    return name, int(number)


def _recipes_of(corpus: str, pairs: Mapping[str, int]) -> list[tuple[str, int]]:
    """Return each recipe with the corpus's number of pairs, then those with a number of their own."""
    own = [(recipe, pairs[f"{corpus}/{recipe}"]) for recipe in RECIPES if f"{corpus}/{recipe}" in pairs]
    return [(recipe, pairs[corpus]) for recipe in RECIPES] + own


def measure(one: Run) -> None:
    """Mine, train and evaluate, as far as that is not done yet; keep the evaluation only."""
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
    """Mine, time it, and measure how hard the pairs are."""
    with whole_directory(one.mined) as folder:
        usage = run([*_miner(one), "--out", folder / "mined"])
        report = {"commit": commit(), "seconds": usage.seconds, "files": difficulty(one, folder)}
        if RECIPES[one.recipe].miner == ST:
            report["negatives"] = json.loads((folder / "mined" / "report.json").read_text())
        write_whole(folder / "mining.json", json.dumps(report, indent=2) + "\n")


def _miner(one: Run) -> Command:
    """Return the command that mines, but for where to; texts of the dev and test pairs are kept out by all."""
    miner, corpus = RECIPES[one.recipe].miner, CORPORA[one.corpus]
    tests: Command = [word for name in TESTS for word in ("--held-out", one.data(name))]
    common: Command = [one.data("corpus"), *tests, "--pairs", str(one.pairs), "--seed", str(one.seed)]
    if miner == ST:
        own: Command = ["--held-out", one.data("dev"), "--max-length", one.bench.max_length]
        return [sys.executable, Path(__file__).with_name("st_mine.py"), *common, *own]
    # No dev set is used here, and the other side trains on every document too.
    common += ["--target", one.data("dev"), "--recipe", miner, "--baseline", one.bench.baseline, "--dev-share", "0"]
    if miner == "bands":
        common += ["--positive-band", *corpus.positive_band, "--negative-band", *corpus.negative_band]
    return [*SIMILE, "mine", *common]


def difficulty(one: Run, folder: Path) -> dict[str, dict[str, Any]]:
    """Return of each mined file how many pairs it has, and how the baseline and TF-IDF order a sample of them."""
    samples = folder / "samples"
    samples.mkdir()
    # TF-IDF of the whole corpus for every recipe, as the test pairs' own is.
    vectorizer = TfidfVectorizer(sublinear_tf=True).fit([row.fields["text"] for row in read_rows(one.data("corpus"))])
    names = sorted(RECIPES[one.recipe].files)
    counts = {
        name: _sample(folder / "mined" / f"{name}.jsonl", samples / f"{name}.jsonl", vectorizer) for name in names
    }
    file = samples / "evaluation.json"
    run([*SIMILE, "evaluate", one.bench.baseline, *(samples / f"{name}.jsonl" for name in names), "--json", file])
    sets = json.loads(file.read_text())["sets"]
    shutil.rmtree(samples)
    return {
        name: {"pairs": counts[name], "baseline": sets[name]["bundle"], "tfidf": sets[name]["lexical"]["spearman"]}
        for name in names
    }


def _sample(pairs: Path, out: Path, vectorizer: TfidfVectorizer) -> int:
    """Write a sample of the pairs with their TF-IDF cosines; return how many pairs there are in all."""
    rows = [row.fields for row in read_rows(pairs)]
    chosen = random.Random(0).sample(rows, min(MEASURED, len(rows)))
    a_PW, b_PW = (vectorizer.transform([row[side] for row in chosen]) for side in ("text_a", "text_b"))
    tfidf_P = a_PW.multiply(b_PW).sum(axis=1).A1
    write_jsonl(out, ({**row, "tfidf": float(tfidf)} for row, tfidf in zip(chosen, tfidf_P, strict=True)))
    return len(rows)


def train(one: Run) -> Path:
    """Return the bundle that was trained on the mined files, one after the other, each from the weights of the last."""
    base: Sequence[str] = ()
    bundle = Path()
    for name in RECIPES[one.recipe].files:
        bundle = one.training / name
        pairs = one.mined / "mined" / f"{name}.jsonl"
        settings = [word for setting in (f"seed={one.seed}", *one.bench.settings, *base) for word in ("--set", setting)]
        # A training that was killed goes on, and one that is finished stays as it is.
        run([*SIMILE, "train", "minilm", "--pairs", pairs, "--out", bundle, *settings])
        base = [f"base={bundle}.weights/minilm"]
    return bundle


def described(one: Run, pairs: Mapping[str, int]) -> Measured:
    """Return what mining and the evaluation found, as far as they are done, and what the tables call it."""
    num = "" if one.pairs == pairs[one.corpus] else f", {one.pairs:,} pairs"
    mining, result = (
        json.loads(file.read_text()) if file.is_file() else None for file in (one.mined / "mining.json", one.result)
    )
    return Measured(one.corpus, one.recipe + num, RECIPES[one.recipe].miner + num, one.seed, mining, result)


if __name__ == "__main__":
    main()
