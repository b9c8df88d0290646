"""The sample corpus, the presets and the recipes that come with the package."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from simile.errors import InputError

PRESETS = ("minilm", "mpnet", "nomic")
"""Names of the settings files of `simile train`."""


def examples_folder() -> Path:
    """Return the folder of the examples: inside the package once it is installed, in the repository in a checkout."""
    inside = Path(__file__).parent / "examples"
    return inside if inside.is_dir() else Path(__file__).parent.parent / "examples"


def preset_path(spec: str) -> Path:
    """Return the config file at this path, or that of the preset of this name (``minilm``).

    Raises:
        InputError: there is neither.
    """
    path = Path(spec)
    if path.is_file():
        return path
    # A preset's path in a checkout is a name of it too.
    name = path.stem if path.parent.name == examples_folder().name else spec
    if name in PRESETS:
        return examples_folder() / f"{name}.yaml"
    raise InputError(f"{spec}: no such config file, nor a preset ({', '.join(PRESETS)})")


def recipes() -> dict[str, dict[str, Any]]:
    """Return the recipes by name: the values of whole run configs but for the documents, and a ``question`` each."""
    # Imported here, so that the command line starts without pydantic.
    from pipeline.config import read_yaml

    values = read_yaml(examples_folder() / "recipes.yaml")
    return {name: _whole(name, values["common"], recipe) for name, recipe in sorted(values["recipes"].items())}


def run_values(spec: str) -> dict[str, Any]:
    """Return the values in the run config at this path, or of the recipe of this name (``lora-32``).

    Raises:
        InputError: there is neither.
    """
    from pipeline.config import read_yaml

    if Path(spec).is_file():
        return read_yaml(Path(spec))
    named = recipes()
    if spec not in named:
        raise InputError(f"{spec}: no such config file, nor a recipe ({', '.join(named)})")
    return {key: value for key, value in named[spec].items() if key != "question"}


def _whole(name: str, common: Mapping[str, Any], recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Return the recipe with the common settings that it does not have itself, and its own folder of results."""
    train = recipe.get("train", {})
    members = [common["train"] | member for member in train] if isinstance(train, list) else common["train"] | train
    return {**recipe, "mine": common["mine"] | recipe.get("mine", {}), "train": members, "out": f"runs/{name}"}
