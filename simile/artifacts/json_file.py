"""JSON files of our own, read with a bound on their size, and with one line for whatever is wrong with one."""

import json
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from simile.errors import InputError

MAX_BYTES = 2**26
"""Far more than any of our files has: a training history has 100 bytes per logged step."""
Model = TypeVar("Model", bound=BaseModel)


def read_json(path: Path) -> Any:
    """Return the value in a JSON file.

    Raises:
        FileNotFoundError: there is no such file.
        InputError: it is no regular file, cannot be read, is too large, or is not JSON as our programs write it.
    """
    try:
        # Opening a named pipe would wait for its writer.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise InputError(f"{path}: is no regular file, need one")
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    if len(data) > MAX_BYTES:
        raise InputError(f"{path}: got more than {MAX_BYTES >> 20} MiB, need a file that Simile has written")
    try:
        value = json.loads(data, object_pairs_hook=_unique)
        # Halves of surrogate pairs can be read, and not be written again.
        json.dumps(value, ensure_ascii=False).encode()
    except RecursionError as error:
        raise InputError(f"{path}: no valid JSON (nested too deep)") from error
    except ValueError as error:
        raise InputError(f"{path}: no valid JSON ({error!s:.200})") from error
    return value


def read_model(path: Path, model: type[Model], need: str) -> Model:
    """Return the model in a JSON file; errors are those of `read_json`, and the message says what is needed."""
    try:
        return validated(read_json(path), model, path)
    except InputError as error:
        raise InputError(f"{error}; {need}") from error


def validated(value: Any, model: type[Model], path: Path) -> Model:
    """Return the model of a value that was read from the path, or raise an `InputError` that names the first fault."""
    try:
        return model.model_validate(value)
    except (ValidationError, OverflowError) as error:
        if isinstance(error, OverflowError):
            raise InputError(f"{path}: {error}") from error
        fault = error.errors(include_input=False)[0]
        place = f"{'.'.join(map(str, fault['loc'])):.100}"
        raise InputError(f"{path}: {': '.join(filter(None, (place, fault['msg'])))}") from error


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise ValueError("an object has a key twice")
    return value
