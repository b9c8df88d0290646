"""Rows of CSV and TSV files.

CSV quotes as RFC 4180 does. TSV has no quotes: a quotation mark is a character of the text, as in IANA's definition of
``text/tab-separated-values``.
"""

import csv
from collections.abc import Iterator, Sequence
from typing import Any

from simile.artifacts.rows import Part, ReadOptions, Row, num_lines, numbered_lines
from simile.errors import InputError
from simile.progress import say

_NAMES = {",": "comma", ";": "semicolon", "\t": "tab", "|": "pipe"}
"""Delimiters that a header may show to be the file's, by the word that the option takes."""
_MAX_CELL = 2**31 - 1


def delimited_rows(part: Part, options: ReadOptions) -> Iterator[Row]:
    """Yield the rows below the header; those of a range are the rows that end in that range of lines."""
    # The module's default limit is 131,072 characters per cell, and whole documents are longer.
    csv.field_size_limit(_MAX_CELL)
    usual_delimiter, usual_quote = ("\t", "") if part.format == "tsv" else (",", '"')
    delimiter = options.delimiter or usual_delimiter
    quote = usual_quote if options.quote is None else options.quote
    quoting: dict[str, Any] = {"quotechar": quote} if quote else {"quoting": csv.QUOTE_NONE}
    lines = (line for _, line in numbered_lines(part, options.encoding))
    reader = csv.reader(lines, delimiter=delimiter, strict=True, **quoting)
    header = list(part.header)
    may_be_quoted, is_noted = not quote and options.quote is None, False
    own = None if part.is_whole else part.range_of(num_lines(part, options.encoding))
    try:
        for cells in reader:
            # A cell may have several lines, of which the last is known.
            where = f"{part.name}:{reader.line_num}"
            # Excel reads a first line ``sep=;`` as the delimiter's definition.
            if not cells or (not header and len(cells) <= 2 and cells[0] in ("sep=", f"sep={delimiter}")):
                continue
            if not header:
                header = _header(cells, where, None if options.delimiter else delimiter, may_be_quoted=may_be_quoted)
                continue
            if own is not None and reader.line_num not in own:
                if reader.line_num >= own.stop:
                    return
                continue
            if len(cells) != len(header):
                got = f"{where}: got a row of another length than the header's {len(header)}"
                hint = " (cells in quotes need --quote '\"')" if may_be_quoted and '"' in "".join(cells) else ""
                raise InputError(f"{got}{hint}")
            if may_be_quoted and not is_noted and any(map(_is_quoted, cells)):
                is_noted = True
                say(f"{where}: got a cell in quotes, which are read as a part of it (--quote '\"' removes them)")
            yield Row(where, {name: cell or None for name, cell in zip(header, cells, strict=True)})
    except csv.Error as error:
        hint = "another layout needs --delimiter, --quote"
        raise InputError(f"{part.name}:{reader.line_num}: no valid {part.format.upper()} ({error}); {hint}") from error


def _header(cells: list[str], where: str, delimiter: str | None, *, may_be_quoted: bool) -> list[str]:
    """Return the column names; refuse those that show another layout, and names that occur twice.

    Columns without a name, such as the index that pandas writes, may be several.
    """
    if delimiter and len(cells) == 1 and (others := [one for one in _NAMES if one != delimiter and one in cells[0]]):
        got = f"{where}: got one column named {cells[0]!r:.60}"
        raise InputError(f"{got}, need {_NAMES[delimiter]}s between columns or --delimiter {_NAMES[others[0]]}")
    if may_be_quoted and any(map(_is_quoted, cells)):
        raise InputError(f"{where}: got column names in quotes, need --quote '\"' to remove them (or --quote none)")
    require_unique(cells, where)
    return [
        name or ("" if "" not in cells[: i - 1] else _free(f"column {i}", cells)) for i, name in enumerate(cells, 1)
    ]


def _free(name: str, names: list[str]) -> str:
    """Return the name, or a longer one where it is taken."""
    while name in names:
        name += "'"
    return name


def _is_quoted(cell: str) -> bool:
    return len(cell) > 1 and cell[0] == cell[-1] == '"'


def require_unique(names: Sequence[str], where: str) -> None:
    """Refuse a column name that occurs twice: which of them is meant is unknown."""
    if twice := next((name for i, name in enumerate(names) if name and name in names[:i]), None):
        raise InputError(f"{where}: got two columns named {twice!r}, need unique names")
