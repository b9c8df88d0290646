"""The labelling server as a process: killed at random moments, started twice, and with clients that stall."""

import http.client
import json
import os
import random
import re
import resource
import signal
import socket
import subprocess
import threading
import time
from contextlib import closing, suppress
from pathlib import Path

from labelling.answers import read_answers, read_journal
from simile.artifacts.sampled_pairs import read_sampled_pairs
from tests.labelling.labelling_servers import ROOT, command, free_port, labelling, write_pairs

KILLS = int(os.environ.get("SIMILE_TEST_KILLS", "5"))
"""How often the server is killed at a random moment; `make test-kill` does it more often."""


def asked(port, path, body=None):
    """Return status and content of a response."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        headers = {"content-type": "application/json"}
        connection.request("POST" if body else "GET", path, body and json.dumps(body), headers)
        with connection.getresponse() as response:
            return response.status, json.loads(response.read())


class Clicker:
    """Answers pair after pair as the page does: each click is sent again until it is acknowledged."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.acknowledged: list[tuple[str, str]] = []
        self.num_cut = 0
        """Requests that a kill has cut off."""
        self._draw, self._stop = random.Random(1), threading.Event()
        self._thread = threading.Thread(target=self._click, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Return once the last click is acknowledged, while a server is there."""
        self._stop.set()
        self._thread.join(60)

    def _ask(self, path, body=None):
        while True:
            try:
                status, content = asked(self.port, path, body)
                assert status == 200, content
                return content
            except ConnectionRefusedError:
                time.sleep(0.02)
            except (OSError, http.client.HTTPException):
                self.num_cut += 1

    def _click(self) -> None:
        state = self._ask("/api/state")
        while not self._stop.is_set() and state["pair"]:
            pair, choice = state["pair"]["key"], self._draw.choice(["same", "different", "unsure", "skip", "undone"])
            is_undo = choice == "undone" and state["last"]
            click = {"sequence": state["sequence"]}
            if is_undo:
                pair = self._standing()[-1]
            else:
                choice = "same" if choice == "undone" else choice
                click |= {"pair": pair, "answer": choice, "seconds": 1.0}
            state = self._ask("/api/undo" if is_undo else "/api/answer", click)
            self.acknowledged.append((pair, choice))

    def _standing(self) -> list[str]:
        """Return the pairs with an answer, in the order of their last answers."""
        last: dict[str, str] = {}
        for pair, choice in self.acknowledged:
            last.pop(pair, None)
            if choice != "undone":
                last[pair] = choice
        return [*last]


def test_acknowledged_answers_survive_kills_and_none_is_there_twice(tmp_path):
    pairs = write_pairs(tmp_path / "pairs.jsonl", [(f"first {i}", f"second {i}") for i in range(3000)])
    out, port, draw = tmp_path / "labelled.jsonl", free_port(), random.Random(0)
    clicker = Clicker(port)
    for _ in range(KILLS):
        with labelling(pairs, out, port=port) as server:
            time.sleep(draw.uniform(0, 0.5))
            server.process.send_signal(signal.SIGKILL)
            server.process.wait()
    with labelling(pairs, out, port=port):
        clicker.stop()
    journal = [(answer.pair, answer.answer) for answer in read_journal(out)]
    print(f"{len(journal)} lines, {KILLS} kills, {clicker.num_cut} requests cut off")
    assert journal == clicker.acknowledged
    assert [answer.pair for answer in read_answers(out)] == clicker._standing()
    assert clicker.num_cut > 0
    assert len(journal) > KILLS


def test_second_server_on_the_same_file_is_refused(tmp_path):
    pairs = write_pairs(tmp_path / "pairs.jsonl", [("a", "b")])
    with labelling(pairs, tmp_path / "labelled.jsonl"):
        second = command(pairs, tmp_path / "labelled.jsonl", "--port", "0")
        done = subprocess.run(second, cwd=ROOT, env=os.environ, capture_output=True, text=True, check=False)
    assert done.returncode == 75
    assert "another process is writing it" in done.stderr


def test_port_in_use_is_said(tmp_path):
    pairs = write_pairs(tmp_path / "pairs.jsonl", [("a", "b")])
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
        other = command(pairs, tmp_path / "labelled.jsonl", "--port", port)
        done = subprocess.run(other, cwd=ROOT, env=os.environ, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert f"cannot listen on 127.0.0.1:{port}" in done.stderr


def test_ctrl_c_ends_the_server_and_names_what_was_answered(tmp_path):
    pairs = write_pairs(tmp_path / "pairs.jsonl", [("a", "b"), ("c", "d")])
    with labelling(pairs, tmp_path / "labelled.jsonl") as server:
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(30) == 0
        assert server.log.read_text().splitlines()[-1].endswith("labelled.jsonl: 0 of 2 pairs")


def test_stalled_and_endless_clients_leave_the_page_answering(tmp_path):
    pairs = write_pairs(tmp_path / "pairs.jsonl", [("a", "b")])
    with labelling(pairs, tmp_path / "labelled.jsonl") as server:
        port = server.port
        host = f"host: 127.0.0.1:{port}\r\n".encode()
        stalled = [socket.create_connection(("127.0.0.1", port)) for _ in range(50)]
        for number, client in enumerate(stalled):
            head = b"POST /api/answer HTTP/1.1\r\n" + host
            body = b"content-type: application/json\r\ncontent-length: 100\r\n\r\n{"
            client.sendall(head + (body if number % 2 else b""))
        with socket.create_connection(("127.0.0.1", port)) as endless:
            endless.settimeout(10)
            answer = b""
            with suppress(OSError):
                endless.sendall(b"GET / HTTP/1.1\r\n" + host + b"x-long: " + b"x" * 10**6)
                answer = endless.recv(100)
            assert not answer or b" 400 " in answer
        assert asked(port, "/api/state")[0] == 200
        assert stalled[1].recv(100).startswith(b"HTTP/1.1 408")
        for client in stalled:
            client.close()


def test_server_out_of_file_descriptors_logs_little_and_recovers(tmp_path):
    pairs = write_pairs(tmp_path / "pairs.jsonl", [("a", "b")])
    with labelling(pairs, tmp_path / "labelled.jsonl") as server:
        most = len(os.listdir(f"/proc/{server.process.pid}/fd")) + 10
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (most, most))
        clients = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(18)]
        time.sleep(3)
        assert server.log.stat().st_size < 200_000
        for client in clients:
            client.close()
        assert asked(server.port, "/api/state")[0] == 200


def test_readers_that_read_nothing_take_little_memory(tmp_path):
    pairs = write_pairs(tmp_path / "pairs.jsonl", [("first " * 3000, "second " * 2800)])
    with labelling(pairs, tmp_path / "labelled.jsonl") as server:
        asked(server.port, "/api/state")
        before = resident_bytes(server)
        request = f"GET /api/state HTTP/1.1\r\nhost: 127.0.0.1:{server.port}\r\n\r\n".encode() * 200
        clients = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(30)]
        for client in clients:
            client.sendall(request)
        assert asked(server.port, "/api/state")[0] == 200
        time.sleep(3)
        assert resident_bytes(server) - before < 100 * 2**20
        for client in clients:
            client.close()


def resident_bytes(server):
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return 1024 * int(re.search(r"VmRSS:\s+(\d+) kB", status)[1])


def test_server_listens_on_the_loopback_address_only(tmp_path):
    pairs = write_pairs(tmp_path / "pairs.jsonl", [("a", "b")])
    with labelling(pairs, tmp_path / "labelled.jsonl") as server:
        port = server.port
        listening = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        addresses = [fields[1] for fields in listening if fields[3] == "0A" and fields[1].endswith(f":{port:04X}")]
    assert addresses == [f"0100007F:{port:04X}"]


def test_scores_are_computed_where_the_file_has_none(tmp_path, bundle):
    texts = [(f"card {i} arrived", f"the water was cold {i}") for i in range(9)]
    pairs, out = write_pairs(tmp_path / "pairs.jsonl", texts), tmp_path / "labelled.jsonl"
    with labelling(pairs, out, "--bundle", str(bundle.path), "--baseline", str(bundle.path), "--random", "4") as server:
        _, state = asked(server.port, "/api/state")
    assert (state["progress"]["part"], state["progress"]["part_total"], state["progress"]["total"]) == ("random", 4, 9)
    assert state["pair"]["key"] in {pair.key for pair in read_sampled_pairs(pairs)}
