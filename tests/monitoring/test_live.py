"""Runs a real Prometheus beside a real service, and checks targets, rules and the dashboard's queries."""

import math
import re
import time
from pathlib import Path

import pytest
import yaml

from tests.monitoring.stack import ROOT, RULES, exposed, filled, loaded, missing, panels, running
from training.tracking import tracking
from training.work import Work

CLUSTER = Path(__file__).with_name("cluster.prom").read_text()
ANALYSIS = yaml.safe_load((ROOT / "k8s/components/canary/analysis.yaml").read_text())["spec"]
CANARY = {one["name"]: one["provider"]["prometheus"]["query"] for one in ANALYSIS["metrics"]}
TARGETS = {"simile-serve", "pushgateway", "cluster"}

pytestmark = pytest.mark.skipif(bool(missing()), reason=f"not on the path: {', '.join(missing())}")


@pytest.fixture(scope="module")
def prometheus(bundle, tmp_path_factory):
    """A Prometheus that has scraped some seconds of load, a training, and a cluster's metrics."""
    folder = tmp_path_factory.mktemp("stack")
    with (
        pytest.MonkeyPatch.context() as monkeypatch,
        exposed(CLUSTER) as cluster,
        running(bundle.path, folder, also={"cluster": cluster}) as stack,
    ):
        monkeypatch.setenv("PROMETHEUS_PUSHGATEWAY_URL", stack.gateway)
        monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
        with tracking(Work(folder / "tuned"), "encoder", {}, 0) as log:
            log({"epoch": 1, "spearman/dev-seen": 0.5, "loss/total": 1.0, "pairs_per_second": 90.0}, 10)
        with loaded(stack.service):
            deadline = time.monotonic() + 20
            while silent(stack.prometheus) and time.monotonic() < deadline:
                time.sleep(0.5)
            yield stack.prometheus


def silent(prometheus) -> list[str]:
    """Return the dashboard's expressions that have no finite value."""
    asked = {target["expr"]: f"{panel['title']}: {target['expr']}" for panel in panels() for target in panel["targets"]}
    return [
        named
        for expr, named in asked.items()
        if not any(math.isfinite(float(of["value"][1])) for of in prometheus.values(filled(expr)))
    ]


def test_every_target_is_watched_and_up(prometheus):
    assert {target["scrapePool"] for target in prometheus.ask("targets")["activeTargets"]} == TARGETS
    # On a busy machine a single scrape may be late, so the target must only have been up at some time.
    assert {of["metric"]["job"] for of in prometheus.values("max_over_time(up[1m]) == 1")} == TARGETS


def test_every_panel_of_the_dashboard_has_data(prometheus):
    assert silent(prometheus) == []


def test_every_rule_is_evaluated_without_an_error(prometheus):
    rules = [rule for group in prometheus.ask("rules")["groups"] for rule in group["rules"]]
    assert len(rules) == sum(len(group["rules"]) for group in RULES["groups"])
    assert [(rule["name"], rule["health"], rule.get("lastError")) for rule in rules if rule["health"] != "ok"] == []


@pytest.mark.parametrize("name", sorted(CANARY))
def test_every_query_of_a_canary_has_a_value(prometheus, name):
    """Measures the service as both canary and old pods; without a cluster, no target has the labels of a pod."""
    query = re.sub(r'namespace="[^"]*",pod=~"[^"]*"', 'job="simile-serve"', CANARY[name])
    (value,) = prometheus.values(query)
    assert math.isfinite(float(value["value"][1]))


def test_only_the_failed_job_fires_an_alert(prometheus):
    alerts = prometheus.ask("alerts")["alerts"]
    firing = {alert["annotations"]["summary"] for alert in alerts if alert["state"] == "firing"}
    assert firing == {"The Job simile-train has failed"}


def test_training_is_known_by_its_own_job_run_and_member(prometheus):
    (state,) = prometheus.values('simile_training_state{job="simile-train",run="tuned",member="encoder"} == 1')
    assert state["metric"]["state"] == "finished"
