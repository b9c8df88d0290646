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
    """Refuse a column that is renamed to no field of what is read.

    Args:
        columns: the columns.
        kinds: what is read: ``documents``, ``pairs``, or both.

    Raises:
        InputError: one of our names is not a field.
    """
    known = [name for kind in kinds for name in _FIELDS[kind]]
    for ours, theirs in columns.items():
        if ours not in known:
            raise InputError(f"column {ours}={theirs}: got the field {ours!r}, need one of {', '.join(known)}")


def document_columns(columns: Columns) -> dict[str, str]:
    """Return those of the columns that are fields of documents."""
    return {ours: theirs for ours, theirs in columns.items() if ours in _FIELDS["documents"]}


def pair_columns(path: Path, columns: Columns) -> dict[str, str]:
    """Return the columns that apply to this file of pairs: where it already has our name only, it is read by that.

    A command reads files of several sources, such as own pairs and mined dev sets.

    Raises:
        InputError: the file cannot be read.
    """
    own = {ours: theirs for ours, theirs in columns.items() if ours in _FIELDS["pairs"]}
    names = next(read_rows(path)).fields if own else {}
    for ours, theirs in own.items():
        if ours in names and theirs not in names:
            say(f"{path}: no column {theirs!r}, its column {ours!r} is read")
    return {ours: theirs for ours, theirs in own.items() if theirs in names or ours not in names}


def read(path: Path, columns: Columns) -> PairSet:
    """Return the pairs of the file, with labels or without.

    Raises:
        InputError: the file cannot be read as pairs.
    """
    return read_pairs(path, columns=pair_columns(path, columns))


def read_labelled(paths: Iterable[Path], columns: Columns) -> list[PairSet]:
    """Return the labelled pairs of each file.

    Raises:
        InputError: a file cannot be read, or its pairs have no labels to learn or to judge by.
    """
    return [read_labelled_pairs(path, columns=pair_columns(path, columns)) for path in paths]


def read_named(arguments: Iterable[str], columns: Columns) -> list[PairSet]:
    """Return the labelled pairs of each ``PATH`` or ``NAME=PATH``.

    Raises:
        InputError: two files have one name, or one cannot be read as labelled pairs.
    """
    named = named_pair_paths(list(arguments))
    return [read_labelled_pairs(path, columns=pair_columns(path, columns), name=name) for name, path in named.items()]
