"""Fine-tune with sentence-transformers as its users do, for `training_settings.py`.

Positive pairs are drawn at random from the documents' groups; every document is an anchor once before any is one again.
The loss is multiple negatives ranking with in-batch negatives; all weights are trained for one epoch with batches of 32
and a learning rate of 5e-5.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
from st_mine import draw_positives, usable_documents

from training.baseline import make_baseline
from training.torch_encoder import load_encoder


def main() -> None:
    """Write the tuned encoder as a bundle."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("documents", type=Path, metavar="DOCUMENTS")
    parser.add_argument("--out", type=Path, required=True, metavar="BUNDLE")
    parser.add_argument("--held-out", type=Path, action="append", default=[], metavar="PAIRS")
    parser.add_argument("--positives", type=int, default=7_000, metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max-length", type=int, help="tokens of a text (default: the encoder's own)")
    args = parser.parse_args()
    documents = usable_documents(args.documents, args.held_out)
    positives = draw_positives(documents, args.positives, np.random.default_rng(args.seed))
    with tempfile.TemporaryDirectory() as folder:
        fine_tune(positives, args.max_length, args.seed, Path(folder))
        make_baseline(f"{folder}/model", args.out, max_length=args.max_length)


def fine_tune(positives: list[tuple[str, str]], max_length: int | None, seed: int, folder: Path) -> None:
    """Write the tuned encoder into ``folder/model``."""
    from datasets import Dataset
    from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
    from sentence_transformers.training_args import BatchSamplers

    model = load_encoder("bundled:minilm", max_length=max_length).model
    anchors, partners = zip(*positives, strict=True)
    trainer = SentenceTransformerTrainer(
        model=model,
        args=SentenceTransformerTrainingArguments(
            output_dir=str(folder / "checkpoints"),
            num_train_epochs=1,
            per_device_train_batch_size=32,
            learning_rate=5e-5,
            warmup_steps=len(positives) // 320,
            batch_sampler=BatchSamplers.NO_DUPLICATES,
            seed=seed,
            save_strategy="no",
            report_to="none",
            logging_steps=20,
        ),
        train_dataset=Dataset.from_dict({"anchor": anchors, "positive": partners}),
        loss=MultipleNegativesRankingLoss(model),
    )
    trainer.train()
    model.save_pretrained(str(folder / "model"), create_model_card=False)


if __name__ == "__main__":
    main()
