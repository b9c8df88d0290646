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
_MAX_BYTES, _MAX_ALIASES = 2**20, 20
"""Limits of a config: each alias can double what a message shows."""


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """YAML with the floats of version 1.2; version 1.1 reads ``2e-4`` as text."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(?:\d[\d_]*)(?:\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file."""
    try:
        # Opening a named pipe would wait for its writer, and a device may never end.
        if path.exists() and not (path.is_file() and path.stat().st_size <= _MAX_BYTES):
            raise InputError(f"{path}: is no regular file of at most {_MAX_BYTES >> 10} KiB, need one")
        values = _parsed(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: no valid UTF-8 at byte {error.start}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise InputError(f"{where}: no valid YAML ({getattr(error, 'problem', None) or error})") from error
    if not isinstance(values, dict):
        raise InputError(f"{path}: got {type(values).__name__}, need a mapping of settings")
    return values


def _parsed(text: str) -> Any:
    """Return the value of a YAML text, or raise a `yaml.YAMLError`: PyYAML lets errors of its constructors out."""
    try:
        events = list(yaml.parse(text, Loader=_Loader))
        if sum(isinstance(event, yaml.AliasEvent) for event in events) > _MAX_ALIASES:
            raise yaml.YAMLError(f"more than {_MAX_ALIASES} aliases")
        if any("\0" in getattr(event, "value", "") for event in events):
            raise yaml.YAMLError("a NUL character")
        return yaml.load(text, Loader=_Loader)
    except RecursionError as error:
        raise yaml.YAMLError("nested too deep") from error
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
        raise yaml.YAMLError(f"a value that cannot be read: {error}") from error


def apply_overrides(values: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Return the values with each ``a.b=value`` applied; where ``a`` is a list of groups, to each of them."""
    result = dict(values)
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator or not key:
            raise InputError(f"--set {override}: need key=value")
        try:
            value = _parsed(text)
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
    """Return the config of these values."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise InputError(f"{where}: {_explain(error, model, values)}") from error


def _explain(error: ValidationError, model: type[BaseModel], values: Mapping[str, Any]) -> str:
    errors = [(_key(one, values), one) for one in error.errors()]
    # Where a value fits none of several types, the error deepest inside it says most.
    deeper = [one for one in errors if one[0].startswith(f"{errors[0][0]}.")]
    key, first = max(deeper, key=lambda one: one[0].count("."), default=errors[0])
    if first["type"] == "missing":
        return f"key {key!r} is missing"
    if first["type"] != "extra_forbidden":
        return f"{key}: got {first['input']!r}, {needed(first)}" if key else needed(first)
    group, dot, name = key.rpartition(".")
    if new := renamed(model).get(name):
        return f"unknown key {key!r}: it is now named {group + dot + new!r}"
    # The known key whose last part is most similar, preferably of the same group.
    known = [(path.rpartition("."), path) for path in _known_keys(model)]
    names = difflib.get_close_matches(name, [last for (_, _, last), _ in known], n=1)
    near = [(parent != group, path) for (parent, _, last), path in known if last in names]
    return f"unknown key {key!r}" + (f", did you mean {min(near, key=lambda one: one[0])[1]!r}?" if near else "")


def needed(error: ErrorDetails) -> str:
    """Return what the error says is needed."""
    message = error["msg"].removeprefix("Value error, ").replace("Input should be ", "need ", 1)
    return message[:1].lower() + message[1:]


def renamed(model: type[BaseModel]) -> dict[str, str]:
    """Return today's name of each key that the model, or a group in it, once had."""
    in_groups = (item for _, group in _groups(model) for item in renamed(group).items())
    return {**getattr(model, "RENAMED", {}), **dict(in_groups)}


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


def _known_keys(model: type[BaseModel]) -> list[str]:
    """Return the model's keys, those inside a group as ``group.key``."""
    return [*model.model_fields, *(f"{name}.{key}" for name, group in _groups(model) for key in _known_keys(group))]


def _groups(model: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    """Yield the model's groups of settings: the fields that are models, or lists of them."""
    for name, field in model.model_fields.items():
        for group in (field.annotation, *get_args(field.annotation)):
            if isinstance(group, type) and issubclass(group, BaseModel):
                yield name, group
