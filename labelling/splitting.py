"""The labelled pairs in three files, no two of which share a text: target, calibration and test.

Pairs that share a text, by `text_key`, are connected, and connected pairs go into one file. Files get their share of
each class: the components, those with the rarer class first and large ones before small ones, go one by one to the
file that lacks most of what they hold (Sechidis, Tsoumakas & Vlahavas 2011, doi:10.1007/978-3-642-23808-6_10). Pairs
that were chosen by their scores represent nothing, so only the target takes them.
"""

import random
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from labelling.merging import MergedPair
from simile.artifacts import MIN_CALIBRATION_PAIRS
from simile.artifacts.texts import text_key

PARTS = ("target", "calibration", "test")
NEEDED = {"target": 2, "calibration": MIN_CALIBRATION_PAIRS, "test": 2}
"""The fewest pairs of each file."""
_SEED = 0


def split(pairs: Sequence[MergedPair], shares: Mapping[str, float]) -> dict[str, list[MergedPair]]:
    """Return the labelled pairs of each of `PARTS` by their shares of the random part, which need not add up to 1.

    A pair that was chosen by its score, and shares a text with one of calibration or test, is in no file.
    """
    labelled = [one for one in pairs if one.label is not None]
    components = _components(labelled)
    random.Random(_SEED).shuffle(components)
    counts = [Counter(one.label or 0 for one in component if one.is_random) for component in components]
    total = sum(counts, Counter[int]())
    rare = min((0, 1), key=lambda label: total[label])
    order = sorted(range(len(components)), key=lambda i: (counts[i][rare] == 0, -sum(counts[i].values())))
    wanted = {part: {label: shares[part] / sum(shares.values()) * total[label] for label in (0, 1)} for part in PARTS}
    files: dict[str, list[MergedPair]] = {part: [] for part in PARTS}
    for i in order:
        gain = {part: sum(wanted[part][label] * num for label, num in counts[i].items()) for part in PARTS}
        part = max(PARTS, key=gain.__getitem__) if counts[i] else "target"
        for label, num in counts[i].items():
            wanted[part][label] -= num
        files[part] += [one for one in components[i] if one.is_random or part == "target"]
    return files


def shortage(files: Mapping[str, Sequence[MergedPair]], num_random: int) -> list[str]:
    """Return one line for each file that cannot be used yet, with the number of labels that it probably needs.

    ``num_random`` is the number of labelled pairs of the random part, of which the files get their shares.
    """
    lines = []
    for part, pairs in files.items():
        counts = Counter(one.label for one in pairs)
        few = min(counts[0], counts[1])
        # As many labels more as would bring the file what it lacks, if they fall as those so far.
        ratio = max(NEEDED[part] / max(len(pairs), 1), 1 / few if few else 2)
        if not few or ratio > 1:
            got = f"got {counts[1]} same and {counts[0]} different pairs"
            need = f"need at least {NEEDED[part]} pairs and one of each class"
            more = max(round((ratio - 1) * max(num_random, 1)), 1)
            lines.append(f"{part}.jsonl: {got}, {need}: label about {more} more random pairs")
    return lines


def _components(pairs: Sequence[MergedPair]) -> list[list[MergedPair]]:
    """Return the pairs that are connected by shared texts, together."""
    parent: dict[str, str] = {}

    def root(text: str) -> str:
        parent.setdefault(text, text)
        while parent[text] != text:
            parent[text] = parent[parent[text]]
            text = parent[text]
        return text

    keys = [(text_key(one.pair.text_a), text_key(one.pair.text_b)) for one in pairs]
    for key_a, key_b in keys:
        parent[root(key_a)] = root(key_b)
    components: dict[str, list[MergedPair]] = defaultdict(list)
    for one, (key_a, _) in zip(pairs, keys, strict=True):
        components[root(key_a)].append(one)
    return list(components.values())
