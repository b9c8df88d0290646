"""Command lines as their commands read them."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from pipeline.usage import parse


def read_options(arguments: Sequence[str]) -> Any:
    """Return the options that the command gets from its arguments, or None where it only prints its help."""
    command = parse(arguments[0], arguments[1:])
    return command.args[0] if isinstance(command, partial) else None
