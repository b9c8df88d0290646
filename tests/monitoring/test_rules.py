"""Tests the alerts with promtool."""

import copy
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from serving.compatible import router as compatible
from serving.metrics import Metrics
from serving.open_inference import router as open_inference
from serving.page import router as page
from serving.rerank import router as rerank
from serving.routes import router as api

ROOT = Path(__file__).parents[2]
RULES = yaml.safe_load((ROOT / "k8s/components/monitoring/rules.yaml").read_text())["spec"]
CASES = yaml.safe_load(Path(__file__).with_name("alerts.yaml").read_text())
RUNBOOKS = (ROOT / "docs/runbooks.md").read_text()
ALL = [rule for group in RULES["groups"] for rule in group["rules"]]
ALERTS = {rule["alert"]: rule for rule in ALL if "alert" in rule}
PARTS = ("Means", "First look", "Usual causes", "What to do", "Escalate")

needs_promtool = pytest.mark.skipif(not shutil.which("promtool"), reason="no promtool (Debian: prometheus) on the path")


def promtool(*arguments: str | Path) -> str:
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def rule_file(tmp_path) -> Path:
    """The rule file with only the summary of each alert, since the other annotations do not vary."""
    rules = copy.deepcopy(RULES)
    for group in rules["groups"]:
        for rule in group["rules"]:
            if "alert" in rule:
                rule["annotations"] = {"summary": rule["annotations"]["summary"]}
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump(rules))
    return file


@needs_promtool
def test_promtool_takes_the_rules(tmp_path):
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump(RULES))
    assert f"SUCCESS: {len(ALL)} rules found" in promtool("check", "rules", file)


@needs_promtool
def test_alerts_fire_when_they_should_and_only_then(rule_file):
    shutil.copy(Path(__file__).with_name("alerts.yaml"), rule_file.parent)
    assert "SUCCESS" in promtool("test", "rules", rule_file.with_name("alerts.yaml"))


def test_each_alert_has_a_case_in_which_it_fires_and_one_in_which_it_is_quiet():
    seen = {
        (check["alertname"], bool(check["exp_alerts"])) for case in CASES["tests"] for check in case["alert_rule_test"]
    }
    assert seen == {(name, fires) for name in ALERTS for fires in (True, False)}


@pytest.mark.parametrize("name", sorted(ALERTS))
def test_alert_says_how_grave_it_is_what_it_means_and_where_its_runbook_is(name):
    rule = ALERTS[name]
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
    # Only the summaries are tested with labels and values.
    assert "{{" not in rule["annotations"]["description"]
    assert rule["annotations"]["runbook_url"] == f"https://simile.example.org/runbooks.html#{name.lower()}"


def test_runbooks_are_of_the_alerts_in_their_order_and_each_is_whole():
    sections = re.split(r"^## (\w+)$", RUNBOOKS, flags=re.MULTILINE)[1:]
    assert sections[::2] == list(ALERTS)
    for name, text in zip(sections[::2], sections[1::2], strict=True):
        assert re.findall(r"^\*\*([\w ]+)\.\*\* ", text, flags=re.MULTILINE) == list(PARTS), name
        first_look = text.partition("**First look.**")[2].partition("**Usual causes.**")[0]
        assert "`" in first_look, name


def test_objectives_are_of_the_routes_that_compute_something():
    routes = [route for part in (api, compatible, rerank, open_inference, page) for route in part.routes]
    posted = {route.path for route in routes if "POST" in route.methods}
    (pattern,) = {route for rule in ALL for route in re.findall(r'route=~"([^"]*)"', rule["expr"])}
    assert {route.path for route in routes if re.fullmatch(pattern, route.path)} == posted
    assert "/readyz" not in posted


def test_the_latency_that_is_aimed_at_is_a_bucket():
    registry = Metrics()
    registry.request_seconds.labels("/")
    buckets = {
        sample.labels["le"]
        for family in registry.registry.collect()
        for sample in family.samples
        if sample.name == "simile_request_duration_seconds_bucket"
    }
    assert {bound for rule in ALL for bound in re.findall(r'le="([^"]*)"', rule["expr"])} < buckets
