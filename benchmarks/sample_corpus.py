"""Write the helpdesk sample as a corpus, with and without its categories, for `training_settings.py`.

A quarter of the groups is held out as test-unseen. Other documents of the remaining groups are held out as dev and
test-seen, and the rest is the corpus. In each set, both classes have the same distribution of TF-IDF cosines.
"""

import argparse
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from harness import write_jsonl
from target_pairs import target_pairs

from simile.artifacts.reading import read_rows

SAMPLE = Path(__file__).parent.parent / "examples" / "helpdesk" / "documents.jsonl"
UNSEEN_SHARE = 0.25
"""Share of the groups in test-unseen."""
SEEN_SHARES = {"dev": 0.15, "test-seen": 0.25}
"""Shares of the documents of each remaining group."""
PAIRS = 4000
"""Maximum number of pairs per held-out set."""

Row = dict[str, Any]


def main() -> None:
    """Write ``helpdesk`` and ``helpdesk-one-category`` into a folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="DIR")
    out = parser.parse_args().out
    sets = split_sample([row.fields for row in read_rows(SAMPLE)])
    for corpus in ("helpdesk", "helpdesk-one-category"):
        for name, rows in sets.items():
            write_jsonl(out / corpus / f"{name}.jsonl.gz", rows)
        sets["corpus"] = [{**row, "category": None} for row in sets["corpus"]]


def split_sample(documents: Sequence[Row]) -> dict[str, list[Row]]:
    """Return the documents of the corpus, and the labelled pairs of dev, test-seen and test-unseen."""
    rng = np.random.default_rng(0)
    by_group: dict[str, list[Row]] = defaultdict(list)
    for i in rng.permutation(len(documents)):
        by_group[documents[i]["group"]].append(documents[i])
    groups = [str(group) for group in rng.permutation(sorted(by_group))]
    num_unseen = round(UNSEEN_SHARE * len(groups))
    parts: dict[str, list[Row]] = {"corpus": [], **{name: [] for name in SEEN_SHARES}}
    for group in groups[num_unseen:]:
        rest = by_group[group]
        for name, share in SEEN_SHARES.items():
            num = round(share * len(by_group[group]))
            parts[name] += rest[:num]
            rest = rest[num:]
        parts["corpus"] += rest
    parts["test-unseen"] = [row for group in groups[:num_unseen] for row in by_group[group]]
    corpus = parts.pop("corpus")
    return {"corpus": corpus, **{name: _labelled_pairs(rows, rng) for name, rows in parts.items()}}


def _labelled_pairs(documents: Sequence[Row], rng: np.random.Generator) -> list[Row]:
    texts = [row["text"] for row in documents]
    names, group_D = np.unique([row["group"] for row in documents], return_inverse=True)
    _, category_D = np.unique([row["category"] for row in documents], return_inverse=True)
    return target_pairs(texts, group_D, category_D, PAIRS, rng, names.tolist())


if __name__ == "__main__":
    main()
