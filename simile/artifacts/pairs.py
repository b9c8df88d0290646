"""Pairs of texts and, where it is known, whether (or how far) they mean the same.

Shape suffix: P = pairs.
"""

import itertools
import json
import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from simile.artifacts.names import MISSING, Names, read_name
from simile.artifacts.pair import Pair, Tier
from simile.artifacts.reading import Source, bare_name, open_source, require_text
from simile.artifacts.rows import DEFAULTS, ReadOptions, Row
from simile.artifacts.stored_pairs import in_memory_or_stored
from simile.artifacts.texts import group_key, text_hash, text_key
from simile.errors import InputError
from simile.files import sha256_bytes, write_whole
from simile.progress import say

_TEXT_ALIASES = (
    ("text_a", "text_b"),
    ("text1", "text2"),
    ("text_1", "text_2"),
    ("sentence1", "sentence2"),
    ("sentence_1", "sentence_2"),
    ("sentence_a", "sentence_b"),
    ("question1", "question2"),
)
"""Columns of the two texts."""
NEED_TEXTS = "need 'text_a' and 'text_b' (or --column text_a=NAME)"
LEAST_PROBABILITY = 1e-12
"""Smallest inclusion probability: one pair of less would outweigh all others, and sums of weights would lose them."""
_LABEL_ALIASES = ("label", "is_duplicate")
_SCORE_ALIASES = ("score", "similarity", "similarity_score")
_OTHERS = ("group_a", "group_b", "tfidf", "same_category", "tier", "probability", "inclusion_probability")
TEXT_COLUMNS = frozenset(itertools.chain(*_TEXT_ALIASES))
_WANTED = TEXT_COLUMNS.union(_LABEL_ALIASES, _SCORE_ALIASES, _OTHERS)
"""The columns that pairs may have."""
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}

MIN_DEV_PAIRS = 100
"""The fewest pairs of a dev set that training chooses weights by; mining makes a smaller one only on request."""


@dataclass(frozen=True)
class PairSet:
    """The pairs of one file, in its order."""

    name: str
    rows: Sequence[Pair]
    """A tuple, or `StoredPairs` of many."""
    sha256: str
    """Hash of the file's bytes, or of the files of a folder (see `Source.sha256`), and of ``--label`` where given."""

    @cached_property
    def is_labelled(self) -> bool:
        """Whether every pair has a label or a score."""
        return all(row.target is not None for row in self.rows)

    @cached_property
    def is_graded(self) -> bool:
        """Whether the pairs carry graded scores and not labels."""
        return any(row.score is not None for row in self.rows)

    @cached_property
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

    @cached_property
    def is_weighted(self) -> bool:
        """Whether pairs came into the set with different probabilities."""
        return len({row.inclusion_probability or 1.0 for row in self.rows}) > 1

    @cached_property
    def weight_P(self) -> NDArray[np.float64]:
        """Number of pairs that each pair stands for, divided by the mean of these numbers; 1 where all are equal."""
        if not self.is_weighted:
            return np.ones(len(self.rows))
        weight_P = 1 / np.array([row.inclusion_probability or 1.0 for row in self.rows])
        return np.asarray(weight_P / weight_P.mean())


def read_pairs(
    path: Path, *, columns: Mapping[str, str] | None = None, name: str | None = None, options: ReadOptions = DEFAULTS
) -> PairSet:
    """Return the pairs of a table; `simile.artifacts.reading.open_source` says what a table is.

    A table that has our name of a column, and not that in ``columns``, is read by ours.

    Raises:
        InputError: the file cannot be read, or a pair lacks a text, has a label other than 0 or 1, a score that is
            not finite, or the file mixes labels, scores and unlabelled pairs.
    """
    with open_source(path, options) as source:
        return pairs_of(source, columns=columns, name=name)


def pairs_of(source: Source, *, columns: Mapping[str, str] | None = None, name: str | None = None) -> PairSet:
    """Return the pairs of an open table as `read_pairs` does."""
    groups, others = Names("group"), Counter[str]()
    rows = in_memory_or_stored(_read(source, columns, groups, others))
    for note in groups.notes():
        say(f"note: {source.path}: {note}")
    if others:
        counts = ", ".join(f"{word!r} ({num:,})" for word, num in others.most_common(5))
        say(f"{source.path}: labels that --label does not list are read as negative: {counts}")
    sha256, words = source.sha256, (sorted(source.options.positive), sorted(source.options.negative))
    if any(words):
        # The same bytes mean other labels: a training that they began must not be resumed.
        sha256 = sha256_bytes(json.dumps([sha256, *words]).encode())
    return PairSet(name or bare_name(source.path), rows, sha256)


def _read(source: Source, columns: Mapping[str, str] | None, groups: Names, others: Counter[str]) -> Iterator[Pair]:
    labelling = None
    for row in source.rows(columns, wanted=_WANTED, prefer_theirs=True):
        pair = _pair(row, groups, source.options, others, is_score_named="score" in (columns or ()))
        own = "label" if pair.label is not None else "score" if pair.score is not None else "no label"
        if own != (labelling := labelling or own):
            raise InputError(f"{row.where}: got a pair with {own} after pairs with {labelling}, need the same for all")
        yield pair


def read_labelled_pairs(
    path: Path, *, columns: Mapping[str, str] | None = None, name: str | None = None, options: ReadOptions = DEFAULTS
) -> PairSet:
    """Return the pairs of a table as `read_pairs` does, and refuse them as `require_labels` does."""
    pairs = read_pairs(path, columns=columns, name=name, options=options)
    require_labels(pairs, path)
    return pairs


def require_labels(pairs: PairSet, path: Path) -> None:
    """Refuse, by an `InputError`, pairs without labels, or all with the same one."""
    if not pairs.is_labelled:
        raise InputError(
            f"{path}: got pairs without a label, need 'label' 0|1 or 'score' in each (not that of simile score)"
        )
    first = pairs.rows[0].target
    if all(row.target == first for row in pairs.rows):
        raise InputError(f"{path}: all {len(pairs.rows)} pairs have the same label {first:g}, need both classes")


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


def _pair(row: Row, groups: Names, options: ReadOptions, others: Counter[str], *, is_score_named: bool) -> Pair:
    text_a, text_b = _texts(row)
    label = next((name for name in _LABEL_ALIASES if row.fields.get(name) is not None), None)
    score = next((name for name in _SCORE_ALIASES if row.fields.get(name) is not None), None)
    if score == "score" and "probability" in row.fields and not is_score_named:
        # `simile score` writes both: its score is no label.
        score = None
    return Pair(
        text_a=text_a,
        text_b=text_b,
        label=_label(row, label, options, others) if label else None,
        score=_number(row, score) if score and not label else None,
        group_a=groups.first(read_name(row, "group_a")),
        group_b=groups.first(read_name(row, "group_b")),
        tfidf=None if row.fields.get("tfidf") is None else _number(row, "tfidf"),
        same_category=_boolean(row, "same_category"),
        inclusion_probability=inclusion_probability(row),
        tier=next((tier for tier in get_args(Tier) if row.fields.get("tier") == tier), None),
    )


def _texts(row: Row) -> tuple[str, str]:
    if names := text_names(row.fields):
        return require_text(row, names[0]), require_text(row, names[1])
    raise InputError(f"{row.where}: got fields {row.names}, {NEED_TEXTS}")


def text_names(names: Collection[str]) -> tuple[str, str] | None:
    """Return which of a pair's columns hold its two texts; None if they are missing."""
    # A column that was renamed to one of our names must not give way to two others.
    is_half = len({"text_a", "text_b"}.intersection(names)) == 1
    aliases = () if is_half else _TEXT_ALIASES
    return next(((name_a, name_b) for name_a, name_b in aliases if name_a in names and name_b in names), None)


def _label(row: Row, field: str, options: ReadOptions, others: Counter[str]) -> int:
    """Return the label that the value means; count one that is negative only because it is not listed as positive."""
    value = row.fields[field]
    word = label_word(value)
    if word in options.positive or word in options.negative:
        return int(word in options.positive)
    # Where the words are numbers, 0 and 1 are words like the others.
    has_own_numbers = any(one in _BOOLEANS or one.isdecimal() for one in options.positive | options.negative)
    if word in _BOOLEANS and not has_own_numbers:
        return int(_BOOLEANS[word])
    is_word = not isinstance(value, list | dict) and word not in MISSING and word != "-"
    if options.positive and not options.negative and is_word:
        others[word] += 1
        return 0
    need = "need 0 or 1, or --label positive=WORD,WORD to say which labels mean the same"
    if options.negative:
        need = "need 0, 1 or a label that --label positive=... or negative=... lists"
    raise InputError(f"{row.where}: got {field} {value!r:.60}, {need} (a graded similarity goes into 'score')")


def label_word(value: object) -> str:
    """Return how a label is compared: by the key of its text, a whole number without decimals."""
    word = text_key(str(value))
    try:
        number = float(word)
    except ValueError:
        return word
    return str(int(number) if number.is_integer() else number)


def _boolean(row: Row, field: str) -> bool | None:
    value = row.fields.get(field)
    if value is not None and label_word(value) not in _BOOLEANS:
        raise InputError(f"{row.where}: got {field} {value!r}, need true or false")
    return None if value is None else _BOOLEANS[label_word(value)]


def optional_number(row: Row, field: str) -> float | None:
    """Return the finite number of the field; None where the row has no value for it."""
    return None if row.fields.get(field) in (None, "") else _number(row, field)


def inclusion_probability(row: Row) -> float | None:
    """Return the probability with which the pair of the row came into a sample; None where the row tells none."""
    number = optional_number(row, "inclusion_probability")
    if number is not None and not LEAST_PROBABILITY <= number <= 1:
        need = f"need a number from {LEAST_PROBABILITY:g} to 1"
        raise InputError(f"{row.where}: got inclusion_probability {number:g}, {need}")
    return number


def _number(row: Row, field: str) -> float:
    try:
        number = float(row.fields[field])
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise InputError(f"{row.where}: got {field} {row.fields[field]!r}, need a finite number")
    return number
