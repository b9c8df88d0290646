"""Colours as a person sees them: the contrast of two, as the Web Content Accessibility Guidelines define it."""

import numpy as np
from numpy.typing import NDArray


def linear(red: int, green: int, blue: int) -> NDArray[np.float64]:
    """Return the linear RGB of a colour in sRGB, each channel 0 to 255."""
    value = np.array([red, green, blue]) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def contrast(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Return the contrast ratio of two linear colours, 1 to 21; text needs 4.5."""
    low, high = sorted(float(colour @ [0.2126, 0.7152, 0.0722]) for colour in (one, other))
    return (high + 0.05) / (low + 0.05)
