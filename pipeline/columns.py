"""Files whose columns are not named as ours are."""

from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path

from simile.artifacts import Pair, PairSet, named_pair_paths, read_labelled_pairs, read_pairs
from simile.artifacts.reading import read_rows
from simile.errors import InputError
from simile.progress import say

Columns = Mapping[str, str]
"""The file's column name by our field name."""
_FIELDS = {"documents": ("id", "text", "category", "group"), "pairs": tuple(field.name for field in fields(Pair))}


def require_columns_of(columns: Columns, *kinds: str) -> None:
    """Refuse a column that is renamed to no field of the kinds that are read: ``documents``, ``pairs``, or both."""
    known = [name for kind in kinds for name in _FIELDS[kind]]
    for ours, theirs in columns.items():
        if ours not in known:
            raise InputError(f"column {ours}={theirs}: got the field {ours!r}, need one of {', '.join(known)}")


def columns_of(kind: str, columns: Columns) -> dict[str, str]:
    """Return those of the columns that are fields of this kind."""
    return {ours: theirs for ours, theirs in columns.items() if ours in _FIELDS[kind]}


def _pair_columns(path: Path, columns: Columns) -> dict[str, str]:
    """Return the columns that apply to this file of pairs: where it already has our name only, it is read by that.

    A command reads files of several sources, such as own pairs and mined dev sets.
    """
    own = columns_of("pairs", columns)
    names = next(read_rows(path)).fields if own else {}
    for ours, theirs in own.items():
        if ours in names and theirs not in names:
            say(f"{path}: no column {theirs!r}, its column {ours!r} is read")
    return {ours: theirs for ours, theirs in own.items() if theirs in names or ours not in names}


def read(path: Path, columns: Columns) -> PairSet:
    """Return the pairs of the file, with labels or without."""
    return read_pairs(path, columns=_pair_columns(path, columns))


def read_labelled(paths: Iterable[Path], columns: Columns) -> list[PairSet]:
    """Return the labelled pairs of each file."""
    return [read_labelled_pairs(path, columns=_pair_columns(path, columns)) for path in paths]


def read_named(arguments: Iterable[str], columns: Columns) -> list[PairSet]:
    """Return the labelled pairs of each ``PATH`` or ``NAME=PATH``."""
    named = named_pair_paths(list(arguments))
    return [read_labelled_pairs(path, columns=_pair_columns(path, columns), name=name) for name, path in named.items()]
