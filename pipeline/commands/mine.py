"""`simile mine`: documents to pairs."""

from pathlib import Path
from typing import Annotated

from mining.config import MineConfig
from pipeline.options import ColumnOption, CommandOptions, positional, value
from pipeline.output import print_lines


class _Files(CommandOptions):
    documents: Annotated[Path, positional("DOCUMENTS")]
    """Documents to mine from: JSONL, JSON, CSV, TSV or Parquet, also compressed as ``.gz``."""
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


class Options(ColumnOption, MineConfig, _Files):
    """Options of `simile mine`: the files, and every setting of mining."""


def run(options: Options) -> int:
    """Mine the pairs and print the figures of each set; return the exit code."""
    from pipeline.columns import require_columns_of
    from pipeline.mine import MineInputs, mine_to
    from pipeline.table import mined_table
    from simile.scoring import load

    require_columns_of(options.columns, "documents", "pairs")
    config = MineConfig(**options.model_dump(include=set(MineConfig.model_fields), exclude_unset=True))
    report = mine_to(
        options.out,
        MineInputs(options.documents, options.columns, options.target, options.held_out, options.positives),
        config,
        load(options.baseline) if options.baseline else None,
    )
    print_lines(mined_table(report), *(f"note: {text}" for text in report.warnings))
    print_lines(f"report    {options.out / 'report.html'}")
    return 0
