"""Settings in groups -> one level of them."""

from collections.abc import Mapping
from typing import Any


def flat(settings: Mapping[str, Any], group: str = "") -> dict[str, Any]:
    """Return the settings, those of a group as ``group.name``."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        found |= flat(value, f"{group}{name}.") if isinstance(value, Mapping) else {f"{group}{name}": value}
    return found
