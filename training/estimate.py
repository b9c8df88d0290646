"""The time that a training step takes on this machine, measured before the first one."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformerTrainer
from torch import nn

from training.sampler import pair_lengths


def seconds_per_step(trainer: SentenceTransformerTrainer) -> float:
    """Return the seconds that forward, backward and the optimizer take for a typical batch.

    Weights, gradients, random state and training mode are left unchanged, and so is the training that follows.
    """
    # Two batches as the sampler makes them: at the first and the third quartile of the pairs' length.
    dataset, size = trainer.train_dataset, trainer.args.train_batch_size
    lengths = pair_lengths(dataset)
    order = np.argsort(lengths, kind="stable")
    starts = [int(max(0, len(order) - size) * share) for share in (0.25, 0.75)]
    short, long = ([dataset[i] for i in order[start : start + size].tolist()] for start in starts)
    was_training = trainer.model.training
    trainer.model.train()
    with torch.random.fork_rng(range(torch.cuda.device_count())):
        # The first pass is not measured: it also allocates memory and chooses kernels.
        _step(trainer, short)
        passes_s = [_seconds(partial(_step, trainer, batch)) for batch in (short, long)]
    optimizer_s = _optimizer_seconds(trainer)
    trainer.model.train(was_training)
    trainer.loss.zero_grad()
    return sum(passes_s) / len(passes_s) + optimizer_s


def _step(trainer: SentenceTransformerTrainer, rows: list[dict[str, Any]]) -> None:
    batch = trainer._prepare_inputs(trainer.data_collator(rows))
    with torch.autocast(trainer.args.device.type, dtype=torch.bfloat16, enabled=trainer.args.bf16):
        losses = trainer.loss(*trainer.collect_features(batch))
    torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]


def _optimizer_seconds(trainer: SentenceTransformerTrainer) -> float:
    """Return the seconds that AdamW takes for a step, on copies of the trained weights."""
    copies = []
    for parameter in trainer.loss.parameters():
        if parameter.grad is not None:
            copies.append(nn.Parameter(parameter.detach().clone()))
            copies[-1].grad = parameter.grad
    optimizer = torch.optim.AdamW(copies, fused=True)

    def step() -> None:
        nn.utils.clip_grad_norm_(copies, trainer.args.max_grad_norm)
        optimizer.step()

    # The first step creates the optimizer's state.
    step()
    return _seconds(step)


def _seconds(action: Callable[[], object]) -> float:
    """Return the seconds that the action takes, including its work on a GPU and excluding earlier work there."""
    wait_for_gpu: Callable[[], object] = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    wait_for_gpu()
    start = time.monotonic()
    action()
    wait_for_gpu()
    return time.monotonic() - start
