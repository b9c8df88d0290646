"""The trainer's callbacks: progress, dev figures per epoch, the best weights, complete checkpoints, a clean stop."""

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from simile.artifacts import EpochEntry, StepLoss, read_training_history, write_training_history
from simile.errors import InputError
from simile.progress import Progress, duration, say
from training.losses import PairLoss
from training.processes import first_says, wait_for_all
from training.tracking import Log
from training.work import Work

_RATES = ("learning_rate", "grad_norm")


class TrainingCallback(TrainerCallback):  # type: ignore[misc]
    """Shows progress, scores each epoch, keeps the best weights and the history, and stops on SIGTERM.

    ``score_epoch`` returns the history entry of the current weights, given the epoch and its name in messages, and
    ``last_steps`` are the last steps of the epochs.
    """

    def __init__(
        self,
        score_epoch: Callable[[int, str], EpochEntry],
        loss: PairLoss,
        work: Work,
        last_steps: Sequence[int],
        *,
        seconds_per_step: float,
        log: Log,
    ) -> None:
        self._score_epoch, self._pair_loss, self._work = score_epoch, loss, work
        self._epochs = {step: number for number, step in enumerate(last_steps, 1)}
        self._seconds_per_step, self._log = seconds_per_step, log
        self._history = read_training_history(work.folder)
        self._progress: Progress | None = None
        self._shown_loss, self.is_stopping = "", False
        # The step and the time from which the next log computes the throughput.
        self._since_step, self._since_s = 0, 0.0

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Score the base encoder once, estimate the training time, and show the progress bar."""
        if not self._history.epochs:
            self._append(self._score_epoch(0, "base encoder"), 0)
        num_steps = state.max_steps - state.global_step
        num_epochs = sum(step > state.global_step for step in self._epochs)
        seconds = num_steps * self._seconds_per_step + num_epochs * self._history.epochs[-1].seconds
        say(f"steps to go: {num_steps:,}, epochs: {num_epochs}; about {duration(seconds)} on this machine")
        self._progress = Progress("training", state.max_steps, "steps")
        self._progress.skip(state.global_step)
        self._progress.__enter__()
        self._show_figures()
        self._since_step, self._since_s = state.global_step, time.monotonic()

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: dict[str, float], **_: Any
    ) -> None:
        """Show the loss, and log it with the learning rate, the gradient norm and the throughput."""
        if "loss" not in logs:
            return
        if not np.isfinite(logs["loss"]):
            raise InputError(f"step {state.global_step}: got a loss of {logs['loss']}, need a lower learning_rate")
        self._shown_loss = f"loss {logs['loss']:.3f}"
        self._show_figures()
        # The throughput since the last log, with every batch counted as a full one.
        num_pairs = (state.global_step - self._since_step) * args.per_device_train_batch_size
        seconds = max(time.monotonic() - self._since_s, 1e-9)
        self._since_step, self._since_s = state.global_step, time.monotonic()
        rates = {name: logs[name] for name in _RATES if name in logs} | {"pairs_per_second": num_pairs / seconds}
        loss = _step_loss(logs, state.global_step)
        parts = {f"loss/{name}": value for name, value in loss.parts.items()}
        self._log({**rates, "loss/total": loss.total, **parts}, state.global_step)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, *, model: Any, **_: Any
    ) -> None:
        """Count the step, score an epoch at its end before the step is saved, and stop where SIGTERM has come."""
        assert self._progress is not None, "training has begun"
        self._progress.advance()
        if epoch := self._epochs.get(state.global_step):
            self._end_epoch(epoch, state, model)
        if first_says(self.is_stopping):
            control.should_save = control.should_training_stop = True

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Add the weights that the loss learns to the checkpoint, and mark it as complete: all else is written."""
        checkpoint = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        self._pair_loss.save_own(checkpoint)
        wait_for_all()
        self._work.mark_complete(checkpoint)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Write the losses of all steps, and release the terminal's line."""
        self._write(losses=tuple(_step_loss(logs, logs["step"]) for logs in state.log_history if "loss" in logs))
        self._leave_line()

    @contextmanager
    def stopping_on_sigterm(self) -> Iterator[None]:
        """Stop after the current step on SIGTERM; afterwards restore the earlier handler and the terminal's line."""
        with ExitStack() as stack:
            stack.callback(self._leave_line)
            if threading.current_thread() is threading.main_thread():
                stack.callback(signal.signal, signal.SIGTERM, signal.signal(signal.SIGTERM, self._stop))
            yield

    def _leave_line(self) -> None:
        if self._progress:
            self._progress.__exit__(None, None, None)
            self._progress = None

    def _end_epoch(self, epoch: int, state: TrainerState, model: Any) -> None:
        """Score the weights, and save them where they are the best so far."""
        if not all(bool(weights.isfinite().all()) for weights in model.parameters()):
            raise InputError(f"step {state.global_step}: got weights that are not finite, need a lower learning_rate")
        start = time.monotonic()
        entry = self._score_epoch(epoch, f"epoch {epoch}")
        if entry.mean is None:
            raise InputError(f"epoch {epoch}: got constant dev scores, need a lower learning_rate")
        earlier = [other.mean for other in self._history.epochs if 0 < other.epoch < epoch and other.mean is not None]
        if all(entry.mean >= mean for mean in earlier):
            self._work.save_best(model)
        # Written only after the weights: a run that is killed in between scores the epoch again.
        self._append(entry, state.global_step)
        self._show_figures()
        # Scoring does not count as training time.
        self._since_s += time.monotonic() - start

    def _show_figures(self) -> None:
        """Show the last loss beside the bar, and the mean figures of the last epoch over the dev sets."""
        assert self._progress is not None, "training has begun"
        dev = self._history.epochs[-1].dev.values()
        notes = [self._shown_loss] if self._shown_loss else []
        for name, label in (("spearman", "dev Spearman"), ("separability", "separability")):
            if values := [value for figures in dev if (value := getattr(figures, name)) is not None]:
                notes.append(f"{label} {np.mean(values):.3f}")
        self._progress.advance(0, note=", ".join(notes))

    def _append(self, entry: EpochEntry, step: int) -> None:
        """Append the entry to the history, in place of entries that a resumed run repeats, and log its figures."""
        earlier = (other for other in self._history.epochs if other.epoch < entry.epoch)
        self._write(epochs=(*earlier, entry))
        # Trackers group names by what precedes the slash.
        by_set = {of_set: figures.model_dump(exclude_none=True) for of_set, figures in entry.dev.items()}
        figures = {f"{name}/{of_set}": value for of_set, of_name in by_set.items() for name, value in of_name.items()}
        self._log({"epoch": entry.epoch, **figures}, step)

    def _write(self, **changed: Any) -> None:
        self._history = self._history.model_copy(update=changed)
        write_training_history(self._work.folder, self._history)

    def _stop(self, *_: object) -> None:
        if not self.is_stopping:
            say("SIGTERM: stopping after this step")
        self.is_stopping = True


def _step_loss(logs: Mapping[str, float], step: int) -> StepLoss:
    """Return the loss and its parts from what the trainer logs at a step."""
    parts = {name: value for name, value in logs.items() if name not in ("loss", "epoch", "step", *_RATES)}
    return StepLoss(step=step, total=logs["loss"], parts=parts)
