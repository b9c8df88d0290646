"""Small corpora for tests."""

import numpy as np

from simile.artifacts import Document

_ANIMALS = "ant bee cat dog elk fox gnu hen ibex jay kite lynx mole newt owl pig rat seal tern wolf"
WORDS = _ANIMALS.split()


def corpus(
    num_groups: int = 12, size: int = 12, *, category: str | None = "one", group: str | None = "g"
) -> list[Document]:
    """Return random texts; each group has words of its own in addition to those that all share."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(num_groups):
        for _ in range(size):
            words = [*rng.choice(WORDS, 4), *rng.choice([f"w{number}x{i}" for i in range(6)], 3)]
            name = f"{group}{number}" if group else None
            rows.append(Document(f"d{len(rows)}", " ".join(words), category, name))
    return rows
