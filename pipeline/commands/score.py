"""`simile score`: scores of two texts or of a file of pairs, and probabilities where the bundle is calibrated.

Bundles and servers need an extra each: neither is imported for the other.
"""

import json
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

from pipeline.options import ColumnOption, ScoringOptions, named, value
from pipeline.output import print_lines
from simile.errors import InputError

_Pairs = Sequence[tuple[str, str]]
_Scores = tuple[Iterable[float], Iterable[float] | None]
"""Each pair's score, and its probability where the bundle is calibrated."""
_PATIENCE_S = 120.0
"""Seconds to retry each request of a file: a server that restarts must not cost the scores so far."""


class Options(ScoringOptions, ColumnOption):
    """Options of `simile score`."""

    bundle: Annotated[str | None, named("BUNDLE")] = None
    """A bundle; with ``--url`` there is none."""
    texts: Annotated[tuple[str, ...], named("TEXT")] = ()
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
    from simile.files import require_writable, write_whole

    bundle, texts = _bundle_and_texts(options)
    if bool(options.pairs) == bool(texts) or len(texts) not in (0, 2):
        raise InputError(f"got {len(texts)} texts, need two texts or --pairs FILE")
    if any(not text.strip() for text in texts):
        raise InputError("got an empty text, need two non-empty ones")
    require_writable(options.out)
    require_columns_of(options.columns, "pairs")
    pairs = read(options.pairs, options.columns).texts if options.pairs else ((texts[0], texts[1]),)
    named_scores = zip(
        ("score", "probability"),
        _score_by_server(str(options.url), pairs) if bundle is None else _score_by_bundle(bundle, pairs, options),
        strict=True,
    )
    scores = {name: [*map(float, values)] for name, values in named_scores if values is not None}
    rows = [dict(zip(scores, row, strict=True)) for row in zip(*scores.values(), strict=True)]
    if options.out:
        lines = (json.dumps({"text_a": a, "text_b": b, **row}) + "\n" for (a, b), row in zip(pairs, rows, strict=True))
        write_whole(options.out, "".join(lines))
    else:
        print_lines(*("\t".join(f"{value:.6f}" for value in row.values()) for row in rows))
    return 0


def _bundle_and_texts(options: Options) -> tuple[str | None, list[str]]:
    """Return the bundle and the texts; with ``--url`` there is no bundle, and the first argument is a text."""
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


def _score_by_bundle(bundle: str, pairs: _Pairs, options: Options) -> _Scores:
    """Return the bundle's scores, and show progress where there are several pairs."""
    from simile.progress import Progress
    from simile.scoring import load, probability, require_finite, require_prior

    scorer = load(bundle, device=options.device, precision=options.precision)
    require_prior(scorer.bundle, options.prior)
    num_texts = len({text for pair in pairs for text in pair}) * len(scorer.members)
    with Progress("scoring", num_texts, "texts") if len(pairs) > 1 else nullcontext() as progress:
        score_P = scorer.score_members(pairs, progress.advance if progress else None).score_P
    require_finite(score_P, scorer.runtime)
    calibration = scorer.bundle.manifest.calibration
    return score_P, probability(calibration, score_P, prior=options.prior) if calibration else None


def _score_by_server(url: str, pairs: _Pairs) -> _Scores:
    """Return the server's scores, and show progress where there are several pairs."""
    from simile.client import Client
    from simile.progress import Progress

    if len(pairs) == 1:
        with Client(url) as client:
            similarity = client.similarity(pairs)
    else:
        patient, progress = (
            Client(url, timeout=_PATIENCE_S, retries=int(_PATIENCE_S)),
            Progress("scoring", len(pairs), "pairs"),
        )
        with patient as client, progress:
            similarity = client.similarity(pairs, on_progress=progress.advance)
    return similarity.scores, similarity.probabilities
