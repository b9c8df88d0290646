"""Bundles that hang, panic or abort: tried in another process, given up, and never the end of a service."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from serving.settings import Settings
from serving.trial import try_bundle
from simile.errors import BundleError
from tests.tiny_ensembles import Ensemble, tokenizer

ROOT = Path(__file__).parents[2]
SETTINGS = Settings(device="cpu", precision="fp32", load_s=60)
BODY = {"pairs": [["The water was cold.", "A cold drink of water."]]}


def normalizing(**normalizer) -> dict[str, bytes]:
    """Return the files of an ensemble whose tokenizer normalizes like this."""
    return {"members/small/tokenizer.json": json.dumps(json.loads(tokenizer()) | {"normalizer": normalizer}).encode()}


def write_hostile(folder: Path, how: str):
    """Write a bundle whose tokenizer panics in Rust, or takes minutes for a text."""
    if how == "panics":
        files = normalizing(type="Precompiled", precompiled_charsmap="AAAA")
    else:
        longer = {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 100_000}
        files = normalizing(type="Sequence", normalizers=[longer, *[{"type": "Lowercase"}] * 20_000])
    return Ensemble(folder).write(how, replace=files, with_golden=False)


def trials(path) -> list[str]:
    """Return the processes that try this bundle."""
    processes = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = process.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"simile.scoring.trial" in command and str(path).encode() in command:
            processes.append(process.parent.name)
    return processes


def wait_until(condition, seconds=30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@contextmanager
def command(path, log: Path, *options: str):
    """Run `simile serve` on the path; yields the process and a function that returns its log."""
    arguments = ["--port", "0", "--metrics-port", "0", "--device", "cpu", "--precision", "fp32", *options]
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "pipeline.cli", "serve", str(path), *arguments], cwd=ROOT, stdout=file, stderr=file
        )
        try:
            yield process, log.read_text
        finally:
            process.kill()
            process.wait()


def url_in(log: str) -> str:
    return next(line for line in log.splitlines() if "listening on" in line).rpartition(" ")[2]


def lead_to(link: Path, target: Path) -> None:
    new = link.with_name("next")
    new.symlink_to(target)
    os.replace(new, link)


def test_trial_returns_the_digest(bundle):
    assert asyncio.run(try_bundle(bundle.path, SETTINGS)) == bundle.manifest.digest


def test_trial_passes_on_the_fault_of_the_bundle(bundle, tmp_path):
    with pytest.raises(BundleError, match=r"^\S+none: no such bundle \(need a directory with manifest\.json\)$"):
        asyncio.run(try_bundle(tmp_path / "none", SETTINGS))


def test_bundle_that_panics_in_rust_is_refused_in_one_line(tmp_path):
    bundle = write_hostile(tmp_path, "panics")
    with pytest.raises(BundleError, match=rf"^{bundle.path}: \S+ is not a tokenizer \(") as caught:
        asyncio.run(try_bundle(bundle.path, SETTINGS))
    assert str(caught.value).isprintable()


def test_trial_that_aborts_is_told_by_its_signal(tmp_path):
    bundle = write_hostile(tmp_path, "hangs")

    async def scenario():
        task = asyncio.create_task(try_bundle(bundle.path, SETTINGS))
        while not trials(bundle.path):
            await asyncio.sleep(0.01)
        # Native code ends its process like this if it is out of memory.
        os.kill(int(trials(bundle.path)[0]), signal.SIGABRT)
        await task

    with pytest.raises(BundleError, match=r"the process that tried it was ended by SIGABRT \(no message\)"):
        asyncio.run(scenario())


def test_trial_without_end_is_killed_at_its_deadline(tmp_path):
    bundle = write_hostile(tmp_path, "hangs")
    with pytest.raises(BundleError, match=r"was not loaded and tried within 4 s \(--load-s\)"):
        asyncio.run(try_bundle(bundle.path, SETTINGS.model_copy(update={"load_s": 4})))
    assert trials(bundle.path) == []


def test_trial_is_killed_with_its_caller(tmp_path):
    bundle = write_hostile(tmp_path, "hangs")

    async def scenario():
        task = asyncio.create_task(try_bundle(bundle.path, SETTINGS))
        while not trials(bundle.path):
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait([task])
        return task.cancelled()

    assert asyncio.run(scenario())
    assert trials(bundle.path) == []


@pytest.mark.parametrize("how", ["panics", "hangs"])
def test_service_with_a_bad_bundle_ends_with_one_line(tmp_path, how):
    bundle = write_hostile(tmp_path, how)
    with command(bundle.path, tmp_path / "log", "--load-s", "4") as (process, log):
        assert process.wait(30) == 2
        lines = [line for line in log().splitlines() if " INFO " not in line]
    assert len(lines) == 1
    assert lines[0].startswith(f"simile: {bundle.path}")


def test_sigterm_ends_a_service_that_loads_for_ever(tmp_path):
    bundle = write_hostile(tmp_path, "hangs")
    with command(bundle.path, tmp_path / "log") as (process, log):
        wait_until(lambda: trials(bundle.path))
        time.sleep(2)
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 0, log()
        assert "Traceback" not in log()
    assert trials(bundle.path) == []


_LOADS_FOR_EVER = """
import sys, time
from serving import server
from serving.settings import Settings
server.open_scorer = lambda *_: time.sleep(1000)
settings = Settings(port=0, metrics_port=0, device="cpu", precision="fp32")
sys.exit(server.run(sys.argv[1], settings))
"""


def test_sigterm_ends_a_service_whose_own_load_hangs_after_the_trial(bundle, tmp_path):
    log = tmp_path / "log"
    with log.open("wb") as file:
        process = subprocess.Popen([sys.executable, "-c", _LOADS_FOR_EVER, bundle.path], cwd=ROOT, stderr=file)
    try:
        wait_until(lambda: trials(bundle.path))
        wait_until(lambda: not trials(bundle.path))
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 0
        assert "Traceback" not in log.read_text()
    finally:
        process.kill()
        process.wait()


def test_sighup_before_the_service_is_ready_is_held(bundle, tmp_path):
    with command(bundle.path, tmp_path / "log") as (process, log):
        # The very first moments of Python, before any code of ours, cannot be covered.
        wait_until(lambda: b"pipeline.cli" in Path(f"/proc/{process.pid}/cmdline").read_bytes())
        time.sleep(0.3)
        for _ in range(60):
            if "ready: " in log():
                break
            process.send_signal(signal.SIGHUP)
            time.sleep(0.05)
        wait_until(lambda: log().count("ready: ") >= 2)
        assert httpx2.post(f"{url_in(log())}/v1/similarity", json=BODY).status_code == 200
        assert process.poll() is None
        assert "Traceback" not in log()


def test_service_outlives_bad_bundles_and_takes_the_next_good_one(bundle, tmp_path):
    good = Ensemble(tmp_path).write("good", seed=2)
    bad = {how: write_hostile(tmp_path, how) for how in ("panics", "hangs")}
    fifo = Ensemble(tmp_path).write("fifo")
    (fifo.path / "members/small/model.onnx").unlink()
    os.mkfifo(fifo.path / "members/small/model.onnx")
    link = tmp_path / "current"
    link.symlink_to(bundle.path)
    with command(link, tmp_path / "log") as (process, log):
        wait_until(lambda: "ready: " in log())
        url = f"{url_in(log())}/v1/similarity"
        for number, path in enumerate([bad["panics"].path, fifo.path], 1):
            lead_to(link, path)
            process.send_signal(signal.SIGHUP)
            wait_until(lambda number=number: log().count("bundle not replaced") == number)
            assert httpx2.post(url, json=BODY).json()["bundle"] == bundle.identity
        lead_to(link, bad["hangs"].path)
        process.send_signal(signal.SIGHUP)
        wait_until(lambda: trials(link))
        time.sleep(2)
        lead_to(link, good.path)
        process.send_signal(signal.SIGHUP)
        wait_until(lambda: good.identity in log())
        wait_until(lambda: httpx2.post(url, json=BODY).json()["bundle"] == good.identity)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0, log()
        assert "Traceback" not in log()


def test_digest_from_outside_is_required_at_every_load(bundle, tmp_path):
    with command(bundle.path, tmp_path / "log", "--digest", "0" * 64) as (process, log):
        assert process.wait(30) == 2
        assert log().splitlines()[-1].endswith(f"got the digest {bundle.manifest.digest}, need {'0' * 64}")
