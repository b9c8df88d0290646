"""Our own general English: what an encoder is to keep, and what it learns near misses from beside its own pairs.

All of it was written for this project, text by text.
"""

from pathlib import Path

import numpy as np

from simile.artifacts import Pair, read_labelled_pairs

_FOLDER = Path(__file__).parent


def general_clusters() -> list[list[str]]:
    """Return general sentences, those of a cluster together: from a paraphrase to a loosely related one."""
    text = (_FOLDER / "general_clusters.txt").read_text(encoding="utf-8")
    return [cluster.splitlines() for cluster in text.strip().split("\n\n")]


def general_pairs(num_pairs: int, seed: int) -> list[Pair]:
    """Return so many hard pairs of 354 groups in 59 fields of life, or all 5,891; the same for the same seed.

    `simile mine` found them in 3,468 texts, with the untouched MiniLM as its baseline: where two texts have as many
    words in common, they are as often of one group as of two. Of those with long texts, a third is left.
    """
    rows = read_labelled_pairs(_FOLDER / "general_pairs.jsonl").rows
    order = np.random.default_rng(seed).permutation(len(rows))
    return [rows[i] for i in order[:num_pairs]]
