"""Documents, which pairs are mined from."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from simile.artifacts.names import read_name
from simile.artifacts.reading import read_rows, require_text
from simile.artifacts.rows import DEFAULTS, WHOLE, ReadOptions, Shard
from simile.artifacts.texts import cut
from simile.errors import InputError

FIELDS = ("id", "text", "category", "group")
"""The columns of documents."""


@dataclass(frozen=True, slots=True)
class Document:
    """One text, and what is known about its meaning."""

    id: str
    text: str
    category: str | None = None
    group: str | None = None
    """Documents of one group mean the same thing."""
    is_cut: bool = False
    """Whether the text was too long for `cut`."""


def read_documents(
    path: Path, columns: Mapping[str, str] | None = None, options: ReadOptions = DEFAULTS, shard: Shard = WHOLE
) -> Iterator[Document]:
    """Yield the documents of a table, one at a time; `simile.artifacts.reading.open_source` says what a table is.

    A document without an ``id`` is named after its position (``row-17``), which is counted within the shard.

    Raises:
        InputError: the file cannot be read, a document has no text, or two share an id.
    """
    ids: set[str] = set()
    for number, row in enumerate(read_rows(path, columns, options, wanted=FIELDS, shard=shard), 1):
        if "text" not in row.fields:
            got = f"{row.where}: got a document with the fields {row.names}"
            raise InputError(f"{got}, need 'text' (or --column text=NAME)")
        text, category, group = require_text(row, "text"), read_name(row, "category"), read_name(row, "group")
        document_id = f"row-{number}" if row.fields.get("id") is None else str(row.fields["id"])
        if document_id in ids:
            raise InputError(f"{row.where}: got id {document_id!r} a second time, need unique ids")
        ids.add(document_id)
        kept = cut(text)
        yield Document(document_id, kept, category, group, is_cut=len(kept) < len(text))
