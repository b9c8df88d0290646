"""Numbers for readers: true minus signs, grouped thousands, a dash for what is missing."""

import math
from numbers import Integral, Real
from typing import TypeAlias

import numpy as np

Number: TypeAlias = int | float | np.integer | np.floating
Value: TypeAlias = str | Number | None

MISSING = "\N{EN DASH}"


def is_number(value: object) -> bool:
    """Return whether a table aligns the value as a number: any real number except True and False."""
    return isinstance(value, Real) and not isinstance(value, bool)


def shown(value: Value, spec: str | None = None) -> str:
    """Return the value as text: numbers by the format spec, None and NaN as an en dash.

    Without a spec, whole numbers have grouped thousands and other numbers three decimals.
    """
    if value is None or isinstance(value, str):
        return MISSING if value is None else value
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if math.isnan(value):
        return MISSING
    if math.isinf(value):
        return "\N{MINUS SIGN}\N{INFINITY}" if value < 0 else "\N{INFINITY}"
    # Adding 0.0 turns -0.0 into 0.0. A small negative number keeps its sign: "-0.000" tells the side of zero.
    number = int(value) if isinstance(value, Integral) else float(value) + 0.0
    return format(number, spec or ("," if isinstance(number, int) else ",.3f")).replace("-", "\N{MINUS SIGN}")


def counted(number: int, noun: str) -> str:
    """Return the number with its noun in the singular or the plural: ``1 value``, ``2,000 values``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
