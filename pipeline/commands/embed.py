"""`simile embed`: vectors of texts, as a column of Parquet files."""

from typing import Annotated, Literal

from pipeline.bulk import BulkCommandOptions, facts_of, run_bulk
from pipeline.options import named, value
from simile.errors import InputError


class Options(BulkCommandOptions):
    """Options of `simile embed`."""

    bundle: Annotated[str, named("BUNDLE")]
    """A bundle of encoders."""
    texts: Annotated[str, value("INPUT")]
    """Texts, in the column ``text``: a Parquet, JSONL, CSV or TSV file, a folder or a glob of such, or an S3 URL."""
    out: Annotated[str, value("FOLDER")]
    """Folder or S3 URL for Parquet files with all columns of the input and ``embedding``."""
    dtype: Literal["float32", "float16", "int8"] = "float32"
    """Type of the embeddings' numbers; ``int8``: each vector is scaled so that its largest number is 127."""
    side: Literal["a", "b"] | None = None
    """Side of pairs that the texts are for, where the bundle has a prompt of its own for each."""


def run(options: Options) -> int:
    """Write the embeddings; return the exit code."""
    from pathlib import Path

    from pipeline.columns import require_columns_of
    from simile.artifacts import EncoderMember, read_bundle, require_signature
    from simile.artifacts.bulk_manifest import BulkWork
    from simile.artifacts.bundle import have_sides

    require_columns_of(options.columns, "documents")
    if options.prior is not None:
        raise InputError(f"got --prior {options.prior:g}, which embeddings do not depend on; need a command without it")
    bundle = read_bundle(Path(options.bundle))
    require_signature(bundle, options.verify_key)
    manifest = bundle.manifest
    if lexical := next((one.name for one in manifest.members if not isinstance(one, EncoderMember)), None):
        raise InputError(f"{options.bundle}: member {lexical} has no embeddings, need encoders only")
    has_sides = any(isinstance(one, EncoderMember) and have_sides(one.prompts) for one in manifest.members)
    if has_sides != (options.side is not None):
        need = "need --side a or --side b" if has_sides else "need no --side"
        raise InputError(
            f"{options.bundle}: its two sides have {'different' if has_sides else 'the same'} prompts, {need}"
        )
    columns, reading = facts_of(options)
    work = BulkWork(
        command="embed",
        bundle=manifest.name,
        digest=manifest.digest,
        dtype=options.dtype,
        side=options.side,
        columns=columns,
        reading=reading,
        rows_per_shard=options.shard_rows,
    )
    return run_bulk(options, options.texts, options.out, work, options.bundle)
