import dataclasses
import errno
import json
import socket
import struct
import subprocess
import sys
import time
from contextlib import nullcontext
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tensorboardX.proto.event_pb2 import Event, SessionLog

from pipeline.cli import main
from simile.artifacts import read_labelled_pairs, read_training_history
from simile.errors import InputError, StoppedError
from tests.live_servers import Reply, mlflow_run, scripted
from training.config import TrainConfig
from training.tracking import require_trackers, tracking
from training.train import train
from training.work import Work

FIGURES = {"spearman", "auc", "separability", "overlap"}


@pytest.fixture(autouse=True)
def _untracked(monkeypatch):
    """Unset the trackers of the person who runs the tests."""
    monkeypatch.delenv("PROMETHEUS_PUSHGATEWAY_URL", raising=False)
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID", "MLFLOW_RUN_ID"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def store(monkeypatch, tmp_path):
    """MLflow's store in a folder: a function that returns the client and the only run."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlflow").as_uri())
    # MLflow prefers a database, which needs many more packages.
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")

    def client_and_run():
        from mlflow import MlflowClient

        client = MlflowClient()
        (run,) = client.search_runs(["0"])
        return client, run

    return client_and_run


@pytest.fixture
def work(tmp_path):
    return Work(tmp_path / "bundle")


def events_of(file):
    """The events in the file, each of which follows its length and a checksum and precedes another checksum."""
    content, events = file.read_bytes(), []
    while content:
        (size,) = struct.unpack("<Q", content[:8])
        events.append(Event.FromString(content[12 : 12 + size]))
        content = content[16 + size :]
    return events


def scalars(folder):
    """Step and value of every figure, by its name."""
    by_name = {}
    for file in sorted(folder.iterdir()):
        for event in events_of(file):
            for value in event.summary.value:
                by_name.setdefault(value.tag, []).append((event.step, pytest.approx(value.simple_value, abs=1e-6)))
    return by_name


def test_event_files_hold_losses_rates_and_dev_figures(trained):
    run = trained(epochs=2)
    logged, history = scalars(run.work / "tensorboard"), run.history
    assert set(logged) == {
        *(f"loss/{name}" for name in ("total", "ranking", "cosent")),
        *(f"{name}/dev" for name in FIGURES),
        "learning_rate",
        "grad_norm",
        "epoch",
        "pairs_per_second",
    }
    assert [(loss.step, loss.total) for loss in history.losses] == logged["loss/total"]
    for name in ("ranking", "cosent"):
        assert [(loss.step, loss.parts[name]) for loss in history.losses] == logged[f"loss/{name}"]
    for name in FIGURES:
        by_epoch = [(10 * entry.epoch, getattr(entry.dev["dev"], name)) for entry in history.epochs]
        assert by_epoch == logged[f"{name}/dev"]
    assert [step for step, _ in logged["learning_rate"]] == [10, 20]
    assert logged["epoch"] == [(10 * epoch, epoch) for epoch in range(3)]


def test_resumed_run_hides_later_steps_of_the_killed_one(work):
    with tracking(work, "encoder", {}, 0) as log:
        for step in (10, 20):
            log({"loss/total": step}, step)
    with tracking(work, "encoder", {}, 10) as log:
        log({"loss/total": 21}, 20)
    first, second = sorted(work.tensorboard.iterdir())
    assert [value.simple_value for event in events_of(first) for value in event.summary.value] == [10, 20]
    starts = [event.step for event in events_of(second) if event.session_log.status == SessionLog.START]
    assert starts == [11]
    assert [value.simple_value for event in events_of(second) for value in event.summary.value] == [21]


def test_figures_that_are_not_finite_are_left_out_and_names_are_plain(work):
    with tracking(work, "encoder", {}, 0) as log:
        log({"spearman/my (dev) set": 0.5, "auc/x": float("nan")}, 1)
    assert scalars(work.tensorboard) == {"spearman/my__dev__set": [(1, 0.5)]}


def test_full_disk_is_an_error_and_not_an_endless_wait(disk):
    subprocess.run(["mount", "-o", "remount,size=64k", disk], check=True)

    def fill():
        with tracking(Work(disk / "bundle"), "encoder", {}, 0) as log:
            for step in range(10_000):
                log({"loss/total": 1.0}, step)

    with pytest.raises(OSError, match="No space left") as caught:
        fill()
    assert caught.value.errno == errno.ENOSPC


@pytest.mark.usefixtures("without_export")
def test_mlflow_has_the_figures_and_the_public_part_of_the_config(store, settings, material, tmp_path):
    pairs = read_labelled_pairs(material.pairs)
    few = dataclasses.replace(pairs, rows=pairs.rows[:32])
    config = TrainConfig(**settings(batch_size=2, prompt="query: "))
    train(config, [few], [few], tmp_path / "bundle")
    client, run = store()
    history = read_training_history(tmp_path / "bundle.work")
    assert run.info.status == "FINISHED"
    assert run.data.params.items() >= {
        ("base", "tiny-bert"), ("lora.rank", "32"), ("loss.cosent", "0.3"), ("prompt", "query: "), ("seed", "0")
    }  # fmt: skip
    measured = {(metric.step, metric.value) for metric in client.get_metric_history(run.info.run_id, "spearman/pairs")}
    assert measured == {(16 * entry.epoch, entry.dev["pairs"].spearman) for entry in history.epochs}
    assert [(metric.step, metric.value) for metric in client.get_metric_history(run.info.run_id, "loss/total")] == [
        (loss.step, loss.total) for loss in history.losses
    ]
    told = json.dumps([run.data.params, run.data.tags])
    assert not [place for place in (str(tmp_path), str(Path(settings()["base"]).parent), sys.argv[0]) if place in told]


def test_mlflow_run_is_resumed_and_ends_as_the_training_does(store, work):
    def stop(error, step):
        with tracking(work, "encoder", {"seed": 0}, step) as log:
            log({"loss/total": 1.0}, step + 10)
            raise error

    for step, (error, status) in enumerate(
        [(StoppedError("SIGTERM"), "KILLED"), (KeyboardInterrupt(), "KILLED"), (ValueError("why"), "FAILED")]
    ):
        with pytest.raises(type(error)):
            stop(error, step)
        client, run = store()
        assert run.info.status == status
    assert [metric.step for metric in client.get_metric_history(run.info.run_id, "loss/total")] == [10, 11, 12]


@pytest.fixture
def server(monkeypatch):
    """A tracking server that accepts requests until its disk is full, and records them."""
    full_at = 4
    with scripted(lambda _: mlflow_run() if len(made.requests) < full_at else Reply(507)) as made:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", made.url)
        yield made


def test_lost_mlflow_server_does_not_stop_the_training(server, work, capsys):
    with tracking(work, "encoder", {"seed": 3}, 0) as log:
        for step in (10, 20, 30, 40):
            log({"loss/total": float(step)}, step)
    told = [
        (one.path.rpartition("/mlflow/")[2], one.body.get("params") or one.body.get("metrics"))
        for one in server.requests
    ]
    assert [path for path, _ in told] == ["runs/create", *["runs/log-batch"] * 3, "runs/update"]
    assert told[1][1] == [{"key": "seed", "value": "3"}]
    assert [(of["key"], of["value"], of["step"]) for _, (of,) in told[2:4]] == [
        ("loss/total", 10, 10),
        ("loss/total", 20, 20),
    ]
    out, error = capsys.readouterr()
    assert out == ""
    assert error.count("MLflow: this run is no longer logged, training continues") == 1


def test_mlflow_that_cannot_be_written_to_is_bad_input(monkeypatch, work):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nonsense://here")
    with pytest.raises(InputError, match="MLFLOW_TRACKING_URI: cannot log to MLflow"), tracking(work, "encoder", {}, 0):
        pass


def test_mlflow_run_whose_parameters_are_refused_has_failed(store, work):
    with tracking(work, "encoder", {"seed": 0}, 0):
        pass
    refused = r"cannot log to MLflow .*seed"
    with pytest.raises(InputError, match=refused), tracking(work, "encoder", {"seed": 1}, 0):
        pass
    assert store()[1].info.status == "FAILED"


def test_mlflow_run_that_is_unknown_is_bad_input_with_a_way_out(store, work):
    work.folder.mkdir()
    (work.folder / "mlflow.run").write_text("a" * 32)
    with pytest.raises(InputError, match=r"remove .*mlflow\.run to start a new run there"), tracking(work, "x", {}, 0):
        pass
    (work.folder / "mlflow.run").unlink()
    with tracking(work, "x", {}, 0):
        assert store()[1].info.run_id == (work.folder / "mlflow.run").read_text()


def test_missing_mlflow_is_reported_before_training(monkeypatch, settings, material, tmp_path, capsys):
    config, out = tmp_path / "config.yaml", tmp_path / "new" / "bundle"
    config.write_text(json.dumps(settings()))
    argv = ["train", str(config), "--pairs", str(material.pairs), "--out", str(out)]
    monkeypatch.setitem(sys.modules, "mlflow", None)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://localhost:5000")
    assert main(argv) == 2
    *_, line = capsys.readouterr().err.splitlines()
    assert "MLFLOW_TRACKING_URI is set, but MLflow is not installed (pip install 'simile-pairs[mlflow]'" in line
    assert not out.parent.exists()


def test_mlflow_is_not_loaded_unless_it_is_used(monkeypatch, work):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with tracking(work, "encoder", {}, 0) as log:
        log({"loss/total": 1.0}, 10)
    assert not (work.folder / "mlflow.run").exists()


@pytest.fixture
def gateway(monkeypatch):
    """A Pushgateway server that records the path and metrics of each push."""
    pushed = []

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self):
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            samples = [of for family in text_string_to_metric_families(body) for of in family.samples]
            pushed.append((self.path, {(of.name, *sorted(of.labels.values())): of.value for of in samples}))
            self.send_response(next(self.server.answers, 200))
            self.end_headers()

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as made:
        made.answers, made.pushed = iter([]), pushed
        thread = Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setenv("PROMETHEUS_PUSHGATEWAY_URL", f"http://127.0.0.1:{made.server_port}")
        monkeypatch.setattr("simile.pushgateway.PUSH_INTERVAL_S", 0)
        yield made
        made.shutdown()
        thread.join()


def states(pushed):
    return [next(key[1] for key, value in of.items() if key[0] == "simile_training_state" and value) for of in pushed]


@pytest.mark.usefixtures("without_export")
def test_gateway_has_the_last_figures_of_a_training(gateway, settings, material, tmp_path):
    pairs = read_labelled_pairs(material.pairs)
    few = dataclasses.replace(pairs, rows=pairs.rows[:32])
    train(TrainConfig(**settings(batch_size=2)), [few], [few], tmp_path / "bundle")
    history = read_training_history(tmp_path / "bundle.work")
    assert {path for path, _ in gateway.pushed} == {f"/metrics/job/simile-train/member/encoder/run/{tmp_path.name}"}
    # The pushes: the start, the base's figures, the losses of ten steps, the epoch's figures, the end.
    assert states([of for _, of in gateway.pushed]) == ["running"] * 4 + ["finished"]
    assert gateway.pushed[1][1]["simile_training_epoch",] == 0
    last = gateway.pushed[-1][1]
    assert last["simile_training_step",] == 16
    assert last["simile_training_epoch",] == 1
    assert 0 < last["simile_training_pairs_per_second",] < 1e5
    losses = history.losses[-1]
    for part, loss in {"total": losses.total, **losses.parts}.items():
        assert last["simile_training_loss", part] == pytest.approx(loss)
    for figure, value in history.epochs[-1].dev["pairs"].model_dump().items():
        assert last["simile_training_dev", *sorted([figure, "pairs"])] == pytest.approx(value)


@pytest.mark.parametrize(
    ("error", "state"), [(ValueError("why"), "failed"), (StoppedError("SIGTERM"), "stopped"), (None, "finished")]
)
def test_gateway_gets_the_final_state(gateway, work, error, state):
    expected = pytest.raises(type(error)) if error else nullcontext()
    with expected, tracking(work, "encoder", {}, 0) as log:
        log({"loss/total": 1.0}, 10)
        if error:
            raise error
    assert states([of for _, of in gateway.pushed]) == ["running", "running", state]


def test_gateway_gets_at_most_one_push_per_interval(gateway, work, monkeypatch):
    monkeypatch.setattr("simile.pushgateway.PUSH_INTERVAL_S", 60)
    with tracking(work, "encoder", {}, 0) as log:
        for step in range(100):
            log({"loss/total": float(step)}, step)
    assert [of.get(("simile_training_loss", "total")) for _, of in gateway.pushed] == [None, 99]


def test_gateway_that_refuses_for_a_while_is_reported_once_and_retried(gateway, work, monkeypatch, capsys):
    monkeypatch.setattr("simile.pushgateway.RETRY_INTERVAL_S", 0)
    gateway.answers = iter([200, 500, 503])
    with tracking(work, "encoder", {}, 0) as log:
        for step in (10, 20, 30):
            log({"loss/total": float(step)}, step)
    assert [of.get(("simile_training_step",)) for _, of in gateway.pushed] == [None, 10, 20, 30, 30]
    out, error = capsys.readouterr()
    assert out == ""
    assert error.count("Pushgateway: cannot be reached, training continues") == error.strip().count("\n") + 1


@pytest.fixture(params=["nobody listens", "no answer", "no HTTP"])
def absent(request, monkeypatch):
    """A gateway address at which nobody listens, answers or speaks HTTP."""
    monkeypatch.setattr("simile.pushgateway.PUSH_TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        monkeypatch.setenv("PROMETHEUS_PUSHGATEWAY_URL", f"http://127.0.0.1:{listener.getsockname()[1]}")
        if request.param == "nobody listens":
            listener.close()
        elif request.param == "no HTTP":

            def answer():
                while True:
                    try:
                        connection, _ = listener.accept()
                    except OSError:
                        return
                    with connection:
                        connection.recv(65536)
                        connection.sendall(b"SSH-2.0-other\r\n")

            Thread(target=answer, daemon=True).start()
        yield
        if request.param == "no HTTP":
            listener.shutdown(socket.SHUT_RDWR)


@pytest.mark.usefixtures("absent")
def test_absent_gateway_neither_stops_nor_delays_the_training(work, capsys):
    start = time.monotonic()
    with tracking(work, "encoder", {}, 0) as log:
        for step in range(50):
            log({"loss/total": float(step)}, step)
    # Pushes are tried at the start and at the end, with less than a minute in between.
    assert time.monotonic() - start < 2
    assert capsys.readouterr().err.count("Pushgateway: cannot be reached, training continues") == 1


@pytest.mark.parametrize(
    "address", ["localhost:9091", "http://me:secret-word@gateway:9091", "http://", "ftp://gateway"]
)
def test_malformed_gateway_address_is_bad_input(monkeypatch, address):
    monkeypatch.setenv("PROMETHEUS_PUSHGATEWAY_URL", address)
    with pytest.raises(InputError, match="PROMETHEUS_PUSHGATEWAY_URL: need http://HOST:PORT") as caught:
        require_trackers()
    assert "secret-word" not in str(caught.value)
