"""Types of the columns of text files: CSV and TSV hold texts, JSON Lines holds what all its rows have in common."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import pyarrow as pa

from simile.errors import InputError

Kind = Literal["null", "bool", "int", "long", "float", "text", "json"]
"""What a column holds; ``json``: values of several types, or nested ones, as JSON text."""
MAX_COLUMNS = 2000
_EXACT, _INT64 = 1 << 53, 1 << 63
"""Up to the first, whole numbers are also exact as floating-point numbers."""
_BY_TYPE: dict[type, Kind] = {type(None): "null", bool: "bool", float: "float"}
_ARROW = {
    "null": pa.string(),
    "bool": pa.bool_(),
    "int": pa.int64(),
    "long": pa.int64(),
    "float": pa.float64(),
    "text": pa.string(),
    "json": pa.string(),
}
_WIDER: dict[frozenset[Kind], Kind] = {frozenset({"int", "long"}): "long", frozenset({"int", "float"}): "float"}


def widen(kinds: dict[str, Kind], fields: Mapping[str, Any], where: str) -> None:
    """Make the kinds of the columns hold these values too; columns that are new are added."""
    for name, value in fields.items():
        kind, old = _kind(value), kinds.get(name)
        if old == kind or (kind == "null" and old):
            continue
        if old is None and len(kinds) == MAX_COLUMNS:
            raise InputError(f"{where}: got more than {MAX_COLUMNS:,} different columns, need at most as many")
        if old is None and _kind(name) != "text":
            raise InputError(f"{where}: got a column name with half a surrogate pair, need Unicode text")
        kinds[name] = kind if old in (None, "null") else _WIDER.get(frozenset({old, kind}), "json")


def schema_of(kinds: Mapping[str, Kind]) -> pa.Schema:
    """Return the columns as Arrow has them."""
    return pa.schema([(name, _ARROW[kind]) for name, kind in kinds.items()])


def table_of(rows: Sequence[Mapping[str, Any]], kinds: Mapping[str, Kind], where: str) -> pa.Table:
    """Return the rows as a table; a column that a row lacks is null."""
    columns = []
    for name, kind in kinds.items():
        values = [row.get(name) for row in rows]
        if kind == "json":
            try:
                values = [None if value is None else json.dumps(value) for value in values]
            except RecursionError as error:
                raise InputError(f"{where}: JSON nested too deep") from error
        columns.append(pa.array(values, _ARROW[kind]))
    return pa.table(columns, schema=schema_of(kinds))


def _kind(value: Any) -> Kind:
    if kind := _BY_TYPE.get(type(value)):
        return kind
    if isinstance(value, int):
        return "int" if abs(value) <= _EXACT else "long" if -_INT64 <= value < _INT64 else "json"
    if not isinstance(value, str):
        return "json"
    try:
        # Half a surrogate pair can be escaped in JSON, and cannot be encoded.
        return "text" if value.isascii() or value.encode() else "json"
    except UnicodeEncodeError:
        return "json"
