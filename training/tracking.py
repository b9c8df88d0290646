"""Where a training's figures go besides the terminal: TensorBoard, and as the environment says MLflow, a Pushgateway.

transformers has callbacks for both, which are not used: they write down all arguments of the trainer, local paths among
them, take a whole curriculum for one epoch, and know nothing of a run that goes on.
"""

import importlib.util
import os
import re
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cache
from http.client import HTTPException
from typing import Any

import numpy as np
from prometheus_client import CollectorRegistry, Gauge, push_to_gateway
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.record_writer import masked_crc32c

from simile.errors import InputError, StoppedError
from simile.files import write_whole
from simile.flat import flat
from simile.progress import say
from training.work import Work

Log = Callable[[Mapping[str, float], int], None]
"""Keeps figures of a step, by name: ``loss/total``, ``spearman/dev-seen``."""
_MLFLOW = "MLFLOW_TRACKING_URI"
_MLFLOW_DEFAULTS = {
    # Figures go to whom the environment names, and nothing to anybody else.
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # stdout is for results.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # With MLflow's own seven, a server that is gone takes four minutes to be given up.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
}
_GATEWAY = "PROMETHEUS_PUSHGATEWAY_URL"
_GATEWAY_JOB = "simile-train"
_PUSH_EVERY_S, _PUSH_AGAIN_AFTER_S, _PUSH_TIMEOUT_S = 10, 60, 3
"""Prometheus looks seldom more often; a gateway that hangs takes a twentieth of the time at most."""
_STATES = ("running", "finished", "stopped", "failed")
_HELP = {
    "state": "1 for what the training does, or how it ended.",
    "step": "Steps done.",
    "epoch": "Epochs done and judged.",
    "loss": "Loss of the last steps, whole (total) and by part.",
    "dev": "What the last epoch is worth on each set of dev pairs.",
    "pairs_per_second": "Pairs trained on a second.",
    "learning_rate": "Learning rate.",
    "grad_norm": "Length of the gradient.",
}


def require_trackers() -> None:
    """Refuse to train without what the environment asks for.

    Raises:
        InputError: MLflow is asked for and not installed, or the Pushgateway has no address.
    """
    gateway = os.environ.get(_GATEWAY)
    # Not shown: whoever writes a name and a password into it would find them in a log.
    if gateway and not re.fullmatch(r"https?://[^/@\s]+(/[^@\s]*)?", gateway):
        raise InputError(f"{_GATEWAY}: need http://HOST:PORT, without name or password")
    if os.environ.get(_MLFLOW) and importlib.util.find_spec("mlflow") is None:
        raise InputError(f"{_MLFLOW} is set, but MLflow is not installed (pip install mlflow-skinny, or unset it)")


@contextmanager
def tracking(work: Work, name: str, parameters: Mapping[str, Any], step: int) -> Iterator[Log]:
    """Yield what keeps the figures of a training.

    Args:
        work: the training's; where it goes on, so do TensorBoard's folder and MLflow's run.
        name: of MLflow's run.
        parameters: its parameters, which anybody may read.
        step: how many steps are done already; figures of later ones are of a run that was killed.

    Raises:
        InputError: MLflow cannot be written to.
    """
    with ExitStack() as stack:
        logs = [stack.enter_context(_event_file(work, step))]
        if os.environ.get(_MLFLOW):
            logs.append(stack.enter_context(_mlflow_run(work, name, parameters)))
        if gateway := os.environ.get(_GATEWAY):
            logs.append(stack.enter_context(_pushed(gateway, work.bundle)))

        def log(figures: Mapping[str, float], step: int) -> None:
            known = {_tag(name): float(value) for name, value in figures.items() if np.isfinite(value)}
            for one in logs:
                one(known, step)

        yield log


def _tag(name: str) -> str:
    """Return the name in characters that all take: a set may be called anything."""
    return re.sub(r"[^\w/-]", "_", name)


@contextmanager
def _event_file(work: Work, step: int) -> Iterator[Log]:
    """Yield what writes into a new file of TensorBoard's folder, which hides what older files have of later steps.

    Events are written here and now, not by a `SummaryWriter`: its thread dies of a full disk, and the training waits
    for it for ever.
    """
    work.tensorboard.mkdir(parents=True, exist_ok=True)
    with (work.tensorboard / f"events.out.tfevents.{time.time():.6f}").open("xb") as file:

        def write(step: int, **content: Any) -> None:
            data = Event(wall_time=time.time(), step=step, **content).SerializeToString()
            length = struct.pack("<Q", len(data))
            file.write(b"".join([length, _checksum(length), data, _checksum(data)]))
            file.flush()

        write(0, file_version="brain.Event:2")
        write(step + 1, session_log=SessionLog(status=SessionLog.START))
        yield lambda figures, step: write(
            step,
            summary=Summary(value=[Summary.Value(tag=name, simple_value=value) for name, value in figures.items()]),
        )


def _checksum(data: bytes) -> bytes:
    return struct.pack("<I", masked_crc32c(data))


@contextmanager
def _mlflow_run(work: Work, name: str, parameters: Mapping[str, Any]) -> Iterator[Log]:
    """Yield what logs to the training's run in MLflow; the run's end is the training's.

    A server that is lost on the way holds the training up for some seconds, once.
    """
    for setting, value in _MLFLOW_DEFAULTS.items():
        os.environ.setdefault(setting, value)
    import mlflow
    from mlflow.entities import Metric
    from mlflow.exceptions import MlflowException

    file = work.folder / "mlflow.run"
    earlier = file.read_text() if file.is_file() else None
    with ExitStack() as stack:
        try:
            # MLflow would else name the program by its path.
            tags = {"mlflow.source.name": "simile train"}
            run = mlflow.start_run(run_id=earlier, run_name=name, nested=True, tags=tags)
            stack.enter_context(_ending_mlflow_run())
            mlflow.log_params(flat(parameters))
        except MlflowException as error:
            hint = f"; remove {file} to begin a new run there" if earlier else ""
            raise InputError(f"{_MLFLOW}: cannot log to MLflow ({_told(error)}){hint}") from error
        write_whole(file, run.info.run_id)
        say(f"MLflow: run {run.info.run_id}")
        client, is_lost = mlflow.MlflowClient(), False

        def log(figures: Mapping[str, float], step: int) -> None:
            nonlocal is_lost
            metrics = [Metric(name, value, round(time.time() * 1000), step) for name, value in figures.items()]
            try:
                if not is_lost:
                    client.log_batch(run.info.run_id, metrics)
            except MlflowException as error:
                is_lost = True
                say(f"\nMLflow: no more is told of this run, the training goes on ({_told(error)})")

        yield log


def _told(error: Any) -> str:
    """Return what MLflow says, without the name and password of an address that it quotes."""
    return re.sub(r"//\S*@", "//", error.message)


@contextmanager
def _ending_mlflow_run() -> Iterator[None]:
    """End MLflow's run as that ends which is done meanwhile."""
    import mlflow
    from mlflow.exceptions import MlflowException

    status = "FINISHED"
    try:
        yield
    except BaseException as error:
        status = "FAILED" if _is_failure(error) else "KILLED"
        raise
    finally:
        try:
            mlflow.end_run(status)
        except MlflowException as error:
            say(f"MLflow: the end of this run could not be told ({_told(error)})")


@contextmanager
def _pushed(gateway: str, bundle: str) -> Iterator[Log]:
    """Yield what tells the Pushgateway the last figures, under the bundle's name; the end is the training's."""
    registry = CollectorRegistry()
    push = _Push(gateway, bundle, registry)

    @cache
    def gauge(name: str, *labels: str) -> Gauge:
        return Gauge(f"simile_training_{name}", _HELP.get(name, name), labels, registry=registry)

    def tell(state: str) -> None:
        for known in _STATES:
            gauge("state", "state").labels(known).set(known == state)
        push(is_last=state != "running")

    def log(figures: Mapping[str, float], step: int) -> None:
        gauge("step").set(step)
        for figure, value in figures.items():
            name, _, of = figure.partition("/")
            if not of:
                gauge(name).set(value)
            elif name == "loss":
                gauge("loss", "part").labels(of).set(value)
            else:
                gauge("dev", "figure", "set").labels(name, of).set(value)
        push()

    tell("running")
    try:
        yield log
    except BaseException as error:
        tell("failed" if _is_failure(error) else "stopped")
        raise
    tell("finished")


class _Push:
    """Sends what the registry has in place of what was sent before, not too often; what cannot be sent is no error."""

    def __init__(self, gateway: str, bundle: str, registry: CollectorRegistry) -> None:
        self._gateway, self._bundle, self._registry = gateway, bundle, registry
        self._next = 0.0
        self._is_warned = False

    def __call__(self, *, is_last: bool = False) -> None:
        if time.monotonic() < self._next and not is_last:
            return
        wait_s = _PUSH_EVERY_S
        try:
            push_to_gateway(
                self._gateway, _GATEWAY_JOB, self._registry, {"bundle": self._bundle}, timeout=_PUSH_TIMEOUT_S
            )
        # No address, no connection, an answer that says no, and one that is no HTTP.
        except (OSError, ValueError, HTTPException) as error:
            wait_s = _PUSH_AGAIN_AFTER_S
            if not self._is_warned:
                say(f"\nPushgateway: cannot be told of this run, the training goes on and tries again ({error})")
                self._is_warned = True
        self._next = time.monotonic() + wait_s


def _is_failure(error: BaseException) -> bool:
    """Whether what ended a training is an error, and not somebody who stopped it."""
    return isinstance(error, Exception) and not isinstance(error, StoppedError)
