"""The work folder beside a bundle (``OUT.work``): what a killed run needs to continue, and what a finished one leaves.

run.json       the run's facts: a run with another config, input or code version may not continue it
pairs.arrow    the pairs of a training, which each start of it writes anew
checkpoints/   the trainer's checkpoints; complete ones are marked
best/          the weights of the best epoch so far
history.json   the training history: figures per epoch, losses per step, interpolation; the report shows it
tensorboard/   TensorBoard's event files
mlflow.run     the run's id in MLflow, where MLflow is used
part-1/ ...    the work folders of several trainings (`training.averaging`): checkpoints, best, tensorboard, ...
fold-1/ ...    those of the trainings on a part of the groups (`training.cross_fitting`)
"""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from simile.artifacts import RunFacts, work_folder
from simile.artifacts.json_file import read_model
from simile.errors import InputError, StoppedError
from simile.files import FULL_DISK, remove, sync, tree, whole_directory, write_whole
from simile.version import commit

_COMPLETE, _RUN, _TRAINED = "complete", "run.json", "trained"
_TEACHING = {"teacher": "teacher", "unlabelled": "unlabelled texts"}
_DATA_NAMES = {"pairs": "training pairs", "dev": "dev sets", "calibration": "calibration sets", **_TEACHING}


def _run_name(out: Path) -> str:
    """Return the name of the run's folder if the bundle, or a member of it, lies there, else the bundle's own name."""
    if out.parent.name == "members":
        return out.parent.parent.name
    return out.parent.name if out.name == "bundle" else out.name


class _Begun(RunFacts):
    """The content of ``run.json``."""

    commit: str | None
    """Commit of the Simile that began the run; it does not identify the run, because a checkout has many."""


class Work:
    """The work folder of one run, or the folder in it of one of its trainings."""

    def __init__(self, out: Path, *, part: str | None = None) -> None:
        self.run = _run_name(out.absolute())
        """The run's name, by which a Pushgateway knows its trainings."""
        self.folder = work_folder(out) if part is None else work_folder(out) / part
        self.pairs = self.folder / "pairs.arrow"
        self.checkpoints = self.folder / "checkpoints"
        self.best = self.folder / "best"
        self.tensorboard = self.folder / "tensorboard"

    @property
    def is_begun(self) -> bool:
        """Whether a run has been started here."""
        return (self.folder / _RUN).is_file()

    @property
    def is_trained(self) -> bool:
        """Whether training has ended, so that the best weights are final."""
        return (self.folder / _TRAINED).is_file()

    def require_same(self, facts: RunFacts, *, settings_only: bool = False) -> None:
        """Refuse to continue a run with another config, input or version; ``settings_only`` leaves out the pairs."""
        self._require_ours()
        if not self.is_begun:
            return
        need = "damaged or of another version of Simile; need --restart to discard that run, or another output"
        earlier = read_model(self.folder / _RUN, _Begun, need)
        if differing := _differences(earlier, facts, {} if settings_only else _DATA_NAMES):
            got = f"{self.folder}: holds a run that differs in {', '.join(differing)}"
            raise InputError(f"{got}, need the same to continue it, --restart to discard it, or another output")

    def begin(self, facts: RunFacts, *, restart: bool) -> None:
        """Start the run with these facts, or continue it; refuse a folder that holds something else."""
        self._require_ours()
        if restart:
            remove(self.folder)
        if not self.is_begun:
            begun = _Begun(**facts.model_dump(), commit=commit())
            write_whole(self.folder / _RUN, begun.model_dump_json(indent=2) + "\n")

    def _require_ours(self) -> None:
        # A kill leaves hidden files at worst: all other files are written whole.
        others = [path for path in self.folder.glob("*") if not path.name.startswith(".")]
        if others and not self.is_begun:
            raise InputError(f"{self.folder}: holds files that are no training run, need another output")

    def last_checkpoint(self) -> Path | None:
        """Return the newest complete checkpoint, and remove incomplete ones that a kill or a full disk has left."""
        checkpoints = sorted(self.checkpoints.glob("checkpoint-*[0-9]"), key=step_of)
        complete = [path for path in checkpoints if (path / _COMPLETE).is_file()]
        for path in set(checkpoints) - set(complete):
            shutil.rmtree(path)
        return complete[-1] if complete else None

    def mark_complete(self, checkpoint: Path) -> None:
        """Mark a checkpoint as complete, after waiting until all its files are on the disk."""
        sync(tree(checkpoint))
        write_whole(checkpoint / _COMPLETE, "")

    def save_best(self, model: Any) -> None:
        """Save these weights as the best so far, in place of earlier ones."""
        with whole_directory(self.best) as folder:
            model.save_pretrained(str(folder), create_model_card=False)

    def finish(self) -> None:
        """Mark the training as ended, and remove the checkpoints and pairs, which only a running one needs."""
        write_whole(self.folder / _TRAINED, "")
        shutil.rmtree(self.checkpoints, ignore_errors=True)
        self.pairs.unlink(missing_ok=True)


def step_of(checkpoint: Path | None) -> int:
    """Return the number of steps done at the checkpoint; 0 without one."""
    return int(checkpoint.name.rpartition("-")[2]) if checkpoint else 0


def _differences(earlier: RunFacts, facts: RunFacts, data: Mapping[str, str]) -> list[str]:
    """Return what differs, in words for a message; changed keys of the config are listed."""
    keys = sorted(earlier.config.keys() | facts.config.keys())
    changed = [key for key in keys if earlier.config.get(key) != facts.config.get(key)]
    versions = f"version of Simile ({earlier.version}, this is {facts.version})"
    names = {"base": "base encoder's files", "version": versions, **data}
    differing = [name for field, name in names.items() if getattr(earlier, field) != getattr(facts, field)]
    return [f"config ({', '.join(changed)})", *differing] if changed else differing


@contextmanager
def stopping_on_full_disk(work: Work) -> Iterator[None]:
    """Turn a full disk into a `StoppedError`: the same command continues from the last complete checkpoint."""
    try:
        yield
    # torch, safetensors and the file system each report a full disk by a class of their own.
    except Exception as error:
        if not _is_disk_full(error, work.folder):
            raise
        work.last_checkpoint()
        raise StoppedError(f"{work.folder}: the disk is full; make room and run the same command again") from error


def _is_disk_full(error: BaseException, folder: Path) -> bool:
    cause: BaseException | None = error
    while cause is not None:
        if getattr(cause, "errno", None) in FULL_DISK or "No space left" in str(cause):
            return True
        cause = cause.__cause__ or cause.__context__
    # torch reports only that writing failed, or where the file should have ended.
    is_about_writing = any(words in str(error).lower() for words in ("write", "unexpected pos"))
    return is_about_writing and shutil.disk_usage(folder).free < 2**20
