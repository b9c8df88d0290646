"""Pairs of texts and, where it is known, whether (or how far) they mean the same.

Shape suffix: P = pairs.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from simile.artifacts.names import Names, read_name
from simile.artifacts.reading import Row, bare_name, read_rows, require_text
from simile.artifacts.texts import group_key, text_hash
from simile.errors import InputError
from simile.files import sha256_file, write_whole
from simile.progress import say

_TEXT_ALIASES = ("text_a", "text1", "text_1", "sentence1", "sentence_1", "sentence_a", "question1")
"""Columns of the first text; that of the second ends with b or 2."""
_LABEL_ALIASES = ("label", "is_duplicate")
_SCORE_ALIASES = ("score", "similarity", "similarity_score")
_BOOLEANS = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}

MIN_DEV_PAIRS = 100
"""The fewest pairs of a dev set that training chooses weights by; mining prefers an easier dev set to a smaller one."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two texts and what is known about them."""

    text_a: str
    text_b: str
    label: int | None = None
    """1 where the texts mean the same (a positive pair), 0 where they do not."""
    score: float | None = None
    """Graded similarity on any finite scale, instead of a label."""
    group_a: str | None = None
    group_b: str | None = None
    tfidf: float | None = None
    """TF-IDF cosine of the two texts, in [0, 1]."""
    same_category: bool | None = None

    @property
    def target(self) -> float | None:
        """The label, or else the graded score."""
        return self.label if self.label is not None else self.score


@dataclass(frozen=True, slots=True)
class PairSet:
    """The pairs of one file, in its order."""

    name: str
    rows: tuple[Pair, ...]
    sha256: str
    """Hash of the file's bytes."""

    @property
    def is_labelled(self) -> bool:
        """Whether every pair has a label or a score."""
        return all(row.target is not None for row in self.rows)

    @property
    def is_graded(self) -> bool:
        """Whether the pairs carry graded scores and not labels."""
        return any(row.score is not None for row in self.rows)

    @property
    def have_groups(self) -> bool:
        """Whether the group of every text is known."""
        return all(row.group_a is not None and row.group_b is not None for row in self.rows)

    @property
    def texts(self) -> tuple[tuple[str, str], ...]:
        """The two texts of each pair."""
        return tuple((row.text_a, row.text_b) for row in self.rows)

    @property
    def ends(self) -> tuple[tuple[str, str], ...]:
        """The two units of each pair that other pairs may share: keys of the groups where all are known, else texts."""
        if self.have_groups:
            return tuple((group_key(str(row.group_a)), group_key(str(row.group_b))) for row in self.rows)
        return self.texts

    @property
    def target_P(self) -> NDArray[np.float64]:
        """Label or score of each pair."""
        return np.array([row.target for row in self.rows], dtype=np.float64)


def read_pairs(path: Path, *, columns: Mapping[str, str] | None = None, name: str | None = None) -> PairSet:
    """Return the pairs of a JSONL, JSON, CSV, TSV or Parquet file.

    Raises:
        InputError: the file cannot be read, or a pair lacks a text, has a label other than 0 or 1, a score that is
            not finite, or the file mixes labels, scores and unlabelled pairs.
    """
    rows: list[Pair] = []
    labelling, groups = None, Names("group")
    for row in read_rows(path, columns):
        pair = _pair(row, groups)
        own = "label" if pair.label is not None else "score" if pair.score is not None else "no label"
        if own != (labelling := labelling or own):
            raise InputError(f"{row.where}: got a pair with {own} after pairs with {labelling}, need the same for all")
        rows.append(pair)
    for note in groups.notes():
        say(f"note: {path}: {note}")
    return PairSet(name or bare_name(path), tuple(rows), sha256_file(path))


def read_labelled_pairs(path: Path, *, columns: Mapping[str, str] | None = None, name: str | None = None) -> PairSet:
    """Return the pairs of a file as `read_pairs` does, and refuse them as `require_labels` does."""
    pairs = read_pairs(path, columns=columns, name=name)
    require_labels(pairs, path)
    return pairs


def require_labels(pairs: PairSet, path: Path) -> None:
    """Refuse, by an `InputError`, pairs without labels, or all with the same one."""
    if not pairs.is_labelled:
        raise InputError(f"{path}: got pairs without a label, need 'label' 0|1 or 'score' in each")
    values = {row.target for row in pairs.rows}
    if len(values) < 2:
        raise InputError(f"{path}: all {len(pairs.rows)} pairs have the same label {values.pop():g}, need both classes")


def count_trained(pair_sets: Iterable[PairSet], trained: Set[str]) -> dict[str, int]:
    """Return the number of different texts of each set that have one of these hashes, by name, where there are any.

    Of sets with the same name, such as a dev and a calibration set, the larger number counts.
    """
    nums: dict[str, int] = {}
    for pairs in pair_sets:
        if num := len(trained & {text_hash(text) for pair in pairs.texts for text in pair}):
            nums[pairs.name] = max(num, nums.get(pairs.name, 0))
    return nums


def named_pair_paths(arguments: Sequence[str]) -> dict[str, Path]:
    """Return the files of ``PATH`` or ``NAME=PATH`` arguments by the name that reports use; refuse a repeated name."""
    named: dict[str, Path] = {}
    for argument in arguments:
        head, separator, tail = argument.partition("=")
        is_named = bool(separator) and "/" not in head and not Path(argument).exists()
        name, path = (head, Path(tail)) if is_named else (bare_name(Path(argument)), Path(argument))
        if name in named:
            raise InputError(f"got two pair files named {name!r} ({named[name]} and {path}), need NAME=PATH for one")
        named[name] = path
    return named


def write_pairs(path: Path, pairs: Iterable[Pair]) -> None:
    """Write the pairs as JSONL, as a whole or not at all."""
    # dataclasses.asdict copies every value, which takes longer than writing it.
    names = [field.name for field in fields(Pair)]
    records = ({name: value for name in names if (value := getattr(pair, name)) is not None} for pair in pairs)
    write_whole(path, "".join(f"{json.dumps(record)}\n" for record in records))


def _pair(row: Row, groups: Names) -> Pair:
    text_a, text_b = _texts(row)
    label = next((name for name in _LABEL_ALIASES if row.fields.get(name) is not None), None)
    score = next((name for name in _SCORE_ALIASES if row.fields.get(name) is not None), None)
    return Pair(
        text_a=text_a,
        text_b=text_b,
        label=_label(row, label) if label else None,
        score=_number(row, score) if score and not label else None,
        group_a=groups.first(read_name(row, "group_a")),
        group_b=groups.first(read_name(row, "group_b")),
        tfidf=None if row.fields.get("tfidf") is None else _number(row, "tfidf"),
        same_category=_boolean(row, "same_category"),
    )


def _texts(row: Row) -> tuple[str, str]:
    for name_a in _TEXT_ALIASES:
        name_b = name_a[:-1] + ("b" if name_a.endswith("a") else "2")
        if name_a in row.fields and name_b in row.fields:
            return require_text(row, name_a), require_text(row, name_b)
    raise InputError(f"{row.where}: got fields {row.names}, need 'text_a' and 'text_b' (rename the columns)")


def _label(row: Row, field: str) -> int:
    number = _number(row, field)
    if number not in (0, 1):
        got = f"{row.where}: got {field} {row.fields[field]!r}"
        raise InputError(f"{got}, need 0 or 1 (a graded similarity goes into 'score')")
    return int(number)


def _boolean(row: Row, field: str) -> bool | None:
    value = row.fields.get(field)
    if value is not None and str(value).lower() not in _BOOLEANS:
        raise InputError(f"{row.where}: got {field} {value!r}, need true or false")
    return None if value is None else _BOOLEANS[str(value).lower()]


def _number(row: Row, field: str) -> float:
    try:
        number = float(row.fields[field])
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise InputError(f"{row.where}: got {field} {row.fields[field]!r}, need a finite number")
    return number
