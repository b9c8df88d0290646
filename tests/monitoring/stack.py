"""Runs the service, a Pushgateway and a Prometheus that scrapes both, as real processes on this machine."""

import json
import os
import random
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import Any

import httpx2
import yaml

from tests.tiny_ensembles import Ensemble

ROOT = Path(__file__).parents[2]
RULES = yaml.safe_load((ROOT / "k8s/components/monitoring/rules.yaml").read_text())["spec"]
DASHBOARD = json.loads((ROOT / "k8s/components/monitoring/dashboard.json").read_text())
CONFIG = yaml.safe_load((ROOT / "docs/compose/prometheus.yml").read_text())
PROGRAMS = ("prometheus", "promtool", "prometheus-pushgateway")
WORDS = ["The", "water", "was", "cold.", "A", "drink", "of", "no", "card", "has", "come", "yet", "still", "waiting"]


def missing() -> list[str]:
    """Return the programs that are not on the path; Debian's packages are prometheus and prometheus-pushgateway."""
    return [program for program in PROGRAMS if not shutil.which(program)]


def panels() -> list[dict[str, Any]]:
    """Return the dashboard's panels, without its rows."""
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def filled(expr: str) -> str:
    """Return the expression with Grafana's variables filled in, for a scrape interval of at most a second."""
    return expr.replace("$namespace", ".*").replace("$__rate_interval", "10s")


@dataclass(frozen=True)
class Prometheus:
    """A running Prometheus."""

    http: httpx2.Client

    def ask(self, path: str, **parameters: Any) -> Any:
        answer = self.http.get(f"/api/v1/{path}", params=parameters).json()
        assert answer["status"] == "success", answer
        return answer["data"]

    def values(self, expr: str) -> list[dict[str, Any]]:
        """Return the current labels and value of each series of the expression."""
        return self.ask("query", query=expr)["result"]


@dataclass(frozen=True)
class Stack:
    """The addresses of the running processes."""

    prometheus: Prometheus
    service: str
    gateway: str


@contextmanager
def running(bundle: Path, folder: Path, *, also: dict[str, str] | None = None) -> Iterator[Stack]:
    """Start all processes, yield their addresses, and stop them.

    Args:
        bundle: the bundle to serve.
        folder: the folder of logs and of Prometheus' data.
        also: further targets by the name of their job.
    """
    api, metrics, gateway, port = free_ports(4)
    address = "127.0.0.1:{}".format
    with ExitStack() as stack:
        http = stack.enter_context(_client(f"http://{address(port)}"))
        start = partial(_process, stack, folder)
        options = ["--device", "cpu", "--precision", "fp32", "--max-waiting-tokens", "4000"]
        options += ["--shadow", str(Ensemble(folder / "shadow").write(seed=1).path)]
        ports = ["--port", str(api), "--metrics-port", str(metrics)]
        start("simile", sys.executable, "-m", "pipeline.cli", "serve", str(bundle), *ports, *options)
        start("gateway", "prometheus-pushgateway", f"--web.listen-address={address(gateway)}")
        jobs = {"simile-serve": address(metrics), "pushgateway": address(gateway), **(also or {})}
        (folder / "prometheus.yml").write_text(yaml.safe_dump(_config(jobs)))
        (folder / "rules.yaml").write_text(yaml.safe_dump(RULES))
        start(
            "prometheus",
            "prometheus",
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={address(port)}",
        )
        for ready in (f"{address(api)}/readyz", f"{address(gateway)}/-/ready", f"{address(port)}/-/ready"):
            _wait_for(f"http://{ready}", folder, http)
        yield Stack(Prometheus(http), f"http://{address(api)}", f"http://{address(gateway)}")


def _config(jobs: dict[str, str]) -> dict[str, Any]:
    """Return the configuration of compose.yaml's Prometheus for these targets, with shorter intervals."""
    known = {job["job_name"]: job for job in CONFIG["scrape_configs"]}
    scrapes = [
        # The operator does the same for kube-state-metrics, whose labels describe other objects.
        known.get(name, {"job_name": name, "honor_labels": True}) | {"static_configs": [{"targets": [target]}]}
        for name, target in jobs.items()
    ]
    short = dict.fromkeys(("scrape_interval", "scrape_timeout", "evaluation_interval"), "500ms")
    return CONFIG | {"global": short, "scrape_configs": scrapes}


def _process(stack: ExitStack, folder: Path, name: str, *command: str) -> None:
    log = stack.enter_context((folder / f"{name}.log").open("wb"))
    process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
    stack.callback(process.wait)
    stack.callback(process.kill)


def _client(url: str) -> httpx2.Client:
    # Without certificates: reading them takes 50 ms per client.
    return httpx2.Client(base_url=url, verify=False, timeout=30)


def _wait_for(url: str, folder: Path, http: httpx2.Client) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with suppress(httpx2.TransportError):
            if http.get(url).status_code == 200:
                return
        time.sleep(0.05)
    raise AssertionError("\n".join(file.read_text() for file in folder.glob("*.log")))


def free_ports(num: int) -> list[int]:
    """Return ports that nobody listens on."""
    with ExitStack() as stack:
        listeners = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(num)]
        return [listener.getsockname()[1] for listener in listeners]


@contextmanager
def exposed(text: str) -> Iterator[str]:
    """Serve the same metrics to every request; yield host and port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join(10)


@contextmanager
def loaded(service: str) -> Iterator[None]:
    """Send enough pairs for a drift index, then varied requests from several clients until the block ends."""
    chosen, numbers = random.Random(0), count()

    def text(num_words: int) -> str:
        return " ".join([*chosen.choices(WORDS, k=num_words), f"no. {next(numbers)}"])

    with _client(service) as client:
        for _ in range(12):
            body = {"pairs": [[text(chosen.randint(1, 9)), text(chosen.randint(1, 9))] for _ in range(1000)]}
            assert client.post("/v1/similarity", json=body).status_code == 200
    is_over = threading.Event()
    threads = [threading.Thread(target=_visit, args=(service, seed, text, is_over)) for seed in range(6)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        is_over.set()
        for thread in threads:
            thread.join(30)


def _visit(service: str, seed: int, text: Any, is_over: threading.Event) -> None:
    """Send known, new and long texts, requests too large to be admitted beside others, and invalid ones."""
    chosen = random.Random(seed)
    known = [f"{a} {b}" for a in WORDS for b in WORDS]
    with _client(service) as client:
        for turn in count(seed):
            pairs = [[chosen.choice(known), text(chosen.randint(1, 20))] for _ in range(chosen.randint(1, 24))]
            if turn % 7 == 0:
                pairs += [[text(60), text(3)]]
            if turn % 29 == 0:
                pairs += [[text(20), text(20)] for _ in range(300)]
            path, body = (
                ("/v1/similarity", {"pairs": pairs}) if turn % 5 else ("/score", {"text_1": "a", "text_2": "b"})
            )
            client.post(path, json=body if turn % 13 else {})
            if is_over.wait(chosen.uniform(0.05, 0.15)):
                return


def environment(stack: Stack) -> dict[str, str]:
    """Return the environment of a training that reports to the stack's Pushgateway."""
    return os.environ | {"PROMETHEUS_PUSHGATEWAY_URL": stack.gateway}
