"""The sample corpus, the presets and the recipes that come with the package."""

from collections.abc import Sequence
from pathlib import Path

from simile.errors import InputError

PRESETS = ("minilm", "mpnet", "nomic")
"""Settings of `simile train` by name; ``run.yaml`` beside them is of `simile run`."""


def examples_folder() -> Path:
    """Return the folder of the examples: inside the package where it was installed, in the repository in a checkout."""
    inside = Path(__file__).parent / "examples"
    return inside if inside.is_dir() else Path(__file__).parent.parent / "examples"


def preset_path(spec: str) -> Path:
    """Return the config file of this path, or of the preset of this name (``minilm``).

    Raises:
        InputError: there is neither.
    """
    return _config_path(spec, examples_folder(), PRESETS, "preset")


def recipes() -> list[str]:
    """Return the names of the recipes: whole configs of `simile run` but for the documents."""
    return sorted(path.stem for path in (examples_folder() / "recipes").glob("*.yaml"))


def recipe_path(spec: str) -> Path:
    """Return the run config of this path, or of the recipe of this name (``lora-32``).

    Raises:
        InputError: there is neither.
    """
    return _config_path(spec, examples_folder() / "recipes", recipes(), "recipe")


def _config_path(spec: str, folder: Path, names: Sequence[str], kind: str) -> Path:
    """Return the file of this path, or that of this name in the folder; its path in a checkout is a name too."""
    path = Path(spec)
    if path.is_file():
        return path
    name = path.stem if path.parent.name == folder.name else spec
    if name in names:
        return folder / f"{name}.yaml"
    raise InputError(f"{spec}: no such config file, nor a {kind} ({', '.join(names)})")
