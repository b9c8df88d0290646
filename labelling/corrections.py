"""Labels corrected by the answers of people, in a second set of pairs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from labelling.answers import LABELS, Answer
from simile.artifacts import Pair, PairSet
from simile.artifacts.sampled_pairs import SampledPair
from simile.errors import InputError


@dataclass(frozen=True, slots=True)
class Corrected:
    """The pairs in their order, with the labels that people gave, and what became of the answers."""

    pairs: tuple[Pair, ...]
    num_changed: int
    num_confirmed: int
    num_undecided: int
    """Pairs that keep their label because nobody gave one, or because people gave different answers."""
    num_unknown: int
    """Answered pairs that the file does not have."""


def correct(pairs: PairSet, answers: Sequence[Answer]) -> Corrected:
    """Return the pairs with the label of each that was answered; rows of the same two texts get the same label.

    Raises:
        InputError: the pairs have no labels, or no answer is about any of them.
    """
    if pairs.is_graded or not pairs.is_labelled:
        raise InputError(f"{pairs.name}: got pairs without labels, need 'label' 0 or 1 in each")
    choices: dict[str, set[str]] = {}
    for answer in answers:
        choices.setdefault(answer.pair, set()).add(answer.answer)
    keys = [SampledPair(row.text_a, row.text_b).key for row in pairs.rows]
    if not choices.keys() & set(keys):
        raise InputError(f"{pairs.name}: got no answer to any of its pairs, need the answers to an audit of this file")
    labels = {key: LABELS[choice] for key, given in choices.items() if (choice := _decided(given))}
    new = [labels.get(key) for key in keys]
    rows = [row if label is None else replace(row, label=label) for row, label in zip(pairs.rows, new, strict=True)]
    num_changed = sum(row.label != old.label for row, old in zip(rows, pairs.rows, strict=True))
    return Corrected(
        pairs=tuple(rows),
        num_changed=num_changed,
        num_confirmed=sum(label is not None for label in new) - num_changed,
        num_undecided=sum(key in choices and label is None for key, label in zip(keys, new, strict=True)),
        num_unknown=len(choices.keys() - set(keys)),
    )


def _decided(given: set[str]) -> str | None:
    """Return the choice of all who gave one, if it is a label; *skip* is none."""
    answers = given - {"skip"}
    return next(iter(answers & LABELS.keys()), None) if len(answers) == 1 else None
