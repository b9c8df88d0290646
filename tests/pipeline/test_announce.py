"""Tests `simile announce`: the notice that a webhook gets, and the version in MLflow's registry."""

import json
import shutil

import pytest

from pipeline.cli import main
from tests.evaluation_reports import evaluation_report
from tests.live_servers import Reply, scripted

ADDRESS = "s3://models/simile/0123"
FIGURES = {
    "pairs": 4000,
    "sha256": "0" * 64,
    "graded": False,
    "bundle": {"spearman": 0.612},
    "baseline": {"spearman": 0.5271},
    "difference": {"spearman": 0.0849, "low": 0.0365, "high": 0.1417},
    "lexical": {"spearman": None},
}
SECRET = "planted5ecret"


@pytest.fixture
def finished(bundle, tmp_path):
    """Returns the folder of a run of the bundle, with the report changed as a test says."""
    folder = tmp_path / "simile-train-drift-x7k2p"
    shutil.copytree(bundle.path, folder / "bundle")

    def finished(**changed):
        values = {
            "bundle": {"digest": bundle.manifest.digest},
            "sets": {"test-unseen": FIGURES},
            "verdict": "pass",
            "reasons": ("better on test-unseen",),
        }
        report = evaluation_report(**values | changed)
        (folder / "report.json").write_text(report.model_dump_json())
        (folder / "report.html").write_text("<p>the report</p>")
        return folder

    return finished


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name in ("SIMILE_WEBHOOK_URL", "SIMILE_WEBHOOK_TOKEN", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def webhook(monkeypatch):
    """A receiver that answers with the status in ``status``, and records what it gets."""
    with scripted(lambda _: Reply(made.status, headers={"location": "/elsewhere"})) as made:
        made.status = 204
        monkeypatch.setenv("SIMILE_WEBHOOK_URL", f"{made.url}/hooks/{SECRET}")
        yield made


def announce(folder, *options):
    return main(["announce", str(folder), ADDRESS, *options])


def last_line(capfd):
    out, error = capfd.readouterr()
    assert out == ""
    assert SECRET not in error
    return error.splitlines()[-1]


def test_notice_has_the_digest_the_figures_and_a_text(webhook, finished, bundle, monkeypatch, capfd):
    monkeypatch.setenv("SIMILE_WEBHOOK_TOKEN", SECRET)
    assert announce(finished()) == 0
    (request,) = webhook.requests
    assert request.headers["authorization"] == f"Bearer {SECRET}"
    assert request.headers["content-type"] == "application/json"
    text = request.body.pop("text")
    digest = bundle.manifest.digest
    assert request.body == {
        "run": "simile-train-drift-x7k2p",
        "digest": digest,
        "address": ADDRESS,
        "model": None,
        "sets": {
            "test-unseen": {"pairs": 4000, "spearman": 0.612, "difference": 0.0849, "low": 0.0365, "high": 0.1417}
        },
        "reasons": ["better on test-unseen"],
    }
    assert text == (
        f"The bundle of the run simile-train-drift-x7k2p passed the gate and awaits a decision: {ADDRESS} "
        f"(sha256 {digest}). test-unseen: Spearman 0.6120, +0.0849 [+0.0365, +0.1417] against the baseline, on 4,000 "
        "pairs."
    )
    assert "the notice was sent" in last_line(capfd)


def test_address_and_token_may_end_with_a_line_end(webhook, finished, monkeypatch):
    monkeypatch.setenv("SIMILE_WEBHOOK_URL", f"{webhook.url}/hooks\n")
    monkeypatch.setenv("SIMILE_WEBHOOK_TOKEN", f"{SECRET}\n")
    assert announce(finished()) == 0
    (request,) = webhook.requests
    assert (request.path, request.headers["authorization"]) == ("/hooks", f"Bearer {SECRET}")


def test_github_gets_an_event_that_it_accepts(webhook, finished, bundle):
    assert announce(finished(), "--format", "github") == 0
    (request,) = webhook.requests
    # GitHub refuses other keys, and more than ten in the payload.
    assert set(request.body) == {"event_type", "client_payload"}
    assert request.body["event_type"] == "simile-bundle"
    assert len(request.body["client_payload"]) <= 10
    assert request.body["client_payload"]["digest"] == bundle.manifest.digest


@pytest.mark.parametrize(("status", "code"), [(500, 75), (503, 75), (429, 75), (0, 75), (302, 2), (400, 2), (404, 2)])
def test_notice_that_did_not_arrive_is_an_error_without_the_address(webhook, finished, capfd, status, code):
    webhook.status = status
    assert announce(finished()) == code
    assert len(webhook.requests) == 1
    assert last_line(capfd).startswith("simile: SIMILE_WEBHOOK_URL: 127.0.0.1 ")


def test_receiver_that_is_not_there_can_be_tried_again(finished, monkeypatch, capfd):
    monkeypatch.setenv("SIMILE_WEBHOOK_URL", f"http://127.0.0.1:9/{SECRET}")
    assert announce(finished()) == 75
    assert "127.0.0.1 cannot be reached (ConnectionRefusedError)" in last_line(capfd)


@pytest.mark.parametrize("address", [f"http://me:{SECRET}@here/", f"here/{SECRET}", f"file:///{SECRET}", "https://"])
def test_malformed_address_is_bad_input(finished, monkeypatch, capfd, address):
    monkeypatch.setenv("SIMILE_WEBHOOK_URL", address)
    assert announce(finished()) == 2
    assert "SIMILE_WEBHOOK_URL: need https://HOST/PATH" in last_line(capfd)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"verdict": "fail"}, "got the verdict fail, need a bundle that passed the gate"),
        ({"verdict": None}, "got the verdict none, need a bundle that passed the gate"),
        ({"bundle": {"digest": "f" * 64}}, f"is of {'f' * 64}, need the report of the bundle"),
    ],
)
def test_bundle_that_did_not_pass_is_not_announced(webhook, finished, capfd, changed, message):
    assert announce(finished(**changed)) == 2
    assert message in last_line(capfd)
    assert webhook.requests == []


def test_run_without_a_report_is_bad_input(webhook, finished, capfd):
    folder = finished()
    (folder / "report.json").unlink()
    assert announce(folder) == 2
    assert "report.json: no such file, need the report of a run" in last_line(capfd)


def test_nobody_to_tell_is_bad_input(finished, capfd):
    assert announce(finished()) == 2
    assert "need SIMILE_WEBHOOK_URL or --model" in last_line(capfd)


@pytest.fixture
def registry(monkeypatch, tmp_path):
    """MLflow's client of a store in a folder."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlflow").as_uri())
    # MLflow prefers a database, which needs many more packages.
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    from mlflow import MlflowClient

    return MlflowClient()


def test_registry_has_the_digest_the_reports_and_the_alias(registry, finished, bundle, webhook, tmp_path):
    assert announce(finished(), "--model", "helpdesk") == 0
    version = registry.get_model_version_by_alias("helpdesk", "candidate")
    assert version.tags == {"digest": bundle.manifest.digest, "address": ADDRESS}
    run = registry.get_run(version.run_id)
    assert run.info.run_name == "simile-train-drift-x7k2p"
    assert run.data.metrics == {
        "test-unseen/pairs": 4000,
        "test-unseen/spearman": 0.612,
        "test-unseen/difference": 0.0849,
        "test-unseen/low": 0.0365,
        "test-unseen/high": 0.1417,
    }
    assert {one.path for one in registry.list_artifacts(run.info.run_id)} == {
        "manifest.json",
        "report.html",
        "report.json",
    }
    assert str(tmp_path) not in json.dumps([run.data.tags, run.data.params])
    (request,) = webhook.requests
    assert request.body["model"] == f"models:/helpdesk/{version.version}"


def test_bundle_is_registered_once_and_leaves_what_is_served(registry, finished):
    folder = finished()
    assert announce(folder, "--model", "helpdesk") == 0
    registry.set_registered_model_alias("helpdesk", "champion", "1")
    assert announce(folder, "--model", "helpdesk") == 0
    (version,) = registry.search_model_versions("name = 'helpdesk'")
    assert sorted(registry.get_model_version("helpdesk", version.version).aliases) == ["candidate", "champion"]


def test_name_that_mlflow_does_not_allow_is_bad_input(registry, finished, capfd):
    assert announce(finished(), "--model", "a/b") == 2
    assert "MLFLOW_TRACKING_URI: cannot register the bundle as a/b (Invalid model name" in last_line(capfd)


def test_registry_that_is_not_there_can_be_tried_again(finished, monkeypatch, capfd):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:{SECRET}@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    assert announce(finished(), "--model", "helpdesk") == 75
    assert "cannot register the bundle as helpdesk" in last_line(capfd)


def test_model_without_mlflow_is_bad_input(finished, webhook, capfd):
    assert announce(finished(), "--model", "helpdesk") == 2
    assert "got --model, need MLFLOW_TRACKING_URI" in last_line(capfd)
    assert webhook.requests == []
