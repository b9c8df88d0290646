"""Training settings by preset: ``preset: mpnet`` stands for what that preset says, keys beside it replace its own.

An override that chooses the preset is put in before the preset is read, every other one after: it changes one setting
of the preset, in whichever order they are given.
"""

from collections.abc import Callable, Sequence
from typing import Any

from pipeline.config import apply_overrides, read_yaml, validate
from pipeline.embedded import PRESETS, examples_folder, preset_path
from simile.errors import InputError
from training.config import TrainConfig


def read_train_config(spec: str, overrides: Sequence[str] = ()) -> TrainConfig:
    """Return the training config of this path, or of the preset of this name, overrides put in.

    Raises:
        InputError: there is neither, or a key or value is wrong.
    """
    choosing, others = _split(overrides, "preset")
    values = _written_out(apply_overrides(_named(spec), choosing))
    return validate(TrainConfig, apply_overrides(values, others), str(preset_path(spec)))


def with_members_presets(values: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Return a run's values with overrides put in and its members' presets written out.

    ``train`` is a member's settings, a preset's name or file, or a list of these.

    Raises:
        InputError: an override is wrong, or there is no preset of a name.
    """
    choosing, others = _split(overrides, "train", "train.preset")
    chosen = apply_overrides(_each_member(values, _named), choosing)
    return apply_overrides(_each_member(chosen, lambda member: _written_out(_named(member))), others)


def _split(overrides: Sequence[str], *keys: str) -> tuple[list[str], list[str]]:
    """Return the overrides of these keys, and the others."""
    of_keys = [override for override in overrides if override.partition("=")[0] in keys]
    return of_keys, [override for override in overrides if override not in of_keys]


def _each_member(values: dict[str, Any], change: Callable[[Any], Any]) -> dict[str, Any]:
    if "train" not in values:
        return values
    train = values["train"]
    return values | {"train": [change(member) for member in train] if isinstance(train, list) else change(train)}


def _named(member: Any) -> Any:
    """Return the settings that a name stands for; what is no name as it is."""
    if not isinstance(member, str):
        return member
    path = preset_path(member)
    return {"preset": path.stem} if path.parent == examples_folder() else read_yaml(path)


def _written_out(member: Any) -> Any:
    """Return the member's settings with those of its preset that it does not have itself."""
    if not isinstance(member, dict) or "preset" not in member:
        return member
    name = member["preset"]
    if name not in PRESETS:
        raise InputError(f"got preset {name!r}, need one of {', '.join(PRESETS)}")
    own = {key: value for key, value in member.items() if key != "preset"}
    return read_yaml(examples_folder() / f"{name}.yaml") | own
