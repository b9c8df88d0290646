"""The trainings of a run's members: what an engine computes, in this process or on the workers of a cluster."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pipeline.columns import read_labelled
from pipeline.run_config import PHASES, RunConfig
from simile import artifacts
from simile.artifacts import PairSet


@dataclass(frozen=True)
class Members:
    """The members of a run by their numbers from 0; all of them are trained on the same pairs."""

    run: RunConfig
    dev_sets: Sequence[PairSet]
    calibration_sets: Sequence[PairSet]

    @property
    def names(self) -> list[str]:
        """The name of each member."""
        return [member.name for member in self.run.train]

    @cached_property
    def _files(self) -> list[PairSet]:
        return training_files(self.run)

    def shares_left(self) -> list[list[int]]:
        """Return the numbers of the shares of ``most_pairs`` that each member has yet to train, if it has several."""
        from training.train import shares_left

        # The caller may send the members to others, without the pairs.
        files, paths = training_files(self.run), member_paths(self.run)
        return [
            shares_left(member, files, self.dev_sets, path, calibration_sets=self.calibration_sets)
            for member, path in zip(self.run.train, paths, strict=True)
        ]

    def train_share(self, number: int, share: int) -> None:
        """Train one of several shares of a member, which `train` finds done."""
        from training.train import train_share

        member, out = self.run.train[number], member_paths(self.run)[number]
        train_share(member, self._files, self.dev_sets, out, number=share, calibration_sets=self.calibration_sets)

    def train(self, number: int) -> None:
        """Train the member, or what is left of it, to its bundle."""
        from training.train import train

        member, out = self.run.train[number], member_paths(self.run)[number]
        train(member, self._files, self.dev_sets, out, calibration_sets=self.calibration_sets)


def member_paths(config: RunConfig) -> list[Path]:
    """Return where each member's bundle lies; a single member is the run's bundle itself."""
    if len(config.train) == 1:
        return [config.out / "bundle"]
    return [config.out / "members" / member.name for member in config.train]


def training_files(config: RunConfig) -> list[PairSet]:
    """Return the pairs to train on, file by file: a curriculum has one file per phase."""
    if config.pairs:
        return read_labelled([config.pairs], config)
    return mined_sets(config, PHASES if config.mine.strategy == "curriculum" else ("pairs",))


def mined_sets(config: RunConfig, names: Sequence[str]) -> list[PairSet]:
    """Return those of the named mined sets that exist."""
    paths = [config.out / "mined" / f"{name}.jsonl" for name in names if config.documents]
    return [artifacts.read_labelled_pairs(path) for path in paths if path.is_file()]
