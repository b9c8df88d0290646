"""`simile mine`: documents to pairs."""

import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from mining.config import MineConfig
from pipeline.options import ColumnOption, CommandOptions, TableOptions, named, parse_share, spelling, value
from pipeline.output import mined_table, print_lines, require_apart
from simile.artifacts import Document, MiningReport, PairSet, Shard, read_documents
from simile.errors import InputError
from simile.files import alone, require_writable, whole_directory, write_whole
from simile.hardware import usable_cores
from simile.progress import duration

if TYPE_CHECKING:
    from mining.corpus.gather import Corpus
    from mining.corpus.sketch import Sampling
    from pipeline.columns import Reading

_CHARACTERS_PER_TOKEN, _SECONDS_PER_TOKEN = 4, 1.3e-3
"""Characters of an English token, and the time that training MiniLM takes per token on one core of a server."""
_WRITTEN = r"report\.(json|html)|(pairs|phase[123]|triplets|(dev|test)-(seen|unseen))\.jsonl"


class MineFiles(CommandOptions):
    """The files that are mined from, and the folder that is written."""

    documents: Annotated[Path, named("DOCUMENTS")]
    """Documents to mine from: a file or a folder of JSONL, JSON, CSV, TSV or Parquet, also as ``.gz``, or ``-``; or a
    folder of sketches of them (``--sketch``)."""
    out: Annotated[Path, value("DIR")]
    """Folder that pairs, held-out sets and the report are written to."""
    target: Annotated[Path | None, value("PAIRS")] = None
    """Pairs whose difficulty the mined pairs should match; their texts are kept out of the mined pairs."""
    held_out: Annotated[tuple[Path, ...], value("PAIRS")] = ()
    """More pairs whose texts are kept out. May be repeated."""
    positives: Annotated[Path | None, value("PAIRS")] = None
    """Pairs known to mean the same, in place of the documents' groups."""
    baseline: Annotated[Path | None, value("BUNDLE")] = None
    """Encoder whose scores on the target are matched, and which finds false negatives."""


class Options(ColumnOption, MineConfig, MineFiles):
    """Options of `simile mine`: the files, and every setting of mining."""

    sketch: Annotated[str | None, value("I/N")] = None
    """Read the I-th of N parts of the documents only, and write what mining needs of it into the folder of sketches;
    that folder, once it holds all N, takes the place of the documents."""


_OF_SKETCHES = {"documents", "out", "sketch", "pairs", "seed", "positives", "column", *TableOptions.model_fields}
"""The options that a sketch depends on."""


def run(options: Options) -> int:
    """Mine the pairs and print the figures of each set, or write a sketch; return the exit code."""
    config = MineConfig(**options.model_dump(include=set(MineConfig.model_fields), exclude_unset=True))
    if options.sketch is not None:
        path = _sketch_to(options, config, _shard(options))
        print_lines(f"sketch    {path}")
        return 0
    report = mine_to(options, config, options)
    print_lines(*mined_table(report), *(f"note: {text}" for text in report.warnings))
    print_lines(f"training  {_expectation(report)}", f"report    {options.out / 'report.html'}")
    return 0


def _expectation(report: MiningReport) -> str:
    """Return the size of a training on the mined pairs: pairs by tier, groups, steps, and roughly its time."""
    from pipeline.presets import read_train_config
    from training.config import epochs_by_file

    pairs, preset = report.training.pairs, "minilm"
    config = read_train_config(preset)
    (epochs,) = epochs_by_file(config, [pairs])
    tokens_per_text = min(2 + report.training.characters / _CHARACTERS_PER_TOKEN, config.max_length or math.inf)
    seconds = 2 * pairs * epochs * tokens_per_text * _SECONDS_PER_TOKEN / (cores := usable_cores())
    tiers = ", ".join(f"{tier} {entry.pairs:,}" for tier, entry in report.tiers.items())
    of_tiers = f" ({tiers})" if tiers else ""
    steps = f"{epochs * math.ceil(pairs / config.batch_size):,} steps"
    return (
        f"{pairs:,} pairs{of_tiers} of {report.split['train'].groups:,} groups make {steps} with the preset {preset}: "
        f"roughly {duration(seconds)} on {cores} CPU cores"
    )


def _shard(options: Options) -> Shard:
    """Return the shard to sketch; refuse options that have no effect on it."""
    number, count = parse_share("--sketch", str(options.sketch))
    if others := sorted(options.model_fields_set - _OF_SKETCHES):
        flag = spelling(others[0], Options.model_fields[others[0]])
        raise InputError(f"{flag}: has no effect on a sketch, need it where pairs are mined from the sketches")
    return Shard(number, count)


def _sketch_to(options: Options, config: MineConfig, shard: Shard) -> Path:
    """Write the sketch of the shard into the folder, whole or not at all; return its path."""
    from mining.corpus.sketch_file import sketch_shard
    from pipeline.columns import columns_of, read, require_columns_of

    require_columns_of(options.columns, "documents", "pairs")
    require_apart([options.out], (options.documents, options.positives))
    sampling = _sampling(config, read(options.positives, options) if options.positives else None)
    columns = columns_of("documents", options)
    return sketch_shard(options.documents, shard, options.out, sampling, columns, options.reading)


def _sampling(config: MineConfig, positives: PairSet | None) -> "Sampling":
    from mining.corpus.sketch import Sampling

    if positives is None:
        return Sampling(config.max_documents, config.seed)
    # Imported here, because it takes longer than a sketch of a few documents.
    from mining.corpus.meaning import known_pairs

    return Sampling(config.max_documents, config.seed, known_pairs(positives).keys)


def mine_to(files: MineFiles, config: MineConfig, how: "Reading") -> MiningReport:
    """Write the pairs, the held-out sets and the report, whole or not at all; return the report."""
    require_apart([files.out], (files.documents, files.target, *files.held_out, files.positives, files.baseline))
    require_writable(files.out, directory=True)
    if files.out.exists() and not _is_ours(files.out):
        raise InputError(f"{files.out}: holds files that are no mined pairs, need a new or empty folder")
    with alone(files.out):
        return _mine_to(files, config, how)


def _mine_to(files: MineFiles, config: MineConfig, how: "Reading") -> MiningReport:
    from mining.corpus.gather import gather_sketches
    from mining.corpus.sketch_file import sketch_paths
    from mining.mine import mine, write_mined
    from mining.report.figures import describe
    from mining.report.page import to_page
    from pipeline.columns import columns_of, read, require_columns_of
    from simile.scoring import load

    require_columns_of(how.columns, "documents", "pairs")
    baseline = load(files.baseline) if files.baseline else None
    target = read(files.target, how) if files.target else None
    held_out = [text for path in files.held_out for pair in read(path, how).texts for text in pair]
    positives = read(files.positives, how) if files.positives else None
    documents: Iterable[Document] | Corpus = read_documents(files.documents, columns_of("documents", how), how.reading)
    if paths := sketch_paths(files.documents):
        documents = gather_sketches(paths, _sampling(config, positives))
    mined = mine(documents, config, target, held_out=held_out, positives=positives, baseline=baseline)
    report = describe(mined)
    with whole_directory(files.out) as folder:
        write_mined(mined, folder)
        write_whole(folder / "report.json", report.model_dump_json(indent=2) + "\n")
        write_whole(folder / "report.html", to_page(report, mined))
    return report


def _is_ours(out: Path) -> bool:
    """Return whether this is a folder that is empty, or holds only what mining writes."""
    if not out.is_dir():
        return False
    names = {path.name for path in out.iterdir()}
    return not names or ("report.json" in names and all(re.fullmatch(_WRITTEN, name) for name in names))
