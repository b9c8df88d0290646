"""YAML files and ``--set key=value`` to config models, with errors that name the key."""

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from simile.errors import InputError

Model = TypeVar("Model", bound=BaseModel)


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """YAML with the floats of version 1.2; version 1.1 reads ``2e-4`` as text."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(?:\d[\d_]*)(?:\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file.

    Raises:
        InputError: the file does not hold one.
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
    """Return the values with each ``a.b=value`` applied; where ``a`` is a list of groups, to each of them.

    Raises:
        InputError: an override has no ``=``, its value is no YAML, or ``a`` is no group.
    """
    result = dict(values)
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator or not key:
            raise InputError(f"--set {override}: need key=value")
        try:
            value = _parse(text)
        except yaml.YAMLError as error:
            raise InputError(f"--set {override}: no valid YAML value") from error
        result = _set(result, key.split("."), value, override)
    return result


def _set(group: Mapping[str, Any], keys: Sequence[str], value: Any, override: str) -> dict[str, Any]:
    key, *inner_keys = keys
    if not inner_keys:
        return {**group, key: value}
    inner = group.get(key, {})
    if isinstance(inner, dict):
        return {**group, key: _set(inner, inner_keys, value, override)}
    if isinstance(inner, list) and all(isinstance(item, dict) for item in inner):
        return {**group, key: [_set(item, inner_keys, value, override) for item in inner]}
    raise InputError(f"--set {override}: {key} is no group of settings")


def validate(model: type[Model], values: Mapping[str, Any], where: str) -> Model:
    """Return the config of these values.

    Raises:
        InputError: a key or a value is wrong; the message names the first.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise InputError(f"{where}: {_explain(error, model, values)}") from error


def _parse(text: str) -> Any:
    return yaml.load(text, Loader=_Loader)


def _explain(error: ValidationError, model: type[BaseModel], values: Mapping[str, Any]) -> str:
    first, key = _first(error, values)
    if first["type"] == "extra_forbidden":
        group, dot, name = key.rpartition(".")
        if new := renamed(model).get(name):
            return f"unknown key {key!r}: it is now named {group + dot + new!r}"
        near = _nearest(key, _known_keys(model))
        return f"unknown key {key!r}" + (f", did you mean {near!r}?" if near else "")
    if first["type"] == "missing":
        return f"key {key!r} is missing"
    return f"{key}: got {first['input']!r}, {needed(first)}" if key else needed(first)


def needed(error: ErrorDetails) -> str:
    """Return what the error says is needed."""
    message = error["msg"].removeprefix("Value error, ").replace("Input should be ", "need ", 1)
    return message[:1].lower() + message[1:]


def renamed(model: type[BaseModel]) -> dict[str, str]:
    """Return today's name of each key that the model, or a group in it, once had."""
    names: dict[str, str] = dict(getattr(model, "RENAMED", {}))
    for _, group in groups(model):
        names |= renamed(group)
    return names


def _first(error: ValidationError, values: Mapping[str, Any]) -> tuple[ErrorDetails, str]:
    """Return the first error and its key; where a value fits none of several types, the error deepest inside it."""
    errors = [(one, _key(one, values)) for one in error.errors()]
    deeper = [(one, key) for one, key in errors if key.startswith(f"{errors[0][1]}.")]
    return max(deeper, key=lambda one: one[1].count("."), default=errors[0])


def _key(error: ErrorDetails, values: Any) -> str:
    """Return the dotted key of the error, without the names of validators and of unions' branches."""
    parts: list[str | int] = []
    for part in error["loc"]:
        is_item = isinstance(values, list) and isinstance(part, int)
        if is_item or (isinstance(values, Mapping) and part in values):
            parts.append(part)
            values = values[part]
    if error["type"] == "missing":
        parts.append(error["loc"][-1])
    return ".".join(map(str, parts))


def _nearest(key: str, known: Sequence[str]) -> str | None:
    """Return the known key whose last part is most similar, preferably of the same group."""
    group, _, name = key.rpartition(".")
    names = difflib.get_close_matches(name, [path.rpartition(".")[2] for path in known], n=1)
    similar = [path for path in known if path.rpartition(".")[2] in names]
    return min(similar, key=lambda path: path.rpartition(".")[0] != group, default=None)


def _known_keys(model: type[BaseModel]) -> list[str]:
    """Return the model's keys, those inside a group as ``group.key``."""
    keys = list(model.model_fields)
    for name, group in groups(model):
        keys += [f"{name}.{key}" for key in _known_keys(group)]
    return keys


def groups(model: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    """Yield the model's groups of settings: the fields that are models, or lists of them."""
    for name, field in model.model_fields.items():
        for group in (field.annotation, *get_args(field.annotation)):
            if isinstance(group, type) and issubclass(group, BaseModel):
                yield name, group
