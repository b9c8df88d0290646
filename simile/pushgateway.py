"""Pushes of figures to a Prometheus Pushgateway, which keeps those of work that ends before it can be scraped.

Needs prometheus-client, so only functions of work that pushes import this module.
"""

import os
import re
import time
from collections.abc import Callable, Mapping
from http.client import HTTPException

from prometheus_client import CollectorRegistry, push_to_gateway

from simile.errors import InputError
from simile.progress import say

GATEWAY = "PROMETHEUS_PUSHGATEWAY_URL"
"""The variable that holds the gateway's address."""
PUSH_INTERVAL_S, RETRY_INTERVAL_S, PUSH_TIMEOUT_S = 10, 60, 3
"""Prometheus rarely scrapes more often; a gateway that hangs takes at most a twentieth of the time."""


def gateway_address() -> str | None:
    """Return the gateway's address, or None where none is set; refuse, by an `InputError`, a malformed one."""
    address = os.environ.get(GATEWAY)
    # The value is not shown: it may contain a password, which would end up in a log.
    if address and not re.fullmatch(r"https?://[^/@\s]+(/[^@\s]*)?", address):
        raise InputError(f"{GATEWAY}: need http://HOST:PORT, without name or password")
    return address or None


def pusher(
    gateway: str, job: str, grouping: Mapping[str, str], registry: CollectorRegistry, *, work: str
) -> Callable[..., None]:
    """Return a function that pushes the registry once per interval, or at once where it is called with ``is_due``.

    A failed push is retried later and never an error; the first one is reported, with the name of the ``work``.
    """
    next_s, is_warned = 0.0, False

    def push(*, is_due: bool = False) -> None:
        nonlocal next_s, is_warned
        if time.monotonic() < next_s and not is_due:
            return
        wait_s = PUSH_INTERVAL_S
        try:
            push_to_gateway(gateway, job, registry, dict(grouping), timeout=PUSH_TIMEOUT_S)
        # An unknown host, no connection, an error status, or a response that is not HTTP.
        except (OSError, ValueError, HTTPException) as error:
            wait_s = RETRY_INTERVAL_S
            if not is_warned:
                say(f"Pushgateway: cannot be reached, {work} continues and tries again ({error})")
            is_warned = True
        next_s = time.monotonic() + wait_s

    return push
