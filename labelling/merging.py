"""One label per pair from the answers of several people, and the pairs that somebody has to decide.

A pair's label is that of more than half of the people who answered it, where *unsure* is an answer and *skip* is none.
Without such a majority the pair is undecided. The answers of an adjudicator count alone.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from labelling.answers import LABELS, Answer
from simile.artifacts import SampledPair


@dataclass(frozen=True, slots=True)
class MergedPair:
    """A pair, what was answered, and the label that follows."""

    pair: SampledPair
    answers: Mapping[str, str] = field(default_factory=dict)
    """The answer of each person by name, without *skip*."""
    label: int | None = None
    """None where the pair is undecided."""
    part: str = "random"
    """Why the pair was shown. Only the ``random`` part represents the traffic."""

    @property
    def is_random(self) -> bool:
        """Whether the pair represents the sample, and through it the traffic."""
        return self.part == "random"

    @property
    def is_disputed(self) -> bool:
        """Whether two people gave different answers."""
        return len(set(self.answers.values())) > 1

    def row(self, **values: Any) -> dict[str, Any]:
        """Return the pair as a row of a file: its texts, ``values``, and how it came into the sample."""
        pair = self.pair
        scores = {"bundle_score": pair.bundle_score, "baseline_score": pair.baseline_score, "stratum": pair.stratum}
        known = {name: value for name, value in scores.items() if value is not None}
        texts = {"text_a": pair.text_a, "text_b": pair.text_b}
        return texts | values | known | {"inclusion_probability": pair.inclusion_probability, "part": self.part}


def merge(
    answers: Iterable[Answer], adjudicated: Iterable[Answer] = (), sample: Mapping[str, SampledPair] | None = None
) -> tuple[MergedPair, ...]:
    """Return every answered pair once, in the order of its first answer.

    Args:
        answers: what people answered.
        adjudicated: answers that override those of all others.
        sample: the sampled pairs by key, for their scores; answers tell everything else.
    """
    by_pair: dict[str, list[Answer]] = defaultdict(list)
    for answer in answers:
        by_pair[answer.pair].append(answer)
    decided = {answer.pair: answer for answer in adjudicated if answer.answer != "skip"}
    for key, answer in decided.items():
        if key not in by_pair:
            by_pair[key].append(answer)
    return tuple(_merged(given, decided.get(key), (sample or {}).get(key)) for key, given in by_pair.items())


def with_response(pairs: Sequence[MergedPair], sample: Iterable[SampledPair]) -> tuple[MergedPair, ...]:
    """Return the pairs with the probability of being sampled *and* labelled, given the whole sample.

    The labelled pairs of the random part are a random subset of the sample. In each stratum their share of the sample
    is counted, so that the weights of a stratum's labelled pairs add up to the size that it has in the traffic.
    """
    sampled = Counter(_stratum(pair) for pair in sample)
    labelled = Counter(_stratum(one.pair) for one in pairs if one.is_random and one.label is not None)

    def responded(one: MergedPair) -> MergedPair:
        stratum = _stratum(one.pair)
        if not one.is_random or one.label is None or not sampled[stratum]:
            return one
        share = min(labelled[stratum] / sampled[stratum], 1)
        inclusion = one.pair.inclusion_probability * share
        return replace(one, pair=replace(one.pair, inclusion_probability=inclusion))

    return tuple(map(responded, pairs))


def num_replaced(answers: Iterable[Answer]) -> int:
    """Return how many answers differ from an earlier one of the same person to the same pair, which they replace."""
    last: dict[tuple[str, str], str] = {}
    num = 0
    for answer in answers:
        key = answer.annotator, answer.pair
        num += last.get(key, answer.answer) != answer.answer
        last[key] = answer.answer
    return num


def labels_by_annotator(answers: Iterable[Answer]) -> dict[str, dict[str, int]]:
    """Return the labels by annotator and then by pair; answers without a label are missing."""
    labels: dict[str, dict[str, int]] = defaultdict(dict)
    for answer in answers:
        if answer.answer in LABELS:
            labels[answer.annotator][answer.pair] = LABELS[answer.answer]
    return dict(sorted(labels.items()))


def _stratum(pair: SampledPair) -> str | float:
    return pair.inclusion_probability if pair.stratum is None else pair.stratum


def _merged(answers: Sequence[Answer], decided: Answer | None, sampled: SampledPair | None) -> MergedPair:
    first = answers[0]
    pair = sampled or SampledPair(
        first.text_a, first.text_b, stratum=first.stratum, inclusion_probability=first.inclusion_probability
    )
    given = {answer.annotator: answer.answer for answer in answers if answer.answer != "skip"}
    counts = Counter(given.values())
    majority, num = counts.most_common(1)[0] if counts else ("unsure", 0)
    choice = decided.answer if decided else majority if 2 * num > len(given) else "unsure"
    # A pair of somebody's random part is one of the sample's random order, whoever else was shown it for its score.
    parts = {answer.part for answer in answers}
    return MergedPair(pair, given, LABELS.get(choice), "random" if "random" in parts else first.part)
