"""The work folder beside a bundle (``OUT.work``): what a killed run needs to go on, and what a finished one leaves.

run.json       what the run was told; another config, input or code version may not continue it
checkpoints/   the trainer's, each complete ones marked
best/          the weights of the best epoch so far
history.json   figures and score histograms of each epoch, for the report, and the seconds that they took
losses.json    the losses of the steps, for the report
frontier.json  what the weights between the base and the tuned ones are worth, the chosen ones last, for the report
tensorboard/   TensorBoard's event files
mlflow.run     the run's id in MLflow, where it is told
texts.sha256   hashes of the training texts: evaluation refuses to judge on them
part-1/ ...    of several trainings (`training.averaging`) the work folder of each: checkpoints, best, tensorboard, ...
"""

import errno
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from simile.artifacts import work_folder
from simile.errors import InputError, StoppedError
from simile.files import whole_directory, write_whole

_COMPLETE = "complete"
_RUN, _TRAINED = "run.json", "trained"


class Work:
    """One run's work folder, or the folder in it of one of its trainings."""

    def __init__(self, out: Path, *, part: int | None = None) -> None:
        self.bundle = out.name
        self.folder = work_folder(out) if part is None else work_folder(out) / f"part-{part}"
        self.checkpoints = self.folder / "checkpoints"
        self.best = self.folder / "best"
        self.tensorboard = self.folder / "tensorboard"

    @property
    def is_begun(self) -> bool:
        """Whether a run works here, or has worked here."""
        return (self.folder / _RUN).is_file()

    @property
    def is_trained(self) -> bool:
        """Whether the weights are all that the run has to give."""
        return (self.folder / _TRAINED).is_file()

    def require_same(self, facts: dict[str, Any]) -> None:
        """Refuse to go on with a run of other facts.

        Raises:
            InputError: the folder belongs to a run over other inputs, config or code, or to no run.
        """
        self._require_ours()
        if self.is_begun:
            earlier = json.loads((self.folder / _RUN).read_bytes())
            differing = [name for name in facts if earlier.get(name) != facts[name]]
            if differing:
                raise InputError(
                    f"{self.folder}: holds a run that differs in {', '.join(differing)}, "
                    "need the same to go on with it, --restart to throw it away, or another output"
                )

    def begin(self, facts: dict[str, Any], *, restart: bool) -> None:
        """Take up the run of these facts, or start it.

        Raises:
            InputError: the folder is no training run's.
        """
        self._require_ours()
        if restart and self.folder.exists():
            shutil.rmtree(self.folder)
        if not self.is_begun:
            write_whole(self.folder / _RUN, json.dumps(facts, indent=2) + "\n")

    def _require_ours(self) -> None:
        # A kill leaves hidden files at worst: everything else is written whole.
        others = [path for path in self.folder.glob("*") if not path.name.startswith(".")]
        if others and not self.is_begun:
            raise InputError(f"{self.folder}: holds files that are no training run, need another output")

    def last_checkpoint(self) -> Path | None:
        """Return the newest complete checkpoint; what a kill or a full disk left half-written is removed."""
        found = sorted(self.checkpoints.glob("checkpoint-*"), key=step_of)
        whole = [path for path in found if (path / _COMPLETE).is_file()]
        for path in set(found) - set(whole):
            shutil.rmtree(path)
        return whole[-1] if whole else None

    def mark_complete(self, checkpoint: Path) -> None:
        """Say that everything of the checkpoint is on disk."""
        write_whole(checkpoint / _COMPLETE, "")

    def read_history(self) -> list[dict[str, Any]]:
        """Return the figures of the epochs so far."""
        return _entries(self.folder / "history.json")

    def write_history(self, history: list[dict[str, Any]]) -> None:
        """Keep the figures of the epochs so far."""
        write_whole(self.folder / "history.json", _lines(history))

    def read_losses(self) -> list[dict[str, float]]:
        """Return the losses of the steps, once training has ended."""
        return _entries(self.folder / "losses.json")

    def write_losses(self, losses: list[dict[str, float]]) -> None:
        """Keep the losses of the steps, each under its name beside the ``step``."""
        write_whole(self.folder / "losses.json", _lines(losses))

    def write_frontier(self, points: list[dict[str, Any]]) -> None:
        """Keep what the weights between the base and the tuned ones are worth."""
        write_whole(self.folder / "frontier.json", _lines(points))

    def save_best(self, model: Any) -> None:
        """Keep these weights as the best so far, in place of earlier ones."""
        with whole_directory(self.best) as folder:
            model.save_pretrained(str(folder), create_model_card=False)

    def finish(self) -> None:
        """Say that the weights are trained, and remove what only a run under way needs."""
        write_whole(self.folder / _TRAINED, "")
        shutil.rmtree(self.checkpoints, ignore_errors=True)


def step_of(checkpoint: Path | None) -> int:
    """Return how many steps were done at the checkpoint; 0 without one."""
    return int(checkpoint.name.rpartition("-")[2]) if checkpoint else 0


def _entries(file: Path) -> list[dict[str, Any]]:
    """Return what `_lines` wrote there; nothing where there is no file."""
    return list(json.loads(file.read_bytes())) if file.is_file() else []


def _lines(entries: list[dict[str, Any]]) -> str:
    """Return the entries as a JSON list, one a line."""
    return "[\n" + ",\n".join(map(json.dumps, entries)) + "\n]\n"


@contextmanager
def stopping_on_full_disk(work: Work) -> Iterator[None]:
    """Turn a full disk into a stop that the same command goes on from.

    Raises:
        StoppedError: the disk is full; the last whole checkpoint is kept, the half-written one is not.
    """
    try:
        yield
    # torch, safetensors and the file system each say "disk full" in a class of their own.
    except Exception as error:
        if not _is_disk_full(error, work.folder):
            raise
        work.last_checkpoint()
        raise StoppedError(f"{work.folder}: the disk is full; make room and run the same command again") from error


def _is_disk_full(error: BaseException, folder: Path) -> bool:
    cause: BaseException | None = error
    while cause is not None:
        if getattr(cause, "errno", None) == errno.ENOSPC or "No space left" in str(cause):
            return True
        cause = cause.__cause__ or cause.__context__
    # torch says no more than that writing failed, or where the file's end should have been.
    said = str(error).lower()
    return ("write" in said or "unexpected pos" in said) and shutil.disk_usage(folder).free < 2**20
