"""Limits of a request, checked before any work is done for it."""

from collections.abc import Callable, Sequence

from serving.errors import InvalidRequestError
from serving.settings import Settings


def check_count(count: int, many: str, settings: Settings) -> None:
    """Refuse a request that has no pairs, or too many.

    Args:
        count: number of pairs.
        many: name of the field that holds them.
        settings: the limits.

    Raises:
        InvalidRequestError: the request has too few or too many pairs.
    """
    if not 1 <= count <= settings.max_pairs:
        raise InvalidRequestError(f"got {count} {many}, need 1 to {settings.max_pairs}", many)


def check_lengths(texts: Sequence[str], place: Callable[[int], str], settings: Settings) -> None:
    """Refuse texts that are too long to be tokenized.

    Args:
        texts: all texts of the request.
        place: returns the place in the request of the text with this index.
        settings: the limits.

    Raises:
        InvalidRequestError: a text is too long.
    """
    for i, text in enumerate(texts):
        if len(text) > settings.max_characters:
            got = f"got {len(text)} characters, need at most {settings.max_characters}"
            raise InvalidRequestError(got, place(i))
