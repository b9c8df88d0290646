"""Text-pair similarity: load a bundle, score pairs.

>>> import simile
>>> simile.load("bundle").score([("card lost", "I can't find my card")])
"""

from typing import TYPE_CHECKING, Any

from simile.version import __version__

if TYPE_CHECKING:
    from simile.scoring import load

__all__ = ["__version__", "load"]


def __getattr__(name: str) -> Any:
    # ONNX Runtime takes a moment to load: only for those who score.
    if name == "load":
        from simile.scoring import load

        return load
    raise AttributeError(f"module 'simile' has no attribute {name!r}")
