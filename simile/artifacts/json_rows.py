"""Rows of JSON files: one record per line, an array of records, or one object with the values of each column.

The content says which of them it is: all occur under both suffixes.
"""

import itertools
import json
from collections.abc import Iterator
from typing import Any

from simile.artifacts.delimited import require_unique
from simile.artifacts.rows import Part, ReadOptions, Row, num_lines, numbered_lines
from simile.errors import InputError


def json_rows(part: Part, options: ReadOptions) -> Iterator[Row]:
    """Yield the records; lines are read one at a time, an array or an object of columns at once."""
    lines = _lines(part, options)
    head = list(itertools.islice(lines, 2))
    if not head:
        return
    (number, first), is_whole = head[0], len(head) == 1
    try:
        value = _parse(first, part.name, number)
    except InputError:
        # A record per line never ends like this; a broken file of lines is not read to its end.
        if is_whole or (part.format == "jsonl" and first[-1] not in "[{,"):
            raise
        value = None
    if isinstance(value, dict) and not is_whole:
        every = itertools.chain(head, lines)
        own = every if part.is_whole else _lines(part, options, part.range_of(num_lines(part, options.encoding)))
        yield from (_record(_parse(line, part.name, n), f"{part.name}:{n}") for n, line in own)
        return
    if not is_whole and (value is None or part.format == "json"):
        text = "".join(line for _, line in numbered_lines(part, options.encoding))
        value, is_whole = _parse(text, part.name, 1), True
    rows = list(_records_of(value, part, number, is_whole=is_whole))
    yield from (rows[n - 1] for n in part.range_of(len(rows)))


def _lines(part: Part, options: ReadOptions, own: range | None = None) -> Iterator[tuple[int, str]]:
    """Yield the numbered lines, all or those in the range, without blank ones."""
    return ((number, line.rstrip()) for number, line in numbered_lines(part, options.encoding, own) if line.strip())


def json_line_rows(part: Part, options: ReadOptions) -> Iterator[Row]:
    """Yield the records of a file that has one per line; a message about a line does not quote it."""
    for number, line in numbered_lines(part, options.encoding):
        if line.strip():
            yield _record(_parse(line.rstrip(), part.name, number, is_quoted=False), f"{part.name}:{number}")


def _records_of(value: Any, part: Part, number: int, *, is_whole: bool) -> Iterator[Row]:
    """Yield the records of a file that is this one value, or a file of lines that begins with it."""
    is_array = is_whole and isinstance(value, list)
    if is_array and (part.format == "json" or all(isinstance(record, dict) for record in value)):
        yield from (_record(record, f"{part.name}: row {n}") for n, record in enumerate(value, 1))
    elif isinstance(value, dict) and (table := _table(value, part.name)) is not None:
        yield from (_record(record, f"{part.name}: row {n}") for n, record in enumerate(table, 1))
    elif part.format == "jsonl":
        yield _record(value, f"{part.name}:{number}")
    else:
        got = f"{part.name}: got a JSON {type(value).__name__}"
        raise InputError(f"{got}, need an array of objects, an object per line, or an object with a list per column")


def _table(value: dict[str, Any], name: str) -> list[dict[str, Any]] | None:
    """Return the records of an object of columns, as pandas writes it; None if it is none.

    The values of a column are a list, or an object by row labels; ``orient="split"`` has the rows as lists.
    """
    if value.keys() - {"index"} == {"columns", "data"}:
        columns, rows = value["columns"], value["data"]
        if not (isinstance(columns, list) and isinstance(rows, list) and all(isinstance(one, str) for one in columns)):
            return None
    else:
        columns, values = list(value), list(value.values())
        is_by_label = all(isinstance(one, dict) and one.keys() == values[0].keys() for one in values)
        # Objects whose own keys are numbers are rows by label, not columns.
        if is_by_label and not all(column.isdigit() for column in columns):
            values = [list(one.values()) for one in values]
        if not values or not all(isinstance(one, list) and len(one) == len(values[0]) for one in values):
            return None
        rows = list(zip(*values, strict=True))
    if not all(isinstance(row, list | tuple) and len(row) == len(columns) for row in rows):
        return None
    require_unique(columns, name)
    return [dict(zip(columns, row, strict=True)) for row in rows]


def _parse(text: str, name: str, first_line: int, *, is_quoted: bool = True) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        where = f"{name}:{first_line + error.lineno - 1}"
        quoted = f": {text.split(chr(10))[error.lineno - 1].strip()[:60]!r}" if is_quoted else ""
        raise InputError(f"{where}: no JSON ({error.msg} at column {error.colno}){quoted}") from error
    except RecursionError as error:
        raise InputError(f"{name}:{first_line}: JSON nested too deep") from error
    except InputError as error:
        raise InputError(f"{name}{'' if chr(10) in text else f':{first_line}'}: {error}") from error
    except ValueError as error:
        # Python refuses to parse whole numbers of thousands of digits.
        raise InputError(f"{name}:{first_line}: no JSON that can be read ({error})") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the object; refuse a key that occurs twice, of which Python would keep the last value."""
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for i, name in enumerate(names) if name in names[:i])
        raise InputError(f"got the key {twice!r} twice in one object, need unique names")
    return value


def _record(value: Any, where: str) -> Row:
    if isinstance(value, dict):
        return Row(where, value)
    raise InputError(f"{where}: got a JSON {type(value).__name__}, need an object")
