"""`simile sample`: the pairs that are worth labelling, from traffic, from a file of pairs, or from documents."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from pipeline.columns import columns_of, require_columns_of
from pipeline.options import ColumnOption, named, value
from pipeline.output import print_lines, require_apart, text_table
from simile.artifacts.reading import Source, open_source
from simile.artifacts.sampled_pairs import SampledPair, require_sample_path, sampled_pairs_of, write_sampled_pairs
from simile.errors import InputError
from simile.files import require_writable
from simile.progress import Progress, say

if TYPE_CHECKING:
    from labelling.sampling import StratumCounts
    from simile.scoring import Scorer

_MAX_DOCUMENTS = 20_000
"""Documents that pairs are proposed from at most: every two of them are compared."""


class Options(ColumnOption):
    """Options of `simile sample`."""

    input: Annotated[Path, named("INPUT")]
    """Pairs (a file, a folder such as that of `simile serve --sample-folder`, or ``-``), or documents, of which pairs
    are proposed."""
    out: Annotated[Path, value("FILE")]
    """File that the sample is written to, as JSON lines or as Parquet by its suffix."""
    bundle: Annotated[Path | None, value("BUNDLE")] = None
    """Bundle whose score the sample is stratified by (default: the column ``bundle_score`` of the pairs)."""
    baseline: Annotated[Path | None, value("BUNDLE")] = None
    """Untouched encoder whose score is added as ``baseline_score``; pairs of documents are proposed by it."""
    pairs: Annotated[int, Field(ge=1), value("N")] = 2000
    """Number of pairs to sample."""
    seed: Annotated[int, Field(ge=0), value("N")] = 0
    """Seed of the draw."""


def run(options: Options) -> int:
    """Write the sample and print the strata; return the exit code."""
    from labelling.sampling import sample_pairs

    require_sample_path(options.out)
    require_columns_of(options.columns, "documents", "pairs")
    require_apart([options.out], [options.input, options.bundle, options.baseline])
    require_writable(options.out)
    with open_source(options.input, options.reading) as source:
        pairs = _scored_pairs(source, options)
    sample, counts = sample_pairs(pairs, options.pairs, seed=options.seed)
    if len(sample) < options.pairs:
        say(f"note: {options.input}: has {len(pairs):,} different pairs, all are in the sample")
    write_sampled_pairs(options.out, sample)
    print_lines(*_table(counts), f"sample    {options.out} ({len(sample):,} pairs)")
    return 0


def _scored_pairs(source: Source, options: Options) -> Sequence[SampledPair]:
    """Return the pairs of the input, or those proposed of its documents, with the scores that the options ask for."""
    from pipeline.scores import with_scores
    from simile.scoring import load

    bundle, baseline = (path and load(path) for path in (options.bundle, options.baseline))
    nearest_by = baseline or bundle
    pairs: Sequence[SampledPair]
    if _has_documents(source, options):
        if not nearest_by:
            raise InputError(f"{options.input}: got documents, need --bundle or --baseline to propose pairs by")
        pairs = _proposed(source, options, nearest_by)
    else:
        pairs = sampled_pairs_of(source, columns_of("pairs", options))
        if not nearest_by and any(pair.bundle_score is None for pair in pairs):
            raise InputError(f"{options.input}: got pairs without 'bundle_score', need --bundle BUNDLE to score them")
    if bundle:
        pairs = with_scores(pairs, bundle, "bundle_score")
    if baseline:
        pairs = with_scores(pairs, baseline, "baseline_score")
    return pairs


def _has_documents(source: Source, options: Options) -> bool:
    """Return whether the table has documents and not pairs, by its columns."""
    from simile.artifacts.pairs import text_names
    from simile.artifacts.sampled_pairs import HASHED

    row = next(source.rows())
    names = {*row.fields, *columns_of("pairs", options)}
    if text_names(names) or set(HASHED) <= names:
        return False
    if "text" in row.fields or "text" in options.columns:
        return True
    raise InputError(f"{row.where}: got fields {row.names}, need 'text_a' and 'text_b' of pairs or 'text' of documents")


def _proposed(source: Source, options: Options, scorer: "Scorer") -> list[SampledPair]:
    """Return pairs of the documents' different texts, the near ones of each by the scorer's embeddings."""
    import numpy as np

    from labelling.sampling import propose_pairs
    from simile.artifacts.reading import require_text
    from simile.artifacts.texts import cut, text_key

    rows = source.rows(columns_of("documents", options), wanted=("text",))
    texts = [*{text_key(text): text for text in (cut(require_text(row, "text")) for row in rows)}.values()]
    if len(texts) > _MAX_DOCUMENTS:
        say(f"note: {options.input}: pairs are proposed from {_MAX_DOCUMENTS:,} of {len(texts):,} different texts")
        chosen = np.random.default_rng(options.seed).choice(len(texts), size=_MAX_DOCUMENTS, replace=False)
        texts = [texts[i] for i in sorted(chosen.tolist())]
    if len(texts) < 2:
        raise InputError(f"{options.input}: got {len(texts)} different texts, need at least 2 to make pairs of")
    with Progress("embedding", len(texts) * len(scorer.members), "texts") as progress:
        embedding_ND = scorer.embed(texts, progress.advance, side=0 if scorer.has_sides else None)
    return [SampledPair(texts[a], texts[b]) for a, b in propose_pairs(embedding_ND).tolist()]


def _table(counts: Sequence["StratumCounts"]) -> list[str]:
    """Return a table of the strata; what the population stands for is shown where its pairs have weights."""
    is_weighted = any(round(one.weight) != one.population for one in counts)
    columns = ["score", "pairs", *(["stands for"] if is_weighted else []), "sample"]
    cells = [(one.name, one.population, *([one.weight] if is_weighted else []), one.sample) for one in counts]
    total = ["all", *(sum(column) for column in [*zip(*cells, strict=True)][1:])]
    return text_table(columns, [[str(name), *(f"{number:,.0f}" for number in row)] for name, *row in [*cells, total]])
