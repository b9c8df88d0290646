"""How long a training step takes on this machine, found before the first one."""

import time
from typing import Any

import torch
from sentence_transformers import SentenceTransformerTrainer

from training.sampler import pair_lengths


def seconds_a_step(trainer: SentenceTransformerTrainer) -> float:
    """Return how long forward and backward of a usual batch take, in seconds.

    Weights, gradients, random state and the training mode are afterwards what they were: the training that follows is
    the same as without.
    """
    short, long = _batches(trainer)
    devices = range(torch.cuda.device_count())
    was_training = trainer.model.training
    trainer.model.train()
    with torch.random.fork_rng(devices):
        # The first is not counted: it also allocates memory and chooses kernels.
        _step(trainer, short)
        start = time.monotonic()
        for batch in (short, long):
            _step(trainer, batch)
        if devices:
            torch.cuda.synchronize()
        elapsed_s = time.monotonic() - start
    trainer.model.train(was_training)
    trainer.loss.zero_grad()
    return elapsed_s / 2


def _batches(trainer: SentenceTransformerTrainer) -> list[list[dict[str, Any]]]:
    """Return two batches of like length, as the sampler makes them: a quarter of the pairs is shorter, and longer."""
    dataset, size = trainer.train_dataset, trainer.args.train_batch_size
    lengths = pair_lengths(dataset)
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    starts = [int(max(0, len(order) - size) * share) for share in (0.25, 0.75)]
    return [[dataset[i] for i in order[start : start + size]] for start in starts]


def _step(trainer: SentenceTransformerTrainer, rows: list[dict[str, Any]]) -> None:
    device = trainer.args.device
    batch = {
        name: value.to(device) if isinstance(value, torch.Tensor) else value
        for name, value in trainer.data_collator(rows).items()
    }
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=trainer.args.bf16):
        losses = trainer.loss(*trainer.collect_features(batch))
    torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
