"""Addresses in object stores: the file system of one, and its client's exceptions as Simile's.

Needs fsspec; for S3 also s3fs, which brings botocore and aiohttp.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aiohttp import ClientError
from botocore.exceptions import BotoCoreError, HTTPClientError, NoCredentialsError
from botocore.exceptions import ConnectionError as NoConnectionError
from fsspec.core import url_to_fs

from simile.errors import InputError, StoppedError

_RETRYABLE_STATUSES = {408, 409, 429, *range(500, 600)}


def open_url(url: str) -> tuple[Any, str]:
    """Return the file system of the address and the path in it."""
    if not re.fullmatch(r"[a-z][a-z0-9]*://[^@?#\s]+", url):
        # The address is not shown, because a key written into it would end up in a log.
        raise InputError("got no bucket address, need s3://BUCKET/FOLDER (or file:///FOLDER) without credentials")
    # A bucket has no folders to make.
    options = {"auto_mkdir": True} if url.startswith("file:") else {}
    try:
        bucket, root = url_to_fs(url.rstrip("/"), use_listings_cache=False, **options)
    except (ImportError, ValueError) as error:
        raise InputError(f"{url}: {error}") from error
    return bucket, root.rstrip("/")


@contextmanager
def reaching(url: str, what: str = "bundle") -> Iterator[None]:
    """Translate exceptions of the bucket's client into Simile's; ``what`` is the thing that is looked for there."""
    try:
        yield
    except NoCredentialsError as error:
        need = "need AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a web identity"
        raise InputError(f"{url}: got no credentials, {need}") from error
    except (NoConnectionError, HTTPClientError, ClientError, TimeoutError) as error:
        # Only the name is shown: the text quotes AWS_ENDPOINT_URL, which may contain a password.
        reason = type(error).__name__
        raise StoppedError(f"{url}: cannot be reached now ({reason}); run the command again to continue") from error
    except BotoCoreError as error:
        raise InputError(f"{url}: {error}") from error
    except ValueError as error:
        # The text is not shown, because it quotes the settings.
        raise InputError(f"{url}: got an invalid AWS_ENDPOINT_URL or other AWS_ setting") from error
    except RecursionError as error:
        raise InputError(f"{url}: redirected too often, need the bucket's AWS_DEFAULT_REGION") from error
    except OSError as error:
        reason, answer = error.strerror or str(error), getattr(error.__cause__, "response", None)
        if isinstance(error, FileNotFoundError | PermissionError):
            got = "access denied" if isinstance(error, PermissionError) else f"no such {what} or bucket"
            raise InputError(f"{url}: {got} ({reason})") from error
        if answer is None:
            # The error concerns local files.
            raise
        if answer["ResponseMetadata"]["HTTPStatusCode"] in _RETRYABLE_STATUSES:
            raise StoppedError(f"{url}: cannot be used now ({reason}); run the command again to continue") from error
        raise InputError(f"{url}: refused ({reason})") from error
