"""Evaluates the queries of components/canary with Prometheus' own engine (promtool), and what Argo Rollouts makes of
their values."""

import math
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from serving.metrics import Metrics
from tests.monitoring.stack import RULES

ROOT = Path(__file__).parents[2]
TEMPLATE = yaml.safe_load((ROOT / "k8s/components/canary/analysis.yaml").read_text())["spec"]
METRICS = {metric["name"]: metric for metric in TEMPLATE["metrics"]}
ARGUMENTS = {"namespace": "simile", "canary": "6f7", "stable": "5d4"}
ROUTE = 'route="/v1/similarity"'

needs_promtool = pytest.mark.skipif(not shutil.which("promtool"), reason="no promtool (Debian: prometheus) on the path")


def query(name):
    """Return the metric's query with the arguments that Argo Rollouts puts in."""
    text = METRICS[name]["provider"]["prometheus"]["query"]
    return re.sub(r"\{\{args\.(\w+)\}\}", lambda match: ARGUMENTS[match[1]], text)


def series(name, revision, labels, per_minute):
    """Return a counter of a pod of the revision that grows by so many per minute."""
    pod = f'namespace="simile",pod="simile-serve-{ARGUMENTS[revision]}-x7k2p"'
    return {"series": f"{name}{{{pod},{labels}}}", "values": f"0+{per_minute}x60"}


def requests(revision, **per_minute):
    return [
        series("simile_requests_total", revision, f'{ROUTE},code="{code.removeprefix("_")}"', number)
        for code, number in per_minute.items()
    ]


def latencies(revision, buckets):
    return [
        series("simile_request_duration_seconds_bucket", revision, f'{ROUTE},le="{le}"', number)
        for le, number in buckets.items()
    ]


def scores(revision, buckets):
    """Return the histogram of scores of one pod: cumulative counts per minute by upper bound."""
    total = series("simile_score_count", revision, 'member="minilm"', buckets["+Inf"])
    return [
        total,
        *(
            series("simile_score_bucket", revision, f'member="minilm",le="{le}"', number)
            for le, number in buckets.items()
        ),
    ]


HALF = {"0.0": 0, "0.5": 50, "1.0": 100, "+Inf": 100}
CASES = {
    "failures": [
        ("one in a hundred fails", [*requests("canary", _200=99, _503=1)], 0.01),
        ("one in ten fails", [*requests("canary", _200=90, _500=10)], 0.1),
        ("none fails, all of the old pods do", [*requests("canary", _200=9), *requests("stable", _500=9)], 0.0),
        ("nobody calls the canary", [*requests("canary", _200=0), *requests("stable", _200=9)], float("nan")),
        ("the canary has not answered yet", requests("stable", _200=9), None),
    ],
    "refusals": [
        ("one in ten is refused", requests("canary", _200=90, _429=10), 0.1),
        ("none is", requests("canary", _200=90), 0.0),
    ],
    "latency-p99": [
        ("all take up to a second", latencies("canary", {"1.0": 100, "2.5": 100, "+Inf": 100}), 0.99),
        ("two in a hundred take up to five", latencies("canary", {"2.5": 98, "5.0": 100, "+Inf": 100}), 3.75),
        ("nobody calls the canary", latencies("stable", {"1.0": 100, "+Inf": 100}), None),
    ],
    "score-shift": [
        ("the same scores, of other numbers of pairs", [*scores("canary", HALF), *scores("stable", HALF)], 0.0),
        (
            "a fifth moves up",
            [*scores("canary", HALF | {"0.5": 30}), *scores("stable", {le: 9 * n for le, n in HALF.items()})],
            0.2,
        ),
        ("all move up", [*scores("canary", HALF | {"0.5": 0}), *scores("stable", HALF | {"0.5": 100})], 1.0),
        ("too few scores to tell", [*scores("canary", {"0.5": 0, "+Inf": 30}), *scores("stable", HALF)], None),
        ("no old pod has scores", scores("canary", HALF), None),
    ],
}
ALL = [(name, *case) for name, cases in CASES.items() for case in cases]


def test_every_metric_has_cases():
    assert set(CASES) == set(METRICS)


@needs_promtool
@pytest.mark.parametrize(("name", "case", "input_series", "value"), ALL, ids=[f"{one[0]}: {one[1]}" for one in ALL])
def test_query_measures_the_canary(tmp_path, name, case, input_series, value):
    # Rates are floating-point numbers. NaN is the only value that differs from itself.
    expr, expected = f"round({query(name)}, 0.000001)", [] if value is None else [{"labels": "{}", "value": value}]
    if value is not None and math.isnan(value):
        expr, expected = f"count({expr} != {expr})", [{"labels": "{}", "value": 1}]
    check = {"expr": expr, "eval_time": "30m", "exp_samples": expected}
    test = {"interval": "1m", "input_series": input_series, "promql_expr_test": [check]}
    (tmp_path / "test.yaml").write_text(yaml.safe_dump({"rule_files": [], "tests": [test]}))
    done = subprocess.run(
        ["promtool", "test", "rules", tmp_path / "test.yaml"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def verdict(name, result):
    """Return what Argo Rollouts concludes: its expressions are Python's but for the operator."""
    success, failure = (
        eval(METRICS[name][condition].replace("&&", "and"), {"len": len, "result": result})
        for condition in ("successCondition", "failureCondition")
    )
    assert not (success and failure)
    return "success" if success else "failure" if failure else "inconclusive"


@pytest.mark.parametrize("name", METRICS)
def test_canary_without_traffic_waits_for_a_person(name):
    assert verdict(name, []) == "inconclusive"
    assert verdict(name, [float("nan")]) == "inconclusive"


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("failures", 0.0, "success"),
        ("failures", 0.02, "failure"),
        ("refusals", 0.04, "success"),
        ("refusals", 0.06, "failure"),
        ("latency-p99", 2.4, "success"),
        ("latency-p99", 2.6, "failure"),
        ("score-shift", 0.1, "success"),
        ("score-shift", 0.3, "inconclusive"),
        ("score-shift", 0.6, "failure"),
    ],
)
def test_value_ends_the_canary_or_lets_it_go_on(name, value, expected):
    assert verdict(name, [value]) == expected


def test_queries_ask_for_metrics_of_the_service_and_its_routes():
    registry = Metrics()
    registry.requests.labels("/", "200")
    registry.request_seconds.labels("/")
    registry.scores.labels("minilm")
    known = {sample.name for family in registry.registry.collect() for sample in family.samples}
    rules = [rule["expr"] for group in RULES["groups"] for rule in group["rules"]]
    (routes,) = {route for expr in rules for route in re.findall(r'route=~"([^"]*)"', expr)}
    for name in METRICS:
        asked = re.findall(r"simile_\w+", query(name))
        assert asked
        assert set(asked) <= known
        assert set(re.findall(r'route=~"([^"]*)"', query(name))) <= {routes}
        assert query(name).count('namespace="simile"') == len(asked)


def test_limits_are_those_of_the_alerts():
    alerts = {rule["alert"]: rule["expr"] for group in RULES["groups"] for rule in group["rules"] if "alert" in rule}
    assert "> 0.05" in alerts["SimileRefusesRequests"]
    assert METRICS["refusals"]["failureCondition"].endswith("> 0.05")
    assert METRICS["latency-p99"]["failureCondition"].endswith("> 2.5")
