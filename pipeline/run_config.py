"""Settings of a run: one model, one YAML file."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field, field_validator, model_validator

from mining.config import MineConfig, Share
from pipeline.config import validate
from pipeline.options import ColumnOption, TableOptions
from pipeline.presets import run_values, with_members_presets
from training.config import TrainConfig

PHASES = ("phase1", "phase2", "phase3")
"""The files that a mined curriculum is trained on, one after the other."""


class RunMineConfig(MineConfig):
    """Settings of mining in a run, which holds out the pairs that it judges on."""

    test_share: Share = 0.2
    """Share of the groups that is held out whole to judge on (test-unseen), and of the other groups' documents
    (test-seen). Own ``test`` pairs take their place."""


class RunConfig(TableOptions):
    """Settings of a run over one's own data."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    documents: Path | None = None
    """Documents to mine from. Like all paths but ``out``, relative to the config file."""
    pairs: Path | None = None
    """Labelled pairs to train on, in place of documents."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Columns by another name than ours: the file's name by our field, for documents as for pairs."""
    target: Path | None = None
    """Pairs whose difficulty the mined pairs should match."""
    positives: Path | None = None
    """Pairs known to mean the same, in place of the documents' groups."""
    dev: tuple[Path, ...] = ()
    """Labelled pairs by which the best epoch and alpha are chosen, beside the mined dev sets."""
    calibrate: tuple[Path, ...] = ()
    """Labelled pairs like those to be scored, on which calibration and thresholds are fitted (default: a labelled
    ``target``, which also joins fewer than 50, else the dev sets)."""
    test: tuple[Path, ...] = ()
    """Labelled pairs to judge on (default: those that mining holds out, see ``mine.test_share``)."""
    guard: tuple[Path, ...] = ()
    """Labelled pairs on which the bundle must not be worse than the baseline."""
    guard_margin: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.03
    """Spearman that a guard may lose."""
    allow_undecided_guards: bool = False
    """Whether the gate passes guards whose interval does not tell whether more was lost."""
    ledger: Path | None = None
    """File that records which bundles the gate has judged on which sets (default: ``baseline.looks.jsonl`` in
    ``out``)."""
    out: Path = Path("runs/simile")
    """Folder of all results, relative to the current folder."""
    mine: RunMineConfig = RunMineConfig()
    """Settings of mining."""
    train: Annotated[tuple[TrainConfig, ...], Field(min_length=1)]
    """One member's training, or a list of several, which are joined into an ensemble. Each is a group of settings, the
    name of a preset, or a file of settings."""

    @field_validator("train", "dev", "calibrate", "test", "guard", mode="before")
    @classmethod
    def _one_is_a_list_of_one(cls, value: object) -> object:
        return (value,) if isinstance(value, Mapping | TrainConfig | str | Path) else value

    @model_validator(mode="after")
    def _has_a_source(self) -> "RunConfig":
        if (self.documents is None) == (self.pairs is None):
            raise ValueError("need exactly one of 'documents' and 'pairs' (--set documents=FILE)")
        if self.pairs and not self.test:
            raise ValueError(
                "got 'pairs' without 'test', need labelled pairs to judge on (--set test=FILE); "
                "without any, train and judge nothing: simile train minilm --pairs FILE --out BUNDLE"
            )
        if not self.test and self.mine.test_share == 0:
            raise ValueError("need 'test' pairs to judge on, or mine.test_share above 0")
        return self

    @model_validator(mode="after")
    def _members_fit_together(self) -> "RunConfig":
        name, num_members = Counter(member.name for member in self.train).most_common(1)[0]
        if num_members > 1:
            raise ValueError(f"got {num_members} members named {name!r}, need a 'name' of its own for each")
        if len(methods := {member.calibration for member in self.train}) > 1:
            raise ValueError(f"got members of calibration {' and '.join(sorted(methods))}, need one for the ensemble")
        if self.documents and any(member.has_sides for member in self.train):
            raise ValueError("got prompt_a or prompt_b with 'documents': mined pairs have no sides, need one 'prompt'")
        # Training refuses a wrong number of epochs too, but only after mining.
        num_files = len(PHASES) if self.documents and self.mine.strategy == "curriculum" else 1
        for member in self.train:
            if isinstance(member.epochs, tuple) and len(member.epochs) != num_files:
                raise ValueError(
                    f"got epochs for {len(member.epochs)} files of pairs, need them for {num_files} "
                    "(mine.strategy 'curriculum' makes 3, every other one 1)"
                )
        return self


def read_run_config(spec: str | Path, overrides: Sequence[str] = (), tables: ColumnOption | None = None) -> RunConfig:
    """Return the run of a config, of a recipe's name or over documents (see `run_values`), with the overrides put in.

    Paths in a config are relative to it, those of overrides are not. Options of tables replace the config's keys of
    their names; columns are added to its own.
    """
    folder = Path(spec).parent
    values = run_values(str(spec), are_documents=bool(tables and tables.format))
    for key in ("documents", "pairs", "target", "positives", "dev", "calibrate", "test", "guard", "ledger"):
        if isinstance(value := values.get(key), list):
            values[key] = [str(folder / str(item)) for item in value]
        elif value is not None:
            values[key] = str(folder / str(value))
    config = validate(RunConfig, with_members_presets(values, folder, overrides), str(spec))
    if tables is None:
        return config
    given = tables.model_dump(include=set(TableOptions.model_fields), exclude_unset=True)
    return config.model_copy(update=given | {"columns": config.columns | tables.columns})
