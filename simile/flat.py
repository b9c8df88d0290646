"""Flattening of nested settings."""

from collections.abc import Mapping
from typing import Any


def flat(settings: Mapping[str, Any], group: str = "") -> dict[str, Any]:
    """Return the settings on one level; a setting of a group is named ``group.name``."""
    flattened: dict[str, Any] = {}
    for name, value in settings.items():
        flattened |= flat(value, f"{group}{name}.") if isinstance(value, Mapping) else {f"{group}{name}": value}
    return flattened
