"""`simile score`: scores of two texts or of a file of pairs, and probabilities where the bundle is calibrated."""

import json
from pathlib import Path
from typing import Annotated

from pipeline.options import ColumnOption, PriorOption, RuntimeOptions, positional, value
from pipeline.output import print_lines, require_no_folder
from simile.errors import InputError


class Options(RuntimeOptions, PriorOption, ColumnOption):
    """Options of `simile score`."""

    bundle: Annotated[str | None, positional("BUNDLE")] = None
    """A bundle; with ``--url`` there is none."""
    texts: Annotated[tuple[str, ...], positional("TEXT")] = ()
    """Two texts; put ``--`` before texts that begin with a dash."""
    url: Annotated[str | None, value("URL")] = None
    """Let the server at this address score, with the key in ``SIMILE_API_KEY`` where it needs one."""
    pairs: Annotated[Path | None, value("FILE")] = None
    """File of pairs, in place of two texts."""
    out: Annotated[Path | None, value("FILE")] = None
    """Write the pairs with their scores as JSONL."""


def run(options: Options) -> int:
    """Print or write the scores; return the exit code."""
    from pipeline.columns import read, require_columns_of
    from pipeline.score import score_by_bundle, score_by_server
    from simile.files import write_whole

    bundle, texts = _bundle_and_texts(options)
    if bool(options.pairs) == bool(texts) or len(texts) not in (0, 2):
        raise InputError(f"got {len(texts)} texts, need two texts or --pairs FILE")
    if any(not text.strip() for text in texts):
        raise InputError("got an empty text, need two non-empty ones")
    require_no_folder(options.out)
    require_columns_of(options.columns, "pairs")
    pairs = read(options.pairs, options.columns).texts if options.pairs else ((texts[0], texts[1]),)
    scores = (
        score_by_server(str(options.url), pairs)
        if bundle is None
        else score_by_bundle(bundle, pairs, device=options.device, precision=options.precision, prior=options.prior)
    )
    rows = [dict(zip(scores, map(float, row), strict=True)) for row in zip(*scores.values(), strict=True)]
    if options.out:
        lines = (json.dumps({"text_a": a, "text_b": b, **row}) + "\n" for (a, b), row in zip(pairs, rows, strict=True))
        write_whole(options.out, "".join(lines))
    else:
        print_lines(*("\t".join(f"{value:.6f}" for value in row.values()) for row in rows))
    return 0


def _bundle_and_texts(options: Options) -> tuple[str | None, list[str]]:
    """Return the bundle and the texts; with ``--url`` there is no bundle, and the first argument is a text.

    Raises:
        InputError: there is neither a bundle nor an address, or both, or an option that the server decides.
    """
    texts = [] if options.bundle is None else [options.bundle, *options.texts]
    if options.url is None:
        if not texts:
            raise InputError("got no bundle, need BUNDLE or --url URL")
        return texts[0], texts[1:]
    if len(texts) == 3 or (texts and options.pairs):
        raise InputError("got BUNDLE and --url, need one of them")
    if (options.device, options.precision, options.prior) != ("auto", "auto", None):
        raise InputError("got --device, --precision or --prior together with --url, where the server decides")
    return None, texts
