"""Names of groups and categories: which of them are equal, and which stand for a missing value."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from simile.artifacts.rows import Row
from simile.artifacts.texts import group_key
from simile.errors import InputError

MISSING = frozenset(
    (
        *("", "#n/a", "#n/a n/a", "#na", "-1.#ind", "-1.#qnan", "-nan", "1.#ind", "1.#qnan"),
        *("<na>", "n/a", "na", "nan", "none", "null"),
    )
)
"""What pandas writes for a missing value, or reads as one (``read_csv``, its parameter ``na_values``), as keys."""
_DOUBTFUL = frozenset(["-", "--", ".", "?", "(null)", "\\n", "missing", "n.a.", "nat", "nil", "undefined", "unknown"])
"""Keys of names that probably stand for a missing value."""


class Names:
    """The names of groups (or of categories) in one file; those with the same `group_key` are one.

    Names that stand for a missing value are none.
    """

    def __init__(self, kind: str) -> None:
        self._kind = kind
        """What the names are of, for a note."""
        self._first_of_key: dict[str, str] = {}
        self._first: dict[str, str | None] = {}
        """The first spelling of each name; None for a missing value."""
        self._missing: Counter[str] = Counter()

    def first(self, name: str | None) -> str | None:
        """Return the first spelling of the name; None where it stands for a missing value, which is counted."""
        if name is None:
            return None
        if (first := self._known(name)) is None:
            self._missing[name] += 1
        return first

    @property
    def spellings(self) -> list[str]:
        """All spellings, the first one first."""
        return list(self._first)

    @property
    def missing(self) -> dict[str, int]:
        """How often each name that stands for a missing value occurred."""
        return dict(self._missing)

    def join(self, spellings: Iterable[str], missing: Mapping[str, int]) -> None:
        """Add the names of rows that follow those seen so far."""
        for name in spellings:
            self._known(name)
        self._missing.update(missing)

    def _known(self, name: str) -> str | None:
        if name not in self._first:
            key = group_key(name)
            self._first[name] = None if key in MISSING else self._first_of_key.setdefault(key, name)
        return self._first[name]

    def notes(self) -> Iterator[str]:
        """Yield, for the user, what was joined and what was read as missing, with examples."""
        joined = [(name, first) for name, first in self._first.items() if first not in (None, name)]
        if joined:
            yield (
                f"{len(joined):,} spellings of a {self._kind} differ from another one only in case, white space, "
                f"Unicode form or '.0', and were joined with it: {joined[0][0]!a} with {joined[0][1]!a}, for example"
            )
        if self._missing:
            example, _ = self._missing.most_common(1)[0]
            yield (
                f"{self._missing.total():,} names of a {self._kind} stand for a missing value and were read as one: "
                f"{example!r}, for example"
            )
        for key in sorted(_DOUBTFUL & self._first_of_key.keys()):
            yield f"{self._kind} {self._first_of_key[key]!r} looks like a missing value: leave the field empty if it is"


def read_name(row: Row, field: str) -> str | None:
    """Return the name in the field, None without one, and raise an `InputError` for what is none."""
    value = row.fields.get(field)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    # A column of whole numbers with missing values is read and written as one of floats.
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not (isinstance(value, (str, int)) and str(value).strip()):
        raise InputError(f"{row.where}: got {field} {value!r:.60}, need a non-empty string or a whole number")
    return str(value)
