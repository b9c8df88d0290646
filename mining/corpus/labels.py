"""The groups and categories of all documents of one pass: their names, and the texts that are in several groups.

Shape suffixes: N = documents with a label, G = groups.
"""

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from simile.artifacts import Document, Names, text_key

_PLURAL = {"group": "groups", "category": "categories"}


@dataclass(frozen=True, slots=True)
class Contradictions:
    """Texts that are in several groups, so that a pair of texts of these groups need not be negative."""

    num_texts: int
    groups: tuple[tuple[str, ...], ...]
    """The groups of each such text; texts of the same groups are listed once."""


class Labels:
    """What all documents together say about the labels of each one; pass each through `settled` once."""

    def __init__(self) -> None:
        self._names = {"group": Names("group"), "category": Names("category")}
        self._codes: dict[str, dict[str, int]] = {"group": {}, "category": {}}
        # A million documents as objects would take more memory than the sample that is mined from.
        self._key_N = array("q")
        self._codes_N = {"group": array("q"), "category": array("q")}
        self.num_without = {"group": 0, "category": 0}

    def settled(self, document: Document) -> Document:
        """Return the document with the first spelling of its group and category, and count it."""
        group, category = (self._names[kind].first(getattr(document, kind)) for kind in ("group", "category"))
        self._key_N.append(hash(text_key(document.text)))
        for kind, name in (("group", group), ("category", category)):
            codes = self._codes[kind]
            self._codes_N[kind].append(-1 if name is None else codes.setdefault(name, len(codes)))
            self.num_without[kind] += name is None
        is_same = (document.group, document.category) == (group, category)
        return document if is_same else replace(document, group=group, category=category)

    @property
    def kind(self) -> str:
        """The label that says which documents mean the same: the group, or the category where none has a group."""
        return "group" if self._codes["group"] else "category"

    @cached_property
    def contradictions(self) -> Contradictions:
        """The texts that are in several groups (or categories), once all documents have passed."""
        key_N, code_N = np.array(self._key_N), np.array(self._codes_N[self.kind])
        order = np.lexsort((code_N, key_N))
        order = order[code_N[order] >= 0]
        key_N, code_N = key_N[order], code_N[order]
        is_new_N = np.ones(len(order), dtype=bool)
        is_new_N[1:] = (np.diff(key_N) != 0) | (np.diff(code_N) != 0)
        key_N, code_N = key_N[is_new_N], code_N[is_new_N]
        _, start, num = np.unique(key_N, return_index=True, return_counts=True)
        several = np.flatnonzero(num > 1).tolist()
        # Python's hashes, and with them the order of the keys, differ from run to run.
        codes = sorted({tuple(code_N[start[i] : start[i] + num[i]].tolist()) for i in several})
        names = list(self._codes[self.kind])
        return Contradictions(len(several), tuple(tuple(names[code] for code in of_text) for of_text in codes))

    def notes(self) -> Iterator[str]:
        """Yield, for the user, what is doubtful about the labels."""
        for names in self._names.values():
            yield from names.notes()
        size_G = np.bincount(np.array(self._codes_N[self.kind]) + 1)[1:]
        if len(size_G) and size_G.max() > len(self._key_N) / 2:
            name = list(self._codes[self.kind])[size_G.argmax()]
            share = f"{size_G.max():,} of {len(self._key_N):,} documents"
            yield f"{share} are of {self.kind} {name!r}: check that they all mean the same"
        if self.contradictions.num_texts:
            a, b, *_ = self.contradictions.groups[0]
            num, several = self.contradictions.num_texts, _PLURAL[self.kind]
            yield (
                f"{num:,} texts are in two {several} or more, for example in {a!r} and {b!r}: "
                f"no negative pair is made of two {several} that share a text"
            )
