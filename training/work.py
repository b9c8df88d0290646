"""The work folder beside a bundle (``OUT.work``): what a killed run needs to go on, and what a finished one leaves.

run.json       what the run was told; another config, input or code version may not continue it
checkpoints/   the trainer's, each complete ones marked
best/          the weights of the best epoch so far
history.json   figures of each epoch, for the report
texts.sha256   hashes of the training texts: evaluation refuses to judge on them
"""

import json
import shutil
from pathlib import Path
from typing import Any

from simile.artifacts import work_folder
from simile.errors import InputError
from simile.files import whole_directory, write_whole

_COMPLETE = "complete"


class Work:
    """One run's work folder."""

    def __init__(self, out: Path) -> None:
        self.folder = work_folder(out)
        self.checkpoints = self.folder / "checkpoints"
        self.best = self.folder / "best"

    def begin(self, facts: dict[str, Any], *, restart: bool) -> None:
        """Take up the run of these facts, or start it.

        Raises:
            InputError: the folder belongs to a run over other inputs, config or code.
        """
        file = self.folder / "run.json"
        if restart and self.folder.exists():
            shutil.rmtree(self.folder)
        if file.is_file():
            earlier = json.loads(file.read_bytes())
            differing = [name for name in facts if earlier.get(name) != facts[name]]
            if differing:
                raise InputError(
                    f"{self.folder}: holds a run that differs in {', '.join(differing)}, "
                    "need the same to go on with it, --restart to throw it away, or another --out"
                )
        elif self.folder.exists() and any(self.folder.iterdir()):
            raise InputError(f"{self.folder}: holds files that are no training run, need another --out")
        else:
            write_whole(file, json.dumps(facts, indent=2) + "\n")

    def last_checkpoint(self) -> Path | None:
        """Return the newest complete checkpoint; what a kill or a full disk left half-written is removed."""
        found = sorted(self.checkpoints.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
        whole = [path for path in found if (path / _COMPLETE).is_file()]
        for path in set(found) - set(whole):
            shutil.rmtree(path)
        return whole[-1] if whole else None

    def mark_complete(self, checkpoint: Path) -> None:
        """Say that everything of the checkpoint is on disk."""
        write_whole(checkpoint / _COMPLETE, "")

    def read_history(self) -> list[dict[str, Any]]:
        """Return the figures of the epochs so far."""
        file = self.folder / "history.json"
        return list(json.loads(file.read_bytes())) if file.is_file() else []

    def write_history(self, history: list[dict[str, Any]]) -> None:
        """Keep the figures of the epochs so far."""
        write_whole(self.folder / "history.json", json.dumps(history, indent=2) + "\n")

    def save_best(self, model: Any) -> None:
        """Keep these weights as the best so far, in place of earlier ones."""
        with whole_directory(self.best) as folder:
            model.save_pretrained(str(folder), create_model_card=False)

    def finish(self) -> None:
        """Remove what only a run under way needs."""
        shutil.rmtree(self.checkpoints, ignore_errors=True)
