"""A POST of JSON to a webhook that the environment names.

The address may hold a secret, as Slack's does, so no message shows more of it than the host.
"""

import os
import re
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from simile.errors import InputError, StoppedError

WEBHOOK, TOKEN = "SIMILE_WEBHOOK_URL", "SIMILE_WEBHOOK_TOKEN"
"""The variables that hold the address and, if the receiver wants one, the bearer token."""
_TIMEOUT_S = 30
_MAY_PASS = (408, 429)
"""Statuses below 500 with which the same request may succeed later."""


def webhook_address() -> str | None:
    """Return the webhook's address, or None where none is set; refuse, by an `InputError`, a malformed one."""
    # Secrets that were made from files often end with a line end.
    address = os.environ.get(WEBHOOK, "").strip()
    if address and not re.fullmatch(r"https?://[^/@\s]+(/[^\s]*)?", address):
        raise InputError(f"{WEBHOOK}: need https://HOST/PATH, without name or password (a token goes into {TOKEN})")
    return address or None


def post_json(address: str, body: bytes) -> None:
    """Send the body once.

    Raises:
        InputError: the receiver refuses the request, and would refuse it again.
        StoppedError: the receiver cannot be reached, or cannot take the request now.
    """
    headers = {"Content-Type": "application/json", "User-Agent": "simile"}
    if token := os.environ.get(TOKEN, "").strip():
        headers["Authorization"] = f"Bearer {token}"
    host = urlsplit(address).hostname
    try:
        with build_opener(_Refuse()).open(Request(address, body, headers, method="POST"), timeout=_TIMEOUT_S):
            return
    except HTTPError as error:
        error.close()
        if error.code >= 500 or error.code in _MAY_PASS:
            raise StoppedError(
                f"{WEBHOOK}: {host} answered with status {error.code}; run the same command again"
            ) from error
        raise InputError(f"{WEBHOOK}: {host} refused the notice with status {error.code}") from error
    # An unknown host, no connection, a header that no request may have, or a response that is not HTTP.
    except (OSError, ValueError, HTTPException) as error:
        why = type(getattr(error, "reason", error)).__name__
        raise StoppedError(f"{WEBHOOK}: {host} cannot be reached ({why}); run the same command again") from error


class _Refuse(HTTPRedirectHandler):
    """Follows no redirect, because a POST would become a GET without its body."""

    def redirect_request(self, *_: Any) -> None:
        """Return no request, so that the status becomes an error."""
