"""Small training runs over the sample's own groups, each made once for all tests that use it."""

import gc
import json
import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from simile.artifacts import Bundle, PairSet, TrainingHistory, read_bundle, read_labelled_pairs, read_training_history
from simile.files import sha256_bytes

DATA = Path(os.environ.get("SIMILE_DATA", Path(__file__).parents[3] / "shared" / "data"))
NUM_PAIRS, NUM_DEV = 160, 120


@dataclass(frozen=True)
class Material:
    """Files of pairs."""

    pairs: Path
    dev: Path
    graded: Path
    """The training pairs with graded scores in place of labels."""
    upside_down: Path
    """The training pairs with inverted labels: training makes these worse."""
    few: Path
    """Training pairs for two steps."""


@dataclass(frozen=True)
class Run:
    """One finished training run."""

    out: Path
    bundle: Bundle

    @property
    def work(self) -> Path:
        return self.out.with_name(f"{self.out.name}.work")

    @property
    def weights(self) -> Path:
        return self.out.with_name(f"{self.out.name}.weights") / "encoder"

    @property
    def history(self) -> TrainingHistory:
        return read_training_history(self.work)

    @property
    def dev_spearmans(self) -> list[float | None]:
        return [entry.mean for entry in self.history.epochs]


def pytest_collection_finish() -> None:
    """Leave what the imports have made out of garbage collections: each training collects, in half a second more."""
    gc.freeze()


@pytest.fixture(scope="session")
def material(tmp_path_factory, helpdesk) -> Material:
    folder = tmp_path_factory.mktemp("material")
    chosen = random.Random(0)
    groups: dict[str, list[str]] = {}
    for row in helpdesk:
        groups.setdefault(str(row.group), []).append(row.text)
    rows = []
    for number in range(NUM_PAIRS + NUM_DEV):
        a, b = chosen.sample(sorted(groups), 2)
        text_a, text_b = chosen.sample(groups[a], 2) if number % 2 else map(chosen.choice, (groups[a], groups[b]))
        rows.append({"text_a": text_a, "text_b": text_b, "label": number % 2})

    def write(name: str, rows: list[dict[str, Any]]) -> Path:
        path = folder / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    train, dev = rows[:NUM_PAIRS], rows[NUM_PAIRS:]
    texts = [{name: row[name] for name in ("text_a", "text_b")} for row in train]
    return Material(
        write("pairs", train),
        write("dev", dev),
        write("graded", [text | {"score": 5 * row["label"] - 2.5} for text, row in zip(texts, train, strict=True)]),
        write("upside-down", [text | {"label": 1 - row["label"]} for text, row in zip(texts, train, strict=True)]),
        write("few", train[:32]),
    )


@pytest.fixture(scope="session")
def stsb() -> PairSet:
    """The STS benchmark, whose figure each base's model card publishes."""
    path = DATA / "stsb" / "test.jsonl.gz"
    if not path.is_file():
        pytest.skip(f"no STS benchmark at {path} (set SIMILE_DATA)")
    return read_labelled_pairs(path)


@pytest.fixture(scope="session")
def settings(make_base) -> Callable[..., dict[str, Any]]:
    """The settings of a small run, with a learning rate at which differences show."""

    def made(architecture: str = "bert", **changed: Any) -> dict[str, Any]:
        common = {
            "method": "lora",
            "max_length": 32,
            "epochs": 1,
            "batch_size": 16,
            "learning_rate": 5e-3,
            "precision": "fp32",
            # Tests look at the tuned weights; interpolation has tests of its own.
            "min_base_agreement": 0,
        }
        return {"base": str(make_base(architecture)), **common, **changed}

    return made


@pytest.fixture(scope="session")
def trained(made_once, material, settings) -> Callable[..., Run]:
    """A function that trains on the material, once for the same arguments in all test processes."""

    def made(
        architecture: str = "bert", *, pairs: str = "pairs", dev: str | None = "dev", again: int = 0, **changed
    ) -> Run:
        def write(folder: Path) -> None:
            from training.config import TrainConfig
            from training.train import train

            dev_sets = [read_labelled_pairs(getattr(material, dev))] if dev else []
            config = TrainConfig(**settings(architecture, **changed))
            train(config, [read_labelled_pairs(getattr(material, pairs))], dev_sets, folder / "bundle")

        key = json.dumps([architecture, pairs, dev, again, changed], sort_keys=True)
        out = made_once(f"trained-{sha256_bytes(key.encode())[:16]}", write) / "bundle"
        return Run(out, read_bundle(out))

    return made


@pytest.fixture
def without_export(monkeypatch) -> None:
    """Training ends with the history: its bundle is neither exported nor written."""
    monkeypatch.setattr("training.train.to_bundle", lambda *_: None)
