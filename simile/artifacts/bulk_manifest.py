"""Bulk work: what a part says about itself, and the manifest ``_SUCCESS`` of a folder whose parts are all whole."""

from typing import Literal

from simile.artifacts.strict import StrictModel


class BulkInput(StrictModel):
    """One file of the input, as it was when it was read."""

    path: str
    """An absolute path, or the URL of an object."""
    size_bytes: int
    version: str
    """The time of its last change in nanoseconds, or the object's ETag."""


class BulkWork(StrictModel):
    """What was computed: parts of one folder agree in all of it."""

    command: Literal["score", "embed"]
    bundle: str
    """The bundle's name."""
    digest: str
    prior: float | None = None
    """Share of positives that the probabilities assume; None without calibration, and for embeddings."""
    dtype: Literal["float32", "float16", "int8"] | None = None
    """Type of the embeddings."""
    side: Literal["a", "b"] | None = None
    """Side of pairs that the embedded texts stand for, where the bundle has a prompt of its own for each."""
    columns: dict[str, str]
    """The input's column names by our field names, where ``--column`` gave some."""
    reading: dict[str, str]
    """How text files were read, where options such as ``--delimiter`` said it."""
    rows_per_shard: int


class BulkPart(StrictModel):
    """What a part file's metadata says about it, under the key ``simile``."""

    schema_version: Literal[1] = 1
    work: BulkWork
    precision: str
    """Precision that the encoders ran in."""
    input: BulkInput
    first_row: int
    """Number of its first row in the input file, from 0."""
    num_rows: int


class BulkPartCounts(StrictModel):
    """One part file in the manifest."""

    name: str
    rows: int
    texts: int
    """Texts that were computed for it."""


class BulkManifest(StrictModel):
    """The content of ``_SUCCESS``."""

    schema_version: Literal[1] = 1
    work: BulkWork
    precision: str
    inputs: tuple[BulkInput, ...]
    parts: tuple[BulkPartCounts, ...]
    rows: int
    texts: int
    """Texts that were computed: those of each part, where equal ones count once."""
