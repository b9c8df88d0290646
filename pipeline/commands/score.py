"""`simile score`: scores of two texts or of a file of pairs, and probabilities where the bundle is calibrated.

Bundles and servers need an extra each: neither is imported for the other.
"""

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pipeline.bulk import BulkCommandOptions, facts_of, is_bulk, require_no_bulk_options, run_bulk
from pipeline.options import named, value
from pipeline.output import print_lines, require_apart
from simile.artifacts.reading import Source, open_source
from simile.artifacts.rows import Row
from simile.errors import InputError
from simile.progress import say
from simile.text_input import text_fault

if TYPE_CHECKING:
    from simile.artifacts.bulk_manifest import BulkWork

_Pairs = Sequence[tuple[str, str]]
_Scores = tuple[Iterable[float], Iterable[float] | None]
"""Each pair's score, and its probability where the bundle is calibrated."""
_PATIENCE_S = 120.0
"""Seconds to retry each request of a file: a server that restarts must not cost the scores so far."""


class Options(BulkCommandOptions):
    """Options of `simile score`."""

    bundle: Annotated[str | None, named("BUNDLE")] = None
    """A bundle; with ``--url`` there is none."""
    texts: Annotated[tuple[str, ...], named("TEXT")] = ()
    """Two texts; put ``--`` before texts that begin with a dash."""
    url: Annotated[str | None, value("URL")] = None
    """Let the server at this address score, with the key in ``SIMILE_API_KEY`` where it needs one."""
    pairs: Annotated[str | None, value("INPUT")] = None
    """Pairs, in place of two texts: a file, a folder, a glob, or an S3 URL; ``-`` reads JSON lines from standard input.
    """
    out: Annotated[str | None, value("OUTPUT")] = None
    """Write the pairs, with all columns of the input and with ``score`` and ``probability``: as JSONL into a file, or
    as Parquet into a folder (a trailing slash) or below an S3 URL, in parts that a repeated command skips."""


def run(options: Options) -> int:
    """Print or write the scores; return the exit code."""
    from pipeline.columns import require_columns_of

    bundle, texts = _bundle_and_texts(options)
    if bool(options.pairs) == bool(texts) or len(texts) not in (0, 2):
        raise InputError(f"got {len(texts)} texts, need two texts or --pairs FILE")
    if fault := next(filter(None, map(text_fault, texts)), None):
        raise InputError(fault)
    require_columns_of(options.columns, "pairs")
    if options.pairs and options.out and is_bulk(options.pairs, options.out):
        if bundle is None:
            raise InputError("got --url for a folder or several files, need BUNDLE")
        return run_bulk(options, options.pairs, options.out, _work(bundle, options), bundle)
    require_no_bulk_options(options)
    return _score_file_or_texts(options, bundle, texts)


def _work(bundle: str, options: Options) -> "BulkWork":
    from simile.artifacts import read_bundle, require_signature
    from simile.artifacts.bulk_manifest import BulkWork
    from simile.scoring import require_prior

    loaded = read_bundle(Path(bundle))
    require_signature(loaded, options.verify_key)
    require_prior(loaded, options.prior)
    manifest = loaded.manifest
    share = manifest.calibration.positive_share if manifest.calibration else None
    columns, reading = facts_of(options)
    return BulkWork(
        command="score",
        bundle=manifest.name,
        digest=manifest.digest,
        prior=share if options.prior is None else options.prior,
        columns=columns,
        reading=reading,
        rows_per_shard=options.shard_rows,
    )


def _score_file_or_texts(options: Options, bundle: str | None, texts: Sequence[str]) -> int:
    from pipeline.columns import columns_of, say_rows
    from simile.artifacts import pairs_of
    from simile.files import require_writable, write_whole

    path, out = (None if one is None else Path(one) for one in (options.pairs, options.out))
    require_apart([out], [path, Path(bundle) if bundle else None])
    require_writable(out)
    with ExitStack() as stack:
        source = stack.enter_context(open_source(path, options.reading)) if path else None
        pairs: _Pairs = [(texts[0], texts[1])] if texts else []
        if source:
            pairs = pairs_of(source, columns=columns_of("pairs", options)).texts
            say_rows(source.path, len(pairs))
        scored = (
            _score_by_server(str(options.url), pairs) if bundle is None else _score_by_bundle(bundle, pairs, options)
        )
        scores, probabilities = ([None] * len(pairs) if values is None else [*map(float, values)] for values in scored)
        if out:
            write_whole(out, "".join(_lines(source, pairs, scores, probabilities)))
        else:
            rows = zip(scores, probabilities, strict=True)
            print_lines(*("\t".join(f"{value:.6f}" for value in row if value is not None) for row in rows))
    return 0


def _lines(
    source: Source | None, pairs: _Pairs, scores: Iterable[float | None], probabilities: Iterable[float | None]
) -> Iterator[str]:
    """Yield each pair as JSON: all columns of its file, then the scores.

    The probability is written even where there is none: by the two names, readers know that this score is no label. A
    column of the file that has one of these names becomes ``input_score`` or ``input_probability``.
    """
    told: set[str] = set()
    texts = (Row("", {"text_a": a, "text_b": b}) for a, b in pairs)
    rows = source.rows(skip_bad=True) if source else texts
    for row, score, probability in zip(rows, scores, probabilities, strict=True):
        own = {"score": score, "probability": probability}
        renamed: dict[str, str] = {}
        for name in sorted(own.keys() & row.fields.keys()):
            renamed[name] = f"input_{name}"
            while renamed[name] in row.fields:
                renamed[name] = f"input_{renamed[name]}"
            if renamed[name] not in told:
                told.add(renamed[name])
                say(f"{row.where}: the column {name!r} is written as {renamed[name]!r}")
        try:
            kept = {renamed.get(name, name): _plain(value) for name, value in row.fields.items()}
            yield json.dumps(kept | own) + "\n"
        except RecursionError as error:
            raise InputError(f"{row.where}: JSON nested too deep") from error


def _plain(value: Any) -> Any:
    """Return the value as JSON can hold it: dates and decimals as text, what is not finite as null."""
    if isinstance(value, dict):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [*map(_plain, value)]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int) else str(value)


def _bundle_and_texts(options: Options) -> tuple[str | None, list[str]]:
    """Return the bundle and the texts; with ``--url`` there is no bundle, and the first argument is a text."""
    texts = [] if options.bundle is None else [options.bundle, *options.texts]
    if options.url is None:
        if not texts:
            raise InputError("got no bundle, need BUNDLE or --url URL")
        return texts[0], texts[1:]
    if len(texts) == 3 or (texts and options.pairs):
        raise InputError("got BUNDLE and --url, need one of them")
    if (options.device, options.precision, options.prior, options.verify_key) != ("auto", "auto", None, None):
        given = "--device, --precision, --prior or --verify-key"
        raise InputError(f"got {given} together with --url, where the server decides")
    return None, texts


def _score_by_bundle(bundle: str, pairs: _Pairs, options: Options) -> _Scores:
    """Return the bundle's scores, and show progress where there are several pairs."""
    from pipeline.scores import scores_of
    from simile.scoring import load, probability, require_prior

    scorer = load(bundle, device=options.device, precision=options.precision, verify_key=options.verify_key)
    require_prior(scorer.bundle, options.prior)
    score_P = scores_of(scorer, pairs)
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
