"""Text-pair similarity: load a bundle and score pairs, in this process or on a server.

>>> import simile
>>> simile.load("bundle").score([("card lost", "I can't find my card")])
>>> simile.Client("http://localhost:8080").score([("card lost", "I can't find my card")])
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from simile.version import __version__

if TYPE_CHECKING:
    from simile.client import AsyncClient, Client
    from simile.scoring import load

__all__ = ["AsyncClient", "Client", "__version__", "load"]


def __getattr__(name: str) -> Any:
    # ONNX Runtime is slow to import and the HTTP library is an extra, so each is imported only when used.
    if name not in __all__:
        raise AttributeError(f"module 'simile' has no attribute {name!r}")
    return getattr(import_module("simile.scoring" if name == "load" else "simile.client"), name)
