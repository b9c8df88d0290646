"""Watching a training run: progress, dev sets each epoch, the best weights, whole checkpoints, an orderly stop."""

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from simile.artifacts import PairSet
from simile.errors import InputError
from simile.progress import Progress, say
from simile.scoring.metrics import figures
from training.base import Base
from training.work import Work


def dev_figures(base: Base, dev_sets: Sequence[PairSet], prompt: str) -> dict[str, dict[str, float]]:
    """Return the figures of each dev set, scored by the weights as they stand."""
    found = {}
    for pairs in dev_sets:
        index = {text: i for i, text in enumerate(dict.fromkeys(text for pair in pairs.texts for text in pair))}
        embedding_ND = base.model.encode(
            list(index), prompt=prompt or None, normalize_embeddings=True, batch_size=64, show_progress_bar=False
        )
        score_P = np.array([embedding_ND[index[a]] @ embedding_ND[index[b]] for a, b in pairs.texts])
        found[pairs.name] = figures(score_P, pairs.target_P, is_graded=pairs.is_graded)
    return found


class Watch(TrainerCallback):  # type: ignore[misc]
    """The trainer's callback that does all of the above."""

    def __init__(
        self, base: Base, dev_sets: Sequence[PairSet], prompt: str, work: Work, last_steps: Sequence[int]
    ) -> None:
        self._base, self._dev_sets, self._prompt, self._work = base, dev_sets, prompt, work
        self._epochs = {step: number for number, step in enumerate(last_steps, 1)}
        self._history = work.read_history()
        self._progress: Progress | None = None
        self._loss = ""
        self.is_stopping = False

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Show the start, and measure the base once."""
        if not self._history:
            self._remember(self._measured(0, None))
        self._progress = Progress("training", state.max_steps, "steps")
        self._progress.skip(state.global_step)
        self._progress.__enter__()

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: dict[str, float], **_: Any
    ) -> None:
        """Keep the loss to show."""
        if "loss" in logs:
            if not np.isfinite(logs["loss"]):
                raise InputError(f"step {state.global_step}: got a loss of {logs['loss']}, need a lower learning_rate")
            self._loss = f"loss {logs['loss']:.3f}"

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Count the step; judge an epoch at its end, before the step is saved; stop where that was asked for."""
        assert self._progress is not None, "training has begun"
        self._progress.advance(1, note=self._loss)
        if epoch := self._epochs.get(state.global_step):
            self._judge(epoch, state)
        if self.is_stopping:
            control.should_save = True
            control.should_training_stop = True

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Mark the checkpoint as whole: all of it is on disk by now."""
        self._work.mark_complete(Path(args.output_dir) / f"checkpoint-{state.global_step}")

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Leave the terminal to others."""
        if self._progress:
            self._progress.__exit__(None, None, None)

    @contextmanager
    def stopping_on_sigterm(self) -> Iterator[None]:
        """Stop after the step under way when SIGTERM comes; afterwards SIGTERM means what it meant before."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        earlier = signal.signal(signal.SIGTERM, self._stop)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, earlier)

    def _judge(self, epoch: int, state: TrainerState) -> None:
        """Measure the weights, and keep them where they are the best so far."""
        self._history = [entry for entry in self._history if entry["epoch"] < epoch]
        loss = next((entry["loss"] for entry in reversed(state.log_history) if "loss" in entry), None)
        entry = self._measured(epoch, loss)
        if not np.isfinite(entry["mean"]):
            raise InputError(f"epoch {epoch}: got dev scores that order nothing, need a lower learning_rate")
        if all(entry["mean"] >= earlier["mean"] for earlier in self._history if earlier["epoch"] > 0):
            self._work.save_best(self._base.model)
        # Only now: an epoch with figures has been judged, whatever happens next.
        self._remember(entry)

    def _measured(self, epoch: int, loss: float | None) -> dict[str, Any]:
        figures_by_set = dev_figures(self._base, self._dev_sets, self._prompt)
        spearmans = [found["spearman"] for found in figures_by_set.values()]
        entry: dict[str, Any] = {"epoch": epoch, "loss": loss, "dev": figures_by_set}
        # Nothing to choose by without dev pairs: the last epoch is then the best.
        entry["mean"] = float(np.mean(spearmans)) if spearmans else float(epoch)
        shown = ", ".join(f"{name} {found['spearman']:.4f}" for name, found in figures_by_set.items())
        if shown:
            say(f"\n{'base encoder' if epoch == 0 else f'epoch {epoch}'}: dev Spearman {shown}")
        return entry

    def _remember(self, entry: dict[str, Any]) -> None:
        self._history.append(entry)
        self._work.write_history(self._history)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        say("\nSIGTERM: stopping after this step")
        self.is_stopping = True
