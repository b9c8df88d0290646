"""JSON files of our own, read with a bound on their size, and with one line for whatever is wrong with one."""

import json
import math
import os
import stat
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from pydantic import BaseModel, ValidationError

from simile.artifacts.strict import ChecksummedModel
from simile.errors import InputError

MAX_BYTES = 2**26
"""Far more than any of our files has: a training history has 100 bytes per logged step."""
Model = TypeVar("Model", bound=BaseModel)


def read_json(path: Path) -> Any:
    """Return the value in a JSON file.

    A key that occurs twice and digits beyond a number's precision are refused: a flipped bit could hide there.

    Raises:
        FileNotFoundError: there is no such file.
        InputError: it is no regular file, cannot be read, is too large, or is not JSON as our programs write it.
    """
    return parsed_json(path, read_bounded(path))


def read_bounded(path: Path) -> bytes:
    """Return the bytes of a JSON file before they are parsed; for errors see `read_json`."""
    try:
        # Opening a named pipe would wait for its writer.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise InputError(f"{path}: is no regular file, need one")
            if status.st_size > MAX_BYTES:
                raise InputError(f"{path}: got more than {MAX_BYTES >> 20} MiB, need a file that Simile has written")
            return file.read()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error


def parsed_json(path: Path, data: bytes) -> Any:
    """Return the value in the bytes of a JSON file; for errors see `read_json`."""
    try:
        value = json.loads(data.decode(), object_pairs_hook=_unique, parse_float=_exact, parse_constant=_refuse)
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
        return model.from_value(value) if issubclass(model, ChecksummedModel) else model.model_validate(value)
    except (ValueError, OverflowError) as error:
        if not isinstance(error, ValidationError):
            raise InputError(f"{path}: {error}") from error
        fault = error.errors(include_input=False)[0]
        place = f"{'.'.join(map(str, fault['loc'])):.100}"
        raise InputError(f"{path}: {': '.join(filter(None, (place, fault['msg'])))}") from error


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise ValueError("an object has a key twice")
    return value


def _exact(text: str) -> float:
    value = float(text)
    try:
        is_exact = Decimal(repr(value)) == Decimal(text)
    # The exponent has more digits than a decimal number may have.
    except ArithmeticError:
        is_exact = False
    if not is_exact:
        need = repr(value) if math.isfinite(value) else "a finite one"
        raise ValueError(f"got the number {text[:40]}, need {need}")
    return value


def _refuse(text: str) -> NoReturn:
    raise ValueError(f"got {text}, need a finite number")
