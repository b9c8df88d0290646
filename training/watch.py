"""Watching a training run: progress, dev sets each epoch, the best weights, whole checkpoints, an orderly stop."""

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from simile.artifacts import MIN_DEV_PAIRS, PairSet
from simile.errors import InputError
from simile.progress import Progress, duration, say
from simile.scoring import cosines
from simile.scoring.metrics import class_counts, figures
from training.averaging import StepMean
from training.base import Base
from training.losses import PairLoss
from training.tracking import Log
from training.work import Work

_RATES = ("learning_rate", "grad_norm")
"""What the trainer logs of a step beside its losses."""


def dev_scores(base: Base, dev_sets: Sequence[PairSet], prompt: str) -> list[NDArray[np.float32]]:
    """Return the scores of each dev set's pairs by the weights as they stand."""
    found = []
    for pairs in dev_sets:
        index = {text: i for i, text in enumerate(dict.fromkeys(text for pair in pairs.texts for text in pair))}
        pair_P2 = np.array([(index[a], index[b]) for a, b in pairs.texts])
        found.append(cosines(encode(base, list(index), prompt), pair_P2))
    return found


def encode(base: Base, texts: Sequence[str], prompt: str) -> NDArray[np.float32]:
    """Return the texts' embeddings by the weights as they stand, shape ``(N, D)``, each of length 1."""
    embedding_ND: NDArray[np.float32] = base.model.encode(
        list(texts), prompt=prompt or None, normalize_embeddings=True, batch_size=64, show_progress_bar=False
    )
    return embedding_ND


def heard(dev_sets: Sequence[PairSet]) -> list[PairSet]:
    """Return the dev sets that have a say: a smaller one tells more of chance than of weights."""
    return [dev for dev in dev_sets if len(dev.rows) >= MIN_DEV_PAIRS]


def measured(base: Base, dev_sets: Sequence[PairSet], prompt: str, epoch: int, name: str) -> dict[str, Any]:
    """Return what the weights as they stand are worth, as the history tells it of an epoch, and say it by a name."""
    start = time.monotonic()
    scores = dev_scores(base, dev_sets, prompt)
    # A run that goes on tells from it how long judging will take.
    seconds = time.monotonic() - start
    scored = list(zip(dev_sets, scores, strict=True))
    figures_by_set = {dev.name: figures(score_P, dev.target_P, is_graded=dev.is_graded) for dev, score_P in scored}
    spearmans = [figures_by_set[dev.name]["spearman"] for dev in heard(dev_sets) or dev_sets]
    entry: dict[str, Any] = {"epoch": epoch, "seconds": seconds, "dev": figures_by_set}
    entry["histograms"] = {
        dev.name: {name: counts.tolist() for name, counts in class_counts(score_P, dev.target_P).items()}
        for dev, score_P in scored
        if not dev.is_graded
    }
    # Nothing to choose by without dev pairs: the last epoch is then the best.
    entry["mean"] = float(np.mean(spearmans)) if spearmans else float(epoch)
    shown = ", ".join(f"{of_set} {found['spearman']:.4f}" for of_set, found in figures_by_set.items())
    if shown:
        say(f"\n{name}: dev Spearman {shown}")
    return entry


class SavesOwn(TrainerCallback):  # type: ignore[misc]
    """Adds to a checkpoint what is learned beside the encoder; comes before `Watch`, which calls it whole."""

    def __init__(self, *learners: PairLoss | StepMean) -> None:
        self._learners = learners

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Write it."""
        for learner in self._learners:
            learner.save_own(_checkpoint(args, state))


class Watch(TrainerCallback):  # type: ignore[misc]
    """The trainer's callback that does all of the above.

    Args:
        measured: what tells of the weights as they stand, given an epoch's number and what to call it (`measured`).
        mean: of the weights, which stands for them where an epoch is judged.
        work: where the best weights and the figures are kept.
        last_steps: of each epoch.
        step_s: seconds that a step takes, about.
        log: told of the figures.
    """

    def __init__(
        self,
        measured: Callable[[int, str], dict[str, Any]],
        mean: StepMean,
        work: Work,
        last_steps: Sequence[int],
        *,
        step_s: float,
        log: Log,
    ) -> None:
        self._measured, self._mean, self._work = measured, mean, work
        self._epochs = {step: number for number, step in enumerate(last_steps, 1)}
        self._step_s, self._log = step_s, log
        self._history = work.read_history()
        self._progress: Progress | None = None
        self._loss = ""
        self._since_step, self._since_s = 0, 0.0
        """From where the next log counts how fast it goes."""
        self.is_stopping = False

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Measure the base once, say how long it will take, and show the start."""
        if not self._history:
            self._remember(self._measured(0, "base encoder"))
            self._log(_figures(self._history[0]), 0)
        num_steps = state.max_steps - state.global_step
        num_epochs = sum(step > state.global_step for step in self._epochs)
        about = duration(num_steps * self._step_s + num_epochs * self._history[-1]["seconds"])
        say(f"steps to go: {num_steps:,}, epochs: {num_epochs}; about {about} on this machine")
        self._progress = Progress("training", state.max_steps, "steps")
        self._progress.skip(state.global_step)
        self._progress.__enter__()
        self._show_figures()
        self._since_step, self._since_s = state.global_step, time.monotonic()

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: dict[str, float], **_: Any
    ) -> None:
        """Keep the loss to show, and what else is known of the step."""
        if "loss" in logs:
            if not np.isfinite(logs["loss"]):
                raise InputError(f"step {state.global_step}: got a loss of {logs['loss']}, need a lower learning_rate")
            self._loss = f"loss {logs['loss']:.3f}"
            self._show_figures()
            rates = {name: logs[name] for name in _RATES if name in logs}
            rates["pairs_per_second"] = self._speed(args, state)
            self._log(rates | {f"loss/{name}": value for name, value in _losses(logs).items()}, state.global_step)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Count the step; judge an epoch at its end, before the step is saved; stop where that was asked for."""
        assert self._progress is not None, "training has begun"
        self._progress.advance()
        self._mean.add(state.global_step)
        if epoch := self._epochs.get(state.global_step):
            self._judge(epoch, state)
        if self.is_stopping:
            control.should_save = True
            control.should_training_stop = True

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Mark the checkpoint as whole: all of it is on disk by now."""
        self._work.mark_complete(_checkpoint(args, state))

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Keep the losses of all steps, and leave the terminal to others."""
        logged = [entry for entry in state.log_history if "loss" in entry]
        self._work.write_losses([{"step": entry["step"], **_losses(entry)} for entry in logged])
        self._leave_line()

    @contextmanager
    def stopping_on_sigterm(self) -> Iterator[None]:
        """Stop after the step under way when SIGTERM comes; afterwards SIGTERM means what it meant before.

        However training ends, the terminal is then left to others.
        """
        with ExitStack() as stack:
            stack.callback(self._leave_line)
            if threading.current_thread() is threading.main_thread():
                stack.callback(signal.signal, signal.SIGTERM, signal.signal(signal.SIGTERM, self._stop))
            yield

    def _speed(self, args: TrainingArguments, state: TrainerState) -> float:
        """Return the pairs a second since the last call, every batch counted as a full one."""
        num_pairs: int = (state.global_step - self._since_step) * args.per_device_train_batch_size
        start, now = self._since_s, time.monotonic()
        self._since_step, self._since_s = state.global_step, now
        return num_pairs / max(now - start, 1e-9)

    def _leave_line(self) -> None:
        if self._progress:
            self._progress.__exit__(None, None, None)
            self._progress = None

    def _judge(self, epoch: int, state: TrainerState) -> None:
        """Measure the weights, and keep them where they are the best so far."""
        if not all(bool(weights.isfinite().all()) for weights in self._mean.model.parameters()):
            raise InputError(f"step {state.global_step}: got weights that are no numbers, need a lower learning_rate")
        start = time.monotonic()
        self._history = [entry for entry in self._history if entry["epoch"] < epoch]
        with self._mean.in_place():
            entry = self._measured(epoch, f"epoch {epoch}")
            if not np.isfinite(entry["mean"]):
                raise InputError(f"epoch {epoch}: got dev scores that order nothing, need a lower learning_rate")
            if all(entry["mean"] >= earlier["mean"] for earlier in self._history if earlier["epoch"] > 0):
                self._work.save_best(self._mean.model)
        # Only now: an epoch with figures has been judged, whatever happens next.
        self._remember(entry)
        self._show_figures()
        self._log(_figures(entry), state.global_step)
        # Judging is no training.
        self._since_s += time.monotonic() - start

    def _show_figures(self) -> None:
        """Put beside the bar the last loss, and the means over the dev sets after the last epoch."""
        assert self._progress is not None, "training has begun"
        found = list(self._history[-1]["dev"].values())
        means = [
            f"{label} {np.mean([of[name] for of in found if name in of]):.3f}"
            for name, label in (("spearman", "dev Spearman"), ("separability", "separability"))
            if any(name in of for of in found)
        ]
        self._progress.advance(0, note=", ".join([self._loss, *means] if self._loss else means))

    def _remember(self, entry: dict[str, Any]) -> None:
        self._history.append(entry)
        self._work.write_history(self._history)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        say("\nSIGTERM: stopping after this step")
        self.is_stopping = True


def _checkpoint(args: TrainingArguments, state: TrainerState) -> Path:
    return Path(args.output_dir) / f"checkpoint-{state.global_step}"


def _losses(logs: Mapping[str, float]) -> dict[str, float]:
    """Return the loss and its parts among what the trainer logs of a step."""
    parts = {name: value for name, value in logs.items() if name not in ("loss", "epoch", "step", *_RATES)}
    return {"total": logs["loss"], **parts}


def _figures(entry: Mapping[str, Any]) -> dict[str, float]:
    """Return an epoch's number and its figures as ``figure/set``: trackers show the same beginning together."""
    return {"epoch": entry["epoch"]} | {
        f"{name}/{of_set}": value for of_set, found in entry["dev"].items() for name, value in found.items()
    }
