"""What a request may hold: checked before any work is done for it."""

from collections.abc import Callable, Sequence

from serving.errors import InvalidRequestError
from serving.settings import Settings


def check_count(count: int, many: str, settings: Settings) -> None:
    """Refuse a request of no pairs, or of more than it may have.

    Args:
        count: of pairs.
        many: what the request calls them.
        settings: the limits.

    Raises:
        InvalidRequestError: it has too few or too many.
    """
    if not 1 <= count <= settings.max_pairs:
        raise InvalidRequestError(f"got {count} {many}, need 1 to {settings.max_pairs}", many)


def check_lengths(texts: Sequence[str], place: Callable[[int], str], settings: Settings) -> None:
    """Refuse texts that are too long to be tokenized.

    Args:
        texts: all of the request.
        place: called for the place in the request of the text with this index.
        settings: the limits.

    Raises:
        InvalidRequestError: one is too long.
    """
    for i, text in enumerate(texts):
        if len(text) > settings.max_characters:
            got = f"got {len(text)} characters, need at most {settings.max_characters}"
            raise InvalidRequestError(got, place(i))
