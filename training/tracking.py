"""Tracking of a training's figures: TensorBoard, and MLflow and a Pushgateway if environment variables name them.

The callbacks of transformers are not used: they record all arguments of the trainer, local paths included, treat a
whole curriculum as one epoch, and do not support resumed runs.
"""

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from functools import cache
from typing import Any

import numpy as np
from prometheus_client import CollectorRegistry, Gauge
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.record_writer import RecordWriter

from simile.errors import InputError, StoppedError
from simile.files import write_whole
from simile.flat import flat
from simile.mlflow import TRACKING_URI, redacted, require_mlflow
from simile.progress import say
from simile.pushgateway import gateway_address, pusher
from training.work import Work

Log = Callable[[Mapping[str, float], int], None]
"""A function that logs figures of a step by name: ``loss/total``, ``spearman/dev-seen``."""
_GATEWAY_JOB = "simile-train"
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
    """Refuse to train if MLflow is wanted and not installed, or the Pushgateway's address is malformed."""
    gateway_address()
    require_mlflow()


@contextmanager
def tracking(work: Work, name: str, parameters: Mapping[str, Any], step: int) -> Iterator[Log]:
    """Yield a function that logs figures to all trackers, or raise an `InputError` if MLflow cannot be written to.

    A run that is resumed at ``step`` continues TensorBoard's folder and MLflow's run; earlier figures of later steps
    come from a killed run and are hidden. Anybody may read the name and the parameters of the MLflow run.
    """
    with ExitStack() as stack:
        logs = [_event_file(stack, work, step)]
        if require_mlflow():
            logs.append(_mlflow_run(stack, work, name, parameters))
        if gateway := gateway_address():
            logs.append(_pushes(stack, gateway, {"run": work.run, "member": name}))

        def log(figures: Mapping[str, float], step: int) -> None:
            # All trackers accept these characters; a dev set may have any name.
            finite = {name: float(value) for name, value in figures.items() if np.isfinite(value)}
            tags = {re.sub(r"[^\w/-]", "_", name): value for name, value in finite.items()}
            for tracker_log in logs:
                tracker_log(tags, step)

        yield log


def _at_end(stack: ExitStack, end: Callable[[str], None]) -> None:
    """Call ``end`` with how the training ended, when the stack closes: ``finished``, ``stopped`` or ``failed``."""

    def on_exit(_: object, error: BaseException | None, __: object) -> None:
        is_failure = isinstance(error, Exception) and not isinstance(error, StoppedError)
        end("finished" if error is None else "failed" if is_failure else "stopped")

    stack.push(on_exit)


def _event_file(stack: ExitStack, work: Work, step: int) -> Log:
    """Return a log that writes to a new file in TensorBoard's folder, which hides later steps in older files.

    Events are written directly, not by a `SummaryWriter`: its thread dies when the disk is full, and the training would
    wait for it forever.
    """
    work.tensorboard.mkdir(parents=True, exist_ok=True)
    file = work.tensorboard / f"events.out.tfevents.{time.time():.6f}"
    writer = stack.enter_context(closing(RecordWriter(str(file))))

    def write(step: int, **content: Any) -> None:
        writer.write(Event(wall_time=time.time(), step=step, **content).SerializeToString())
        writer.flush()

    def log(figures: Mapping[str, float], step: int) -> None:
        values = [Summary.Value(tag=name, simple_value=value) for name, value in figures.items()]
        write(step, summary=Summary(value=values))

    write(0, file_version="brain.Event:2")
    write(step + 1, session_log=SessionLog(status=SessionLog.START))
    return log


def _mlflow_run(stack: ExitStack, work: Work, name: str, parameters: Mapping[str, Any]) -> Log:
    """Return a log to the training's MLflow run; a server that becomes unreachable delays the training only once."""
    import mlflow
    from mlflow.entities import Metric
    from mlflow.exceptions import MlflowException

    def end(state: str) -> None:
        try:
            mlflow.end_run("KILLED" if state == "stopped" else state.upper())
        except MlflowException as error:
            say(f"MLflow: the final status of this run could not be logged ({redacted(error)})")

    file = work.folder / "mlflow.run"
    earlier = file.read_text(errors="replace") if file.is_file() else None
    try:
        # By default, MLflow records the path of the program.
        tags = {"mlflow.source.name": "simile train"}
        run = mlflow.start_run(run_id=earlier, run_name=name, nested=True, tags=tags)
        _at_end(stack, end)
        mlflow.log_params(flat(parameters))
    except MlflowException as error:
        hint = f"; remove {file} to start a new run there" if earlier else ""
        raise InputError(f"{TRACKING_URI}: cannot log to MLflow ({redacted(error)}){hint}") from error
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
            say(f"MLflow: this run is no longer logged, training continues ({redacted(error)})")

    return log


def _pushes(stack: ExitStack, gateway: str, labels: dict[str, str]) -> Log:
    """Return a log that pushes the latest figures to the Pushgateway, and the final state at the end."""
    registry = CollectorRegistry()
    push = pusher(gateway, _GATEWAY_JOB, labels, registry, work="training")

    @cache
    def gauge(name: str, *labels: str) -> Gauge:
        return Gauge(f"simile_training_{name}", _HELP.get(name, name), labels, registry=registry)

    def push_state(state: str) -> None:
        for other in ("running", "finished", "stopped", "failed"):
            gauge("state", "state").labels(other).set(other == state)
        push(is_due=True)

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
    _at_end(stack, push_state)
    return log
