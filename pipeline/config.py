"""YAML files and ``--set key=value`` -> config models, with errors that name the key."""

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from simile.errors import InputError

Model = TypeVar("Model", bound=BaseModel)


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """YAML 1.2 floats: plain YAML 1.1 reads ``2e-4`` as text."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:\d[\d_]*)(?:\.\d*)?[eE][-+]?\d+$"),
    list("-+0123456789"),
)


def read_config(path: Path, model: type[Model], overrides: Sequence[str] = ()) -> Model:
    """Return the config in the file, overrides put in.

    Raises:
        InputError: the file is no YAML mapping, or a key or value is wrong (which, where, what instead).
    """
    values = read_yaml(path)
    return validate(model, apply_overrides(values, overrides), str(path))


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file.

    Raises:
        InputError: it is none.
    """
    try:
        values = _parse(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: no valid UTF-8 at byte {error.start}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise InputError(f"{where}: no valid YAML ({getattr(error, 'problem', error)})") from error
    if not isinstance(values, dict):
        raise InputError(f"{path}: got {type(values).__name__}, need a mapping of settings")
    return values


def apply_overrides(values: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Return the values with each ``a.b=value`` set in; the value is read as YAML.

    Raises:
        InputError: an override has no ``=``, or goes through a value that is no mapping.
    """
    result: dict[str, Any] = dict(values)
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator or not key:
            raise InputError(f"--set {override}: need key=value")
        *parents, last = key.split(".")
        place = result
        for parent in parents:
            inner = place.get(parent, {})
            if not isinstance(inner, dict):
                raise InputError(f"--set {override}: {parent} is no group of settings")
            place[parent] = dict(inner)
            place = place[parent]
        try:
            place[last] = _parse(text)
        except yaml.YAMLError as error:
            raise InputError(f"--set {override}: no valid YAML value") from error
    return result


def validate(model: type[Model], values: Mapping[str, Any], where: str) -> Model:
    """Return the config of these values.

    Raises:
        InputError: the first key or value that is wrong.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise InputError(f"{where}: {_explain(error, model)}") from error


def _parse(text: str) -> Any:
    return yaml.load(text, Loader=_Loader)


def _explain(error: ValidationError, model: type[BaseModel]) -> str:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"] if not str(part).startswith("function-"))
    if first["type"] == "extra_forbidden":
        near = _nearest(key, _known_keys(model))
        return f"unknown key {key!r}" + (f", did you mean {near!r}?" if near else "")
    if first["type"] == "missing":
        return f"key {key!r} is missing"
    message = first["msg"].removeprefix("Value error, ")
    got = f"got {first['input']!r}, " if key else ""
    return f"{key + ': ' if key else ''}{got}{message[:1].lower()}{message[1:]}"


def _nearest(key: str, known: Sequence[str]) -> str | None:
    """Return the known key whose last part is most like this one's, in the same group where there is one."""
    group, _, name = key.rpartition(".")
    names = difflib.get_close_matches(name, [path.rpartition(".")[2] for path in known], n=1)
    found = [path for path in known if path.rpartition(".")[2] in names]
    return min(found, key=lambda path: path.rpartition(".")[0] != group, default=None)


def _known_keys(model: type[BaseModel]) -> list[str]:
    """Return the model's keys, those inside a group as ``group.key``."""
    keys = list(model.model_fields)
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            keys += [f"{name}.{key}" for key in _known_keys(field.annotation)]
    return keys
