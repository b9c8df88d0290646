"""Measure how fast Simile trains, beside sentence-transformers' own trainer with the same loss on the same pairs.

Each row runs in a process of its own, one after the other. A stopped benchmark resumes from its results in --results.
The machine should be idle.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from harness import Corpus, end_with_children, parser_of
from results_file import origin, replace_section, result_file, table, write_result
from st_mine import draw_positives, usable_documents

CORPORA = ("clinc150", "newsgroups20")
PEER = "sentence-transformers, fp32"
_WARM_UP_STEPS = 3
"""Steps of a training before the one that is measured: they allocate memory and choose kernels."""
_NEVER = 2**40


@dataclass(frozen=True, slots=True)
class Row:
    """What is measured: the peer, or Simile without one of its means."""

    is_peer: bool = False
    bf16: bool = True
    sorts_by_length: bool = True
    splits_batches: bool = True
    has_quick_dropout: bool = True
    has_attention_dropout: bool = False
    has_fused_attention: bool = False
    keeps_memory: bool = True


ROWS: Mapping[str, Row] = {
    PEER: Row(is_peer=True, bf16=False),
    "sentence-transformers, bf16": Row(is_peer=True),
    "Simile": Row(),
    "Simile in fp32": Row(bf16=False),
    "Simile without batches of similar length": Row(sorts_by_length=False),
    "Simile without passes by tokens": Row(splits_batches=False),
    "Simile with torch's dropout": Row(has_quick_dropout=False),
    "Simile with dropout of attention weights": Row(has_attention_dropout=True),
    "Simile with torch's fused attention": Row(has_fused_attention=True),
    "Simile without kept memory": Row(keeps_memory=False),
}
ABOUT = """\
Multiple negatives ranking on {pairs:,} random positive pairs of the documents' groups: one epoch with batches of
{batch_size}, all weights of `{base}`, texts cut at {max_length} tokens. The peer is sentence-transformers' trainer with
its defaults, and with `bf16=True`. Simile trains with `loss: ranking`, which ranks in both directions, and `precision:
auto`{precision}. Each row below it switches off one of its means: bf16, batches of similar length, passes of 1,024
tokens at most in place of one padded pass, a fast generator for dropout, the omission of the dropout of attention
weights, attention by separate operators, and memory that is kept from step to step. The time is that of the training
alone, with tokenization and without checkpoints. A text counts once per pair that it is in."""


def main() -> None:
    """Measure the rows without a result, and write the sections."""
    parser = parser_of(__doc__, CORPORA)
    parser.add_argument("--base", default="bundled:minilm", help="or bundled:mpnet (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--max-length", type=int, default=256, help="tokens of a text (default: %(default)s)")
    parser.add_argument("--measure", choices=ROWS, help="only print the figures of one row on one corpus, as JSON")
    args = parser.parse_args()
    end_with_children()
    if args.measure:
        print(json.dumps(measure(ROWS[args.measure], Corpus(args.data / args.corpora[0]), args)))
        return
    for corpus in args.corpora:
        sizes = f"{args.steps}-steps-of-{args.batch_size}-pairs-{args.max_length}-tokens"
        results = args.results / "training-speed" / f"{corpus}-{args.base.rpartition(':')[2]}-{sizes}"
        for name in () if args.only_write else ROWS:
            if not (file := result_file(results, name)).is_file():
                write_result(file, _measured_apart(name, corpus))
        write_section(args, corpus, results)


def _measured_apart(name: str, corpus: str) -> dict[str, Any]:
    """Return the figures of a row, measured by another process."""
    command = [sys.executable, __file__, *sys.argv[1:], "--corpora", corpus, "--measure", name]
    print(f"$ {' '.join(command)}", file=sys.stderr, flush=True)
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def measure(row: Row, corpus: Corpus, args: argparse.Namespace) -> dict[str, Any]:
    """Return how long the row takes for the pairs."""
    import torch

    from simile.hardware import usable_cores
    from training.fit import prepare_process

    torch.set_num_threads(usable_cores())
    if not row.is_peer and row.keeps_memory:
        prepare_process()
    documents = usable_documents(corpus.documents, corpus.tests)
    num = args.steps * args.batch_size
    pairs = [(str(a), str(b)) for a, b in draw_positives(documents, num, np.random.default_rng(0))][:num]
    trainer_of = peer_trainer if row.is_peer else simile_trainer
    with tempfile.TemporaryDirectory() as folder:
        trainer_of(row, pairs[: _WARM_UP_STEPS * args.batch_size], args, Path(folder)).train()
        trainer = trainer_of(row, pairs, args, Path(folder))
        start = time.monotonic()
        trainer.train()
        seconds = time.monotonic() - start
    steps = trainer.state.global_step
    return {"seconds": seconds, "texts": 2 * len(pairs), "steps": steps, "bf16": bool(trainer.args.bf16)}


def peer_trainer(row: Row, pairs: Sequence[tuple[str, str]], args: argparse.Namespace, folder: Path) -> Any:
    """Return sentence-transformers' trainer, as its users make it."""
    import torch
    from datasets import Dataset
    from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    from training.torch_encoder import load_encoder

    model = load_encoder(args.base, max_length=args.max_length).model
    anchors, positives = zip(*pairs, strict=True)
    return SentenceTransformerTrainer(
        model=model,
        args=SentenceTransformerTrainingArguments(
            output_dir=str(folder),
            num_train_epochs=1,
            per_device_train_batch_size=args.batch_size,
            bf16=row.bf16,
            # Otherwise bf16 is refused without a GPU.
            use_cpu=not torch.cuda.is_available(),
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        ),
        train_dataset=Dataset.from_dict({"anchor": anchors, "positive": positives}),
        loss=MultipleNegativesRankingLoss(model),
    )


def simile_trainer(row: Row, pairs: Sequence[tuple[str, str]], args: argparse.Namespace, folder: Path) -> Any:
    """Return Simile's trainer of one epoch, without checkpoints."""
    from transformers.trainer_utils import SaveStrategy

    from simile.artifacts import Pair
    from training import fit, losses, sampler
    from training.config import TrainConfig
    from training.torch_encoder import load_encoder

    settings = {"base": args.base, "max_length": args.max_length, "batch_size": args.batch_size, "loss": "ranking"}
    config = TrainConfig(**settings, precision="auto" if row.bf16 else "fp32")
    if not row.sorts_by_length:
        sampler.BATCHES_SORTED_TOGETHER = 1
    if not row.splits_batches:
        losses.TOKENS_PER_PASS = _NEVER
    if row.has_fused_attention:
        fit.MAX_EAGER_TOKENS = 0
    if not row.has_quick_dropout:
        fit.quicken_dropout = lambda _: None
    encoder = load_encoder(args.base, max_length=args.max_length, attention_dropout=row.has_attention_dropout)
    rows = [Pair(text_a, text_b, label=1) for text_a, text_b in pairs]
    plan = fit.Fit(config, [range(len(rows))], fit.dataset_of(rows, folder / "pairs.arrow"), None, folder, None)
    trainer = fit.trainer_of(plan, encoder)
    trainer.args.save_strategy = SaveStrategy.NO
    return trainer


def write_section(args: argparse.Namespace, corpus: str, results: Path) -> None:
    """Write the section of a corpus: texts per second by row."""
    files = {name: result_file(results, name) for name in ROWS}
    rows = {name: json.loads(file.read_text()) for name, file in files.items() if file.is_file()}
    base = args.base.rpartition(":")[2]
    settings = f"--steps {args.steps} --batch-size {args.batch_size} --max-length {args.max_length}"
    options = f"--corpora {corpus} --base {args.base} {settings} --data DIR"
    parts = [origin(rows.values()), f"```\npython benchmarks/training_speed.py {options}\n```"]
    default = rows.get("Simile")
    precision = f" ({'bf16' if default['bf16'] else 'fp32'} on this machine)" if default else ""
    pairs = next((row["texts"] // 2 for row in rows.values()), args.steps * args.batch_size)
    about = ABOUT.format(**vars(args), pairs=pairs, precision=precision)
    parts.append(textwrap.fill(" ".join(about.split()), 120, break_long_words=False, break_on_hyphens=False))
    if rows:
        speeds = {name: row["texts"] / row["seconds"] for name, row in rows.items()}
        lines = [
            [name, f"{speed:,.0f}", f"{speed / speeds[PEER]:.2f}" if PEER in speeds else ""]
            for name, speed in speeds.items()
        ]
        parts += [
            f"### Training speed on {corpus}, {base}",
            table(["training", "texts per second", f"times {PEER}"], lines),
        ]
    replace_section(args.out, f"training-speed-{corpus}-{base}", "\n\n".join(parts))


if __name__ == "__main__":
    main()
