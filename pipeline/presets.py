"""The sample, presets and recipes that come with the package.

``preset: mpnet`` stands for that preset's settings, and keys beside it replace single ones. An override of the preset
itself (``--set preset=mpnet``) is applied before the preset is read, every other one after it, whatever their order on
the command line. It replaces another preset, and is refused for settings without one.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pipeline.config import apply_overrides, read_yaml, validate
from simile.artifacts import bare_name
from simile.artifacts.reading import FORMATS
from simile.errors import InputError
from training.config import TrainConfig

PRESETS = ("minilm", "mpnet", "mpnet-bundled", "nomic", "gte", "e5", "gemma")
"""Names of the settings files of `simile train`."""
_CONFIGS = (".yaml", ".yml")
"""Suffixes by which the config of a run is told from documents."""
_INSIDE = Path(__file__).parent / "examples"
EXAMPLES = _INSIDE if _INSIDE.is_dir() else Path(__file__).parent.parent / "examples"
"""Folder of the examples: inside the package once it is installed, in the repository in a checkout."""


def preset_path(spec: str) -> Path:
    """Return the config file at this path, or that of the preset of this name (``minilm``)."""
    path = Path(spec)
    if path.is_file():
        return path
    # A preset's path in a checkout is a name of it too.
    name = path.stem if path.parent.name == EXAMPLES.name else spec
    if name in PRESETS:
        return EXAMPLES / f"{name}.yaml"
    raise InputError(f"{spec}: no such config file, nor a preset ({', '.join(PRESETS)})")


def read_train_config(spec: str, overrides: Sequence[str] = ()) -> TrainConfig:
    """Return the training config of this path, or of the preset of this name, with the overrides applied."""
    choosing, others = _split(overrides, "preset")
    values = _named(spec)
    _require_no_base(values, choosing)
    values = _written_out(apply_overrides(values, choosing))
    return validate(TrainConfig, apply_overrides(values, others), str(preset_path(spec)))


def recipes() -> dict[str, dict[str, Any]]:
    """Return the recipes by name: the values of whole run configs but for the documents, and a ``question`` each."""
    values = read_yaml(EXAMPLES / "recipes.yaml")
    common = values["common"]
    return {
        name: _each_member({"train": {}, **recipe}, lambda member: common["train"] | member)
        | {"mine": common["mine"] | recipe.get("mine", {}), "out": f"runs/{name}"}
        for name, recipe in sorted(values["recipes"].items())
    }


def run_values(spec: str, *, are_documents: bool = False) -> dict[str, Any]:
    """Return the values of a run config, paths relative to the file's folder.

    Args:
        spec: the name of a recipe (``lora-32``), a config (``.yaml``, ``.yml``), or documents: a table or a folder.
        are_documents: whether a file that has neither suffix is one of documents.
    """
    path, named = Path(spec), recipes()
    if spec in named:
        return {key: value for key, value in named[spec].items() if key != "question"}
    if path.suffix.lower() in _CONFIGS and not path.is_dir():
        return read_yaml(path)
    if are_documents or path.is_dir() or Path(path.name.lower().removesuffix(".gz")).suffix in FORMATS:
        # Without links resolved: the name is the one that the user typed, and "." has none.
        return {"documents": path.name, "train": "minilm", "out": f"runs/{bare_name(Path(os.path.abspath(spec)))}"}
    if not path.exists():
        raise InputError(f"{spec}: no such file, nor a recipe ({', '.join(named)})")
    need = f"a config ({', '.join(_CONFIGS)}) or documents ({', '.join(FORMATS)}, or any suffix with --format)"
    raise InputError(f"{spec}: got a file with the suffix {path.suffix!r}, need {need}")


def with_members_presets(values: dict[str, Any], folder: Path, overrides: Sequence[str]) -> dict[str, Any]:
    """Return a run's values with the overrides applied and its members' presets written out.

    ``train`` is a group of settings, the name of a preset, a file of settings, or a list of these. A file in the values
    is relative to the folder, one in an override is not.
    """

    def placed(member: Any) -> Any:
        return str(folder / member) if isinstance(member, str) and member not in PRESETS else member

    replacing, others = _split(overrides, "train")
    choosing, others = _split(others, "train.preset")
    named = _each_member(apply_overrides(_each_member(values, placed), replacing), _named)
    _require_no_base(named.get("train"), choosing)
    return apply_overrides(_each_member(apply_overrides(named, choosing), _written_out), others)


def _split(overrides: Sequence[str], key: str) -> tuple[list[str], list[str]]:
    """Return the overrides of this key, and the others."""
    of_key = [override for override in overrides if override.partition("=")[0] == key]
    return of_key, [override for override in overrides if override not in of_key]


def _each_member(values: dict[str, Any], change: Callable[[Any], Any]) -> dict[str, Any]:
    if "train" not in values:
        return values
    train = values["train"]
    return values | {"train": [change(member) for member in train] if isinstance(train, list) else change(train)}


def _named(member: Any) -> Any:
    """Return the settings that a preset's name or a file stands for; settings are returned as they are."""
    if not isinstance(member, str):
        return member
    path = preset_path(member)
    return {"preset": path.stem} if path.parent == EXAMPLES else read_yaml(path)


def _require_no_base(train: Any, choosing: Sequence[str]) -> None:
    """Refuse an override of the preset for settings with a base of their own, which would replace most of it."""
    for member in train if isinstance(train, list) else [train]:
        if choosing and isinstance(member, dict) and "base" in member and "preset" not in member:
            raise InputError(
                f"--set {choosing[-1]}: got settings with a base of their own ({member['base']}), "
                "need the preset's name in their place"
            )


def _written_out(member: Any) -> Any:
    """Return the member's settings, completed by those of its preset, and these by those of the preset's own."""
    if not isinstance(member, dict) or "preset" not in member:
        return member
    name = member["preset"]
    if name not in PRESETS:
        raise InputError(f"got preset {name!r}, need one of {', '.join(PRESETS)}")
    own = {key: value for key, value in member.items() if key != "preset"}
    return _written_out(read_yaml(EXAMPLES / f"{name}.yaml")) | own
