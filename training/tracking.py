"""Tracking of a training's figures: TensorBoard, and MLflow and a Pushgateway if environment variables name them.

The callbacks of transformers are not used: they record all arguments of the trainer, local paths included, treat a
whole curriculum as one epoch, and do not support resumed runs.
"""

import importlib.util
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from functools import cache
from http.client import HTTPException
from typing import Any

import numpy as np
from prometheus_client import CollectorRegistry, Gauge, push_to_gateway
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.record_writer import RecordWriter

from simile.errors import InputError, StoppedError
from simile.files import write_whole
from simile.flat import flat
from simile.progress import say
from training.work import Work

Log = Callable[[Mapping[str, float], int], None]
"""A function that logs figures of a step by name: ``loss/total``, ``spearman/dev-seen``."""
_MLFLOW = "MLFLOW_TRACKING_URI"
_MLFLOW_DEFAULTS = {
    # Figures go only where the environment says.
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # stdout is reserved for results.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # With MLflow's default of seven retries, it takes four minutes to give up a lost server.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
}
_GATEWAY = "PROMETHEUS_PUSHGATEWAY_URL"
_GATEWAY_JOB = "simile-train"
_PUSH_INTERVAL_S, _RETRY_INTERVAL_S, _PUSH_TIMEOUT_S = 10, 60, 3
"""Prometheus rarely scrapes more often; a gateway that hangs takes at most a twentieth of the time."""
_STATES = ("running", "finished", "stopped", "failed")
_HELP = {
    "state": "1 for the current state of the training, or how it ended.",
    "step": "Steps done.",
    "epoch": "Epochs done and scored.",
    "loss": "Loss of the last steps, in total and by part.",
    "dev": "Figures of the last epoch on each dev set.",
    "pairs_per_second": "Training pairs per second.",
    "learning_rate": "Learning rate.",
    "grad_norm": "Norm of the gradient.",
}


def require_trackers() -> None:
    """Refuse to train if a tracker that the environment names cannot be used.

    Raises:
        InputError: MLflow is not installed, or the Pushgateway's address is malformed.
    """
    gateway = os.environ.get(_GATEWAY)
    # The value is not shown: it may contain a password, which would end up in a log.
    if gateway and not re.fullmatch(r"https?://[^/@\s]+(/[^@\s]*)?", gateway):
        raise InputError(f"{_GATEWAY}: need http://HOST:PORT, without name or password")
    if os.environ.get(_MLFLOW) and importlib.util.find_spec("mlflow") is None:
        raise InputError(f"{_MLFLOW} is set, but MLflow is not installed (pip install mlflow-skinny, or unset it)")


@contextmanager
def tracking(work: Work, name: str, parameters: Mapping[str, Any], step: int) -> Iterator[Log]:
    """Yield a function that logs figures to all trackers.

    Args:
        work: the training's work folder; a resumed run continues TensorBoard's folder and MLflow's run.
        name: name of the MLflow run.
        parameters: parameters of the MLflow run, which anybody may read.
        step: number of steps already done; earlier figures of later steps come from a killed run and are hidden.

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
            finite = {_tag(name): float(value) for name, value in figures.items() if np.isfinite(value)}
            for tracker_log in logs:
                tracker_log(finite, step)

        yield log


def _tag(name: str) -> str:
    """Return the name in characters that all trackers accept: a dev set may have any name."""
    return re.sub(r"[^\w/-]", "_", name)


@contextmanager
def _event_file(work: Work, step: int) -> Iterator[Log]:
    """Yield a log that writes to a new file in TensorBoard's folder, which hides later steps in older files.

    Events are written directly, not by a `SummaryWriter`: its thread dies when the disk is full, and the training would
    wait for it forever.
    """
    work.tensorboard.mkdir(parents=True, exist_ok=True)
    file = work.tensorboard / f"events.out.tfevents.{time.time():.6f}"
    with closing(RecordWriter(str(file))) as writer:

        def write(step: int, **content: Any) -> None:
            writer.write(Event(wall_time=time.time(), step=step, **content).SerializeToString())
            writer.flush()

        write(0, file_version="brain.Event:2")
        write(step + 1, session_log=SessionLog(status=SessionLog.START))
        yield lambda figures, step: write(
            step,
            summary=Summary(value=[Summary.Value(tag=name, simple_value=value) for name, value in figures.items()]),
        )


@contextmanager
def _mlflow_run(work: Work, name: str, parameters: Mapping[str, Any]) -> Iterator[Log]:
    """Yield a log to the training's MLflow run, which ends with the training.

    A server that becomes unreachable delays the training by some seconds, once.
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
            # By default, MLflow records the path of the program.
            tags = {"mlflow.source.name": "simile train"}
            run = mlflow.start_run(run_id=earlier, run_name=name, nested=True, tags=tags)
            stack.enter_context(_ending_mlflow_run())
            mlflow.log_params(flat(parameters))
        except MlflowException as error:
            hint = f"; remove {file} to start a new run there" if earlier else ""
            raise InputError(f"{_MLFLOW}: cannot log to MLflow ({_redacted(error)}){hint}") from error
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
                say(f"\nMLflow: this run is no longer logged, training continues ({_redacted(error)})")

        yield log


def _redacted(error: Any) -> str:
    """Return MLflow's message without user name and password, which an address in it may contain."""
    return re.sub(r"//\S*@", "//", error.message)


@contextmanager
def _ending_mlflow_run() -> Iterator[None]:
    """Set the MLflow run's final status from how the enclosed block ends."""
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
            say(f"MLflow: the final status of this run could not be logged ({_redacted(error)})")


@contextmanager
def _pushed(gateway: str, bundle: str) -> Iterator[Log]:
    """Yield a log that pushes the latest figures to the Pushgateway, by bundle, and push the final state at the end."""
    registry = CollectorRegistry()
    push = _Push(gateway, bundle, registry)

    @cache
    def gauge(name: str, *labels: str) -> Gauge:
        return Gauge(f"simile_training_{name}", _HELP.get(name, name), labels, registry=registry)

    def push_state(state: str) -> None:
        for other in _STATES:
            gauge("state", "state").labels(other).set(other == state)
        push(is_last=state != "running")

    def log(figures: Mapping[str, float], step: int) -> None:
        gauge("step").set(step)
        for figure, value in figures.items():
            name, _, part_or_set = figure.partition("/")
            if not part_or_set:
                gauge(name).set(value)
            elif name == "loss":
                gauge("loss", "part").labels(part_or_set).set(value)
            else:
                gauge("dev", "figure", "set").labels(name, part_or_set).set(value)
        push()

    push_state("running")
    try:
        yield log
    except BaseException as error:
        push_state("failed" if _is_failure(error) else "stopped")
        raise
    push_state("finished")


class _Push:
    """Pushes the registry, at most once per interval; a failed push is retried later and never an error."""

    def __init__(self, gateway: str, bundle: str, registry: CollectorRegistry) -> None:
        self._gateway, self._bundle, self._registry = gateway, bundle, registry
        self._next = 0.0
        self._is_warned = False

    def __call__(self, *, is_last: bool = False) -> None:
        if time.monotonic() < self._next and not is_last:
            return
        wait_s = _PUSH_INTERVAL_S
        try:
            push_to_gateway(
                self._gateway, _GATEWAY_JOB, self._registry, {"bundle": self._bundle}, timeout=_PUSH_TIMEOUT_S
            )
        # An unknown host, no connection, an error status, or a response that is not HTTP.
        except (OSError, ValueError, HTTPException) as error:
            wait_s = _RETRY_INTERVAL_S
            if not self._is_warned:
                say(f"\nPushgateway: cannot be reached, training continues and tries again ({error})")
                self._is_warned = True
        self._next = time.monotonic() + wait_s


def _is_failure(error: BaseException) -> bool:
    """Return whether training ended by an error, not because somebody stopped it."""
    return isinstance(error, Exception) and not isinstance(error, StoppedError)
