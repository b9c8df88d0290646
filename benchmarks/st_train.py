"""Fine-tune with sentence-transformers as its users do, for `training_settings.py` and `learning_curve.py`.

From documents, positive pairs are drawn at random within the groups; every document is an anchor once before any is one
again. The loss is multiple negatives ranking with in-batch negatives, for one epoch with a learning rate of 5e-5.
Labelled pairs (``--pairs``) are trained on as they are: CoSENT, three epochs, 2e-5. Both train all weights with batches
of 32 and a learning rate that rises over the first tenth of the steps.
"""

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from st_mine import draw_positives, usable_documents

from simile.artifacts import read_pairs, require_labels
from training.baseline import make_baseline
from training.torch_encoder import load_encoder

MAX_POSITIVES, POSITIVES_PER_DOCUMENT = 7_000, 3
"""Positive pairs are drawn up to the smaller of the two numbers."""
BATCH_SIZE = 32


@dataclass(frozen=True, slots=True)
class Recipe:
    """A loss and its settings, and the columns that it reads."""

    loss: str
    learning_rate: float
    epochs: int
    sampler: str
    columns: dict[str, Sequence[Any]]


def main() -> None:
    """Write the tuned encoder as a bundle."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("documents", type=Path, nargs="?", metavar="DOCUMENTS")
    source.add_argument("--pairs", type=Path, metavar="PAIRS", help="labelled pairs, in place of documents")
    parser.add_argument("--out", type=Path, required=True, metavar="BUNDLE")
    parser.add_argument("--held-out", type=Path, action="append", default=[], metavar="PAIRS")
    parser.add_argument(
        "--positives",
        type=int,
        metavar="N",
        help=f"default: {MAX_POSITIVES:,} or {POSITIVES_PER_DOCUMENT} per document, whichever is fewer",
    )
    parser.add_argument("--base", default="bundled:minilm", help="base encoder (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max-length", type=int, help="tokens of a text (default: the encoder's own)")
    args = parser.parse_args()
    if args.pairs and (args.held_out or args.positives):
        parser.error("got --pairs with --held-out or --positives, which need DOCUMENTS")
    if args.pairs:
        recipe = from_pairs(args.pairs)
    else:
        recipe = from_documents(args.documents, args.held_out, args.positives, args.seed)
    with tempfile.TemporaryDirectory() as folder:
        fine_tune(recipe, args.base, args.max_length, args.seed, Path(folder))
        make_baseline(f"{folder}/model", args.out, max_length=args.max_length)


def from_documents(path: Path, held_out: Sequence[Path], num: int | None, seed: int) -> Recipe:
    """Return multiple negatives ranking on random positive pairs of the documents' groups."""
    documents = usable_documents(path, held_out)
    num = num or min(MAX_POSITIVES, POSITIVES_PER_DOCUMENT * len(documents))
    anchors, partners = zip(*draw_positives(documents, num, np.random.default_rng(seed)), strict=True)
    columns = {"anchor": anchors, "positive": partners}
    return Recipe("MultipleNegativesRankingLoss", 5e-5, 1, "no_duplicates", columns)


def from_pairs(path: Path) -> Recipe:
    """Return CoSENT on labelled or graded pairs."""
    pairs = read_pairs(path)
    require_labels(pairs, path)
    texts_a, texts_b = zip(*pairs.texts, strict=True)
    columns = {"sentence1": texts_a, "sentence2": texts_b, "label": pairs.target_P.tolist()}
    return Recipe("CoSENTLoss", 2e-5, 3, "batch_sampler", columns)


def fine_tune(recipe: Recipe, base: str, max_length: int | None, seed: int, folder: Path) -> None:
    """Write the tuned encoder into ``folder/model``."""
    from datasets import Dataset
    from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
    from sentence_transformers.sentence_transformer import losses

    model = load_encoder(base, max_length=max_length).model
    dataset = Dataset.from_dict(recipe.columns)
    trainer = SentenceTransformerTrainer(
        model=model,
        args=SentenceTransformerTrainingArguments(
            output_dir=str(folder / "checkpoints"),
            num_train_epochs=recipe.epochs,
            per_device_train_batch_size=BATCH_SIZE,
            learning_rate=recipe.learning_rate,
            warmup_steps=recipe.epochs * len(dataset) // (10 * BATCH_SIZE),
            batch_sampler=recipe.sampler,
            seed=seed,
            save_strategy="no",
            report_to="none",
            logging_steps=20,
        ),
        train_dataset=dataset,
        loss=getattr(losses, recipe.loss)(model),
    )
    trainer.train()
    model.save_pretrained(str(folder / "model"), create_model_card=False)


if __name__ == "__main__":
    main()
