"""Mine pairs with sentence-transformers' `mine_hard_negatives`, as its users do, for `mining_strategies.py`.

Anchors are drawn at random, each with a positive from its group. Negatives are mined with the settings that the
documentation recommends: ``relative_margin=0.05`` and ``sampling_strategy="top"`` (TopK-PercPos at 95 %). The function
does not know the groups, so each anchor keeps the hardest negative of another group. The documentation recommends at
most 10 negatives to train on. One is trained on here, but more are mined to choose it from, because most of the hardest
belong to the anchor's own group.
"""

import argparse
import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from harness import write_jsonl

from simile.artifacts import read_pairs, text_key
from simile.artifacts.reading import read_rows
from simile.files import whole_directory, write_whole
from training.torch_encoder import load_encoder

Row = dict[str, Any]

SETTINGS: dict[str, Any] = {"relative_margin": 0.05, "sampling_strategy": "top", "num_negatives": 50}
SPARE_ANCHORS = 1.5
"""Anchors drawn per anchor needed, since some get no negative from another group below the margin."""


def main() -> None:
    """Write ``pairs.jsonl`` and ``report.json`` into a folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("documents", type=Path, metavar="DOCUMENTS")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--held-out", type=Path, action="append", default=[], metavar="PAIRS")
    parser.add_argument("--pairs", type=int, default=10_000, metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max-length", type=int, help="tokens of a text (default: the encoder's own)")
    args = parser.parse_args()
    documents = usable_documents(args.documents, args.held_out)
    rng = np.random.default_rng(args.seed)
    positives = draw_positives(documents, math.ceil(SPARE_ANCHORS * args.pairs / 2), rng)
    rows = mine_with_sentence_transformers(positives, [document["text"] for document in documents], args.max_length)
    pairs, report = choose(rows, {document["text"]: str(document["group"]) for document in documents}, args.pairs // 2)
    with whole_directory(args.out) as folder:
        write_jsonl(folder / "pairs.jsonl", [pairs[i] for i in rng.permutation(len(pairs))])
        write_whole(folder / "report.json", json.dumps(report, indent=2) + "\n")


def usable_documents(path: Path, held_out: Sequence[Path]) -> list[Row]:
    """Return the documents of groups with at least two, without duplicates and held-out texts."""
    seen = {text_key(text) for file in held_out for pair in read_pairs(file).texts for text in pair}
    by_group: dict[str, list[Row]] = defaultdict(list)
    for document in (row.fields for row in read_rows(path)):
        key = text_key(document["text"])
        if document.get("group") is not None and key not in seen:
            seen.add(key)
            by_group[document["group"]].append(document)
    return [document for members in by_group.values() if len(members) > 1 for document in members]


def draw_positives(documents: Sequence[Row], num: int, rng: np.random.Generator) -> list[tuple[str, str]]:
    """Return pairs of documents of one group; every document is an anchor once before any is one again."""
    by_group: dict[str, list[int]] = defaultdict(list)
    for i, document in enumerate(documents):
        by_group[str(document["group"])].append(i)
    rounds = math.ceil(num / len(documents))
    anchors = np.concatenate([rng.permutation(len(documents)) for _ in range(rounds)])[:num]
    drawn = []
    for anchor in anchors:
        *others, last = by_group[str(documents[anchor]["group"])]
        partner = others[rng.integers(len(others))]
        # The last document replaces the anchor, which must not be its own partner.
        drawn.append((documents[anchor]["text"], documents[last if partner == anchor else partner]["text"]))
    return list(dict.fromkeys(drawn))


def mine_with_sentence_transformers(
    positives: Sequence[tuple[str, str]], corpus: list[str], max_length: int | None
) -> list[Row]:
    """Return the labelled pairs of `mine_hard_negatives`: per anchor positives, then negatives, hardest first."""
    from datasets import Dataset
    from sentence_transformers.util import mine_hard_negatives

    anchors, partners = zip(*positives, strict=True)
    model = load_encoder("bundled:minilm", max_length=max_length).model
    mined: list[Row] = mine_hard_negatives(
        Dataset.from_dict({"anchor": anchors, "text": partners}),
        model,
        corpus=corpus,
        output_format="labeled-pair",
        **SETTINGS,
    ).to_list()
    return mined


def choose(rows: Iterable[Row], group_of: Mapping[str, str], num: int) -> tuple[list[Row], Row]:
    """Return up to ``num`` positive and as many negative pairs, and counts of the negatives of the anchor's group."""
    positives: dict[str, list[str]] = defaultdict(list)
    negatives: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        (positives if row["label"] == 1 else negatives)[row["anchor"]].append(row["text"])
    kept = {a: [text for text in texts if group_of[text] != group_of[a]] for a, texts in negatives.items()}
    # Each anchor has as many pairs of each class, so that the anchor alone does not reveal the label.
    both = [(a, p, n) for a in positives for p, n in zip(positives[a], kept.get(a, []), strict=False)][:num]
    pairs: list[Row] = [
        {"text_a": a, "text_b": text, "label": label, "group_a": group_of[a], "group_b": group_of[text]}
        for a, positive, negative in both
        for text, label in ((positive, 1), (negative, 0))
    ]
    report: Row = {
        "settings": ", ".join(f"{name}={value!r}" for name, value in SETTINGS.items()),
        "anchors": len(positives),
        "anchors_with_negatives": len(negatives),
        "first_negatives_of_own_group": sum(group_of[texts[0]] == group_of[a] for a, texts in negatives.items()),
        "negatives": sum(map(len, negatives.values())),
        "negatives_of_own_group": sum(map(len, negatives.values())) - sum(map(len, kept.values())),
        "pairs": len(pairs),
    }
    return pairs, report


if __name__ == "__main__":
    main()
