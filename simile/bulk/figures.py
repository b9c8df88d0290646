"""Figures of bulk work for Prometheus, pushed to a Pushgateway where the environment names one."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from simile.errors import StoppedError

Report = Callable[[int, int], None]
"""Takes the rows that were computed so far and the shards that are left."""
_STATES = ("running", "finished", "stopped", "failed")


@contextmanager
def reported(command: str, bundle: str, shard: str) -> Iterator[Report]:
    """Yield a function that reports the latest figures; the final state is reported at the end.

    The figures of each ``shard`` (such as ``1-3``) of a job are a group of their own.
    """
    from simile.pushgateway import gateway_address, pusher

    gateway = gateway_address()
    if gateway is None:
        yield lambda rows, shards_left: None
        return
    from prometheus_client import CollectorRegistry, Gauge

    registry = CollectorRegistry()
    push = pusher(gateway, f"simile-{command}", {"bundle": bundle, "shard": shard}, registry, work=command)
    rows_done = Gauge("simile_bulk_rows", "Rows computed in this run.", registry=registry)
    per_second = Gauge("simile_bulk_rows_per_second", "Rows computed per second in this run.", registry=registry)
    seconds = Gauge("simile_bulk_seconds", "Seconds since this run began to compute.", registry=registry)
    left = Gauge("simile_bulk_shards_left", "Shards that are not computed yet.", registry=registry)
    state = Gauge("simile_bulk_state", "1 for the state of the run, or how it ended.", ["state"], registry=registry)
    start_s = time.monotonic()

    def report(rows: int, shards_left: int) -> None:
        elapsed_s = time.monotonic() - start_s
        rows_done.set(rows)
        seconds.set(elapsed_s)
        per_second.set(rows / max(elapsed_s, 1e-9))
        left.set(shards_left)
        push()

    def push_state(now: str) -> None:
        for other in _STATES:
            state.labels(other).set(other == now)
        push(is_due=True)

    push_state("running")
    end = "stopped"
    try:
        yield report
        end = "finished"
    except StoppedError:
        raise
    except Exception:
        end = "failed"
        raise
    finally:
        push_state(end)
