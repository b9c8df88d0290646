"""`simile labels correct`: a second file of pairs, with the labels that people gave to an audit's suspects."""

from pathlib import Path
from typing import Annotated

from pipeline.options import ColumnOption, named, value
from pipeline.output import print_lines, require_apart


class Options(ColumnOption):
    """Options of `simile labels correct`."""

    pairs: Annotated[Path, named("PAIRS")]
    """The labelled pairs that were audited; this file stays as it is."""
    corrections: Annotated[Path, named("CORRECTIONS")]
    """The answers of `simile label` to the audit's suspects."""
    out: Annotated[Path, value("FILE")]
    """File for all pairs with the corrected labels, as JSONL."""


def run(options: Options) -> int:
    """Write the corrected pairs, say how many labels were changed; return the exit code."""
    from labelling.answers import read_answers
    from labelling.corrections import correct
    from pipeline.columns import read_labelled, require_columns_of
    from simile.artifacts import write_pairs
    from simile.files import require_writable

    require_columns_of(options.columns, "pairs")
    require_apart([options.out], [options.pairs, options.corrections])
    require_writable(options.out)
    corrected = correct(read_labelled([options.pairs], options)[0], read_answers(options.corrections))
    write_pairs(options.out, corrected.pairs)
    unknown = f"; {corrected.num_unknown:,} answers are to pairs that this file lacks" if corrected.num_unknown else ""
    print_lines(
        f"{corrected.num_changed:,} labels changed, {corrected.num_confirmed:,} confirmed,"
        f" {corrected.num_undecided:,} kept because nobody decided{unknown}"
    )
    return 0
