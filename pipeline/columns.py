"""Documents and pairs by the options that a command or a run gives."""

from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Protocol

from simile.artifacts import Pair, PairSet, ReadOptions, named_pair_paths, read_labelled_pairs, read_pairs
from simile.artifacts.documents import FIELDS
from simile.errors import InputError
from simile.progress import say

_FIELDS = {"documents": FIELDS, "pairs": tuple(field.name for field in fields(Pair))}


class Reading(Protocol):
    """How documents and pairs are read: the options of a command, or the config of a run."""

    @property
    def columns(self) -> Mapping[str, str]:
        """The file's column name by our field name."""

    @property
    def reading(self) -> ReadOptions:
        """Format, delimiter and labels."""


def require_columns_of(columns: Mapping[str, str], *kinds: str) -> None:
    """Refuse a column that is renamed to no field of the kinds that are read: ``documents``, ``pairs``, or both."""
    known = [name for kind in kinds for name in _FIELDS[kind]]
    for ours, theirs in columns.items():
        if ours not in known:
            raise InputError(f"column {ours}={theirs}: got the field {ours!r}, need one of {', '.join(known)}")


def columns_of(kind: str, how: Reading) -> dict[str, str]:
    """Return those of the columns that are fields of this kind."""
    return {ours: theirs for ours, theirs in how.columns.items() if ours in _FIELDS[kind]}


def read(path: Path, how: Reading) -> PairSet:
    """Return the pairs of the file, with labels or without, and say how many they are."""
    return _counted(path, read_pairs(path, columns=columns_of("pairs", how), options=how.reading))


def read_labelled(paths: Iterable[Path], how: Reading) -> list[PairSet]:
    """Return the labelled pairs of each file."""
    return [_read_labelled(path, None, how) for path in paths]


def with_mined_sets(arguments: Iterable[str], part: str) -> list[str]:
    """Return the arguments, with the sets of the part (``dev``, ``test``) in place of a folder of mined pairs."""
    expanded: list[str] = []
    for argument in arguments:
        if (folder := Path(argument)).is_dir() and (folder / "pairs.jsonl").is_file():
            sets = (folder / f"{part}-{name}.jsonl" for name in ("seen", "unseen"))
            expanded += [str(path) for path in sets if path.is_file()]
        else:
            expanded.append(argument)
    return expanded


def read_named(arguments: Iterable[str], how: Reading) -> list[PairSet]:
    """Return the labelled pairs of each ``PATH`` or ``NAME=PATH``."""
    return [_read_labelled(path, name, how) for name, path in named_pair_paths(list(arguments)).items()]


def _read_labelled(path: Path, name: str | None, how: Reading) -> PairSet:
    pairs = read_labelled_pairs(path, columns=columns_of("pairs", how), name=name, options=how.reading)
    return _counted(path, pairs)


def _counted(path: Path, pairs: PairSet) -> PairSet:
    """Return the pairs; their number shows a delimiter or a quote that swallows rows."""
    say_rows(path, len(pairs.rows))
    return pairs


def say_rows(path: Path, num: int) -> None:
    """Say how many rows the file has."""
    say(f"{path}: {num:,} row{'' if num == 1 else 's'}")
