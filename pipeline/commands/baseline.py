"""`simile baseline`: an untouched encoder as a bundle."""

from pathlib import Path
from typing import Annotated

from pipeline.options import ColumnOption, named, value
from pipeline.output import print_lines, require_apart


class Options(ColumnOption):
    """Options of `simile baseline`."""

    model: Annotated[str, named("MODEL")]
    """Name of an encoder on the hub (``NAME`` or ``NAME@REVISION``), a folder, ``bundled:minilm``,
    ``bundled:mpnet``, or ``lexical:DOCUMENTS`` for the TF-IDF cosine of a file's words."""
    out: Annotated[Path, value("BUNDLE")]
    """Where the bundle is written."""
    prompt: Annotated[str, value("TEXT")] = ""
    """Text that is put before every text."""
    prompt_a: Annotated[str | None, value("TEXT")] = None
    """Text that is put before the first texts of pairs, in place of ``--prompt``."""
    prompt_b: Annotated[str | None, value("TEXT")] = None
    """Text that is put before the second texts of pairs, in place of ``--prompt``."""
    max_length: Annotated[int | None, value("TOKENS")] = None
    """Tokens per text (default: the encoder's own limit)."""
    matryoshka: Annotated[tuple[int, ...], value("N", many=True)] = ()
    """Dimensions to which embeddings may be cut, for an encoder that was trained so."""


def run(options: Options) -> int:
    """Write the bundle and print its identity; return the exit code."""
    from pipeline.columns import require_columns_of
    from simile.artifacts.bundle import prompts_of
    from training.baseline import LEXICAL, make_baseline

    require_columns_of(options.columns, "documents")
    if options.model.startswith(LEXICAL):
        require_apart([options.out], [Path(options.model.removeprefix(LEXICAL))])
    bundle = make_baseline(
        options.model,
        options.out,
        prompts=prompts_of(options.prompt, options.prompt_a, options.prompt_b),
        max_length=options.max_length,
        matryoshka=options.matryoshka,
        columns=options.columns,
        reading=options.reading,
    )
    print_lines(bundle.identity)
    return 0
