"""Axes: from numbers to places, with ticks at round numbers."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from simile.reports.numerals import Number, is_finite, signed

# From which size on, in units of what, called what: 20,000 is as short as 20k.
_SCALES = ((1e12, 1e12, "T"), (1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e5, 1e3, "k"))


@dataclass(frozen=True, slots=True)
class Axis:
    """A stretch of numbers and the ticks on it."""

    low: float
    high: float
    ticks: tuple[float, ...]

    def place(self, value: float) -> float:
        """Return where the value lies, in percent of the axis' length from its low end."""
        return 100 * (value - self.low) / (self.high - self.low)

    def labels(self, *, is_percent: bool = False) -> list[str]:
        """Return the ticks' labels, all with as many decimals as their step needs."""
        return tick_labels([100 * tick for tick in self.ticks], "%") if is_percent else tick_labels(self.ticks)


def axis(values: Iterable[Number | None], *, snaps: bool = True) -> Axis:
    """Return an axis over the finite ones of the values: from 0 to 1 where there is none.

    Whole numbers alone, such as epochs, have no ticks between them.

    Args:
        values: what the axis must hold.
        snaps: the ends move out to ticks.
    """
    finite = [float(value) for value in values if value is not None and is_finite(value)]
    least_step = 1.0 if all(value.is_integer() for value in finite) and len(set(finite)) > 1 else 0.0
    low, high = _widened(min(finite, default=0.0), max(finite, default=1.0))
    step = max(nice_step(high - low), least_step)
    while snaps:
        low, high = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
        # The longer axis may want wider steps, which its ends are then no multiples of.
        if (wider := nice_step(high - low)) <= step:
            break
        step = wider
    return Axis(low, high, _multiples(step, low, high))


def nice_ticks(low: float, high: float, num_wanted: int = 6) -> tuple[float, ...]:
    """Return the multiples of a nice step that lie from low to high, at most one more than wanted."""
    return _multiples(nice_step(high - low, num_wanted), low, high)


def _multiples(step: float, low: float, high: float) -> tuple[float, ...]:
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return tuple(float(f"{multiple * step:.12g}") for multiple in range(first, last + 1))


def nice_step(length: float, num_wanted: int = 6) -> float:
    """Return the smallest of 1, 2, 5 times a power of ten that goes at most ``num_wanted`` times into the length."""
    exponent = math.floor(math.log10(length / num_wanted))
    factors = (1, 2, 5, 10, 20)
    factor = next(factor for factor in factors if length <= factor * 10.0**exponent * num_wanted * (1 + 1e-9))
    return float(f"{factor}e{exponent}")


def tick_labels(ticks: Sequence[float], unit: str = "") -> list[str]:
    """Return one label a tick, with as many decimals as their step needs; thousands and more as 100k, 1.5M."""
    largest = max(map(abs, ticks), default=0.0)
    step = min((abs(b - a) for a, b in pairwise(ticks)), default=largest) or 1.0
    _, scale, suffix = next((known for known in _SCALES if largest >= known[0]), (0.0, 1.0, ""))
    decimals = max(0, -math.floor(math.log10(step / scale) + 1e-9))
    if decimals > 4:
        digits = max(1, 1 + math.floor(math.log10(largest)) - math.floor(math.log10(step) + 1e-9))
        return [signed(f"{tick:.{digits}g}") + unit for tick in ticks]
    return [signed(f"{tick / scale:,.{decimals}f}") + suffix + unit for tick in ticks]


def _widened(low: float, high: float) -> tuple[float, float]:
    """Return the ends, moved apart where they are too near one another to tell ticks between them."""
    size = max(abs(low), abs(high))
    if high - low > 1e-9 * size:
        return low, high
    margin = 0.1 * size or 0.5
    return low - margin, high + margin
