"""What the native libraries raise on the content of a bundle, as an error of the bundle."""

from collections.abc import Iterator
from contextlib import contextmanager

from simile.errors import BundleError, SimileError


@contextmanager
def blaming(where: object, fault: str) -> Iterator[None]:
    """Raise a `BundleError` in place of any error in the block: where, the fault, and the first line of the cause."""
    try:
        yield
    except SimileError:
        raise
    # ONNX Runtime and tokenizers have classes of their own, and a panic in Rust is no Exception.
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        reason = (str(error).splitlines() or [""])[0][:200] or type(error).__name__
        raise BundleError(f"{where}: {fault} ({reason})") from error
