"""Checks the dashboard, the monitoring component, and the files that compose.yaml mounts."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.monitoring.stack import CONFIG, DASHBOARD, RULES, panels

ROOT = Path(__file__).parents[2]
COMPONENT = ROOT / "k8s/components/monitoring"
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())

needs_promtool = pytest.mark.skipif(not shutil.which("promtool"), reason="no promtool (Debian: prometheus) on the path")


def mounts(service: str) -> dict[str, Path]:
    """Return the files of the repository that a service mounts, by their path in the container."""
    sources = {}
    for volume in COMPOSE["services"][service]["volumes"]:
        source, target, *_ = volume.split(":")
        assert source.startswith("./"), volume
        sources[target] = ROOT / source
    return sources


def run_as_in_compose(folder: Path) -> None:
    """Run the start-up script of Prometheus' container, with the folder in place of its root."""
    (script,) = COMPOSE["services"]["prometheus"]["command"]
    script = script.replace("$$", "$").replace("/tmp/", f"{folder}/")
    for target, source in mounts("prometheus").items():
        script = script.replace(target, str(source))
    prepare, _, command = script.partition("exec ")
    assert f"--config.file={folder}/prometheus.yml" in command
    subprocess.run(["/bin/sh", "-euc", prepare], check=True)


@needs_promtool
def test_compose_gives_prometheus_the_rules_and_a_config_that_it_takes(tmp_path):
    run_as_in_compose(tmp_path)
    assert yaml.safe_load((tmp_path / "rules.yaml").read_text()) == RULES
    done = subprocess.run(
        ["promtool", "check", "config", tmp_path / "prometheus.yml"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert f"{sum(len(group['rules']) for group in RULES['groups'])} rules found" in done.stdout


@pytest.mark.parametrize("service", ["prometheus", "grafana"])
def test_compose_mounts_files_that_are_there(service):
    for source in mounts(service).values():
        assert source.is_file()


def test_compose_targets_are_services_and_ports_that_it_has():
    targets = {target for job in CONFIG["scrape_configs"] for of in job["static_configs"] for target in of["targets"]}
    assert {target.partition(":")[0] for target in targets} <= set(COMPOSE["services"])
    (source,) = yaml.safe_load((ROOT / "docs/compose/datasource.yaml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    assert source["jsonData"]["timeInterval"] == CONFIG["global"]["scrape_interval"]


def test_compose_shows_grafana_the_dashboard_where_its_provider_looks():
    (provider,) = yaml.safe_load((ROOT / "docs/compose/dashboards.yaml").read_text())["providers"]
    home = COMPOSE["services"]["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert mounts("grafana")[home] == COMPONENT / "dashboard.json"
    assert Path(home).parent == Path(provider["options"]["path"])


def test_compose_opens_nothing_to_the_network():
    ports = [port for service in COMPOSE["services"].values() for port in service["ports"]]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_component_lists_its_files_and_has_the_dashboard_for_grafana():
    component = yaml.safe_load((COMPONENT / "kustomization.yaml").read_text())
    assert component["kind"] == "Component"
    (generator,) = [one for one in component["configMapGenerator"] if one["name"] == "simile-dashboard"]
    assert generator["options"]["labels"]["grafana_dashboard"] == "1"
    named = {*component["resources"], *(file.partition("=")[2] for file in generator["files"]), "kustomization.yaml"}
    assert named == {file.name for file in COMPONENT.iterdir()}


@pytest.mark.skipif(not shutil.which("kubectl"), reason="no kubectl on the path")
def test_kustomize_makes_the_rules_and_a_dashboard_of_the_component(tmp_path):
    shutil.copytree(COMPONENT, tmp_path / "monitoring")
    (tmp_path / "kustomization.yaml").write_text("components: [monitoring]\n")
    done = subprocess.run(["kubectl", "kustomize", tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    made = {(of["kind"], of["metadata"]["name"]): of for of in yaml.safe_load_all(done.stdout)}
    assert made["PrometheusRule", "simile"]["spec"] == RULES
    released = [of for of in made.values() if "release" in of["metadata"]["labels"]]
    assert {of["kind"] for of in released} == {"PrometheusRule", "ServiceMonitor"}
    dashboard = made["ConfigMap", "simile-dashboard"]
    assert dashboard["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert json.loads(dashboard["data"]["simile.json"]) == DASHBOARD


@pytest.mark.skipif(not shutil.which("kubectl"), reason="no kubectl on the path")
def test_namespace_of_prometheus_is_written_once(tmp_path):
    shutil.copytree(COMPONENT, tmp_path / "monitoring")
    roles = tmp_path / "monitoring" / "rbac.yaml"
    roles.write_text(roles.read_text().replace("namespace: monitoring", "namespace: observability"))
    (tmp_path / "kustomization.yaml").write_text("namespace: simile\ncomponents: [monitoring]\n")
    done = subprocess.run(["kubectl", "kustomize", tmp_path], capture_output=True, text=True, check=False)
    made = {(of["kind"], of["metadata"]["name"]): of for of in yaml.safe_load_all(done.stdout)}
    assert made["RoleBinding", "prometheus-k8s"]["subjects"][0]["namespace"] == "observability"
    ((peer,),) = [rule["from"] for rule in made["NetworkPolicy", "simile-metrics"]["spec"]["ingress"]]
    assert peer["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "observability"}
    assert "kubernetes.io/metadata.name: monitoring" not in done.stdout


def test_service_monitors_select_by_labels_and_ask_ports_by_name():
    monitors = list(yaml.safe_load_all((COMPONENT / "servicemonitor.yaml").read_text()))
    ports = {
        monitor["metadata"]["name"].removeprefix("simile-"): endpoint
        for monitor in monitors
        for endpoint in monitor["spec"]["endpoints"]
    }
    assert {component: endpoint["port"] for component, endpoint in ports.items()} == {
        "serve": "metrics",
        "pushgateway": "metrics",
    }
    assert ports["pushgateway"]["honorLabels"]
    # The rules and the dashboard query this job, whatever the Service's name is.
    assert {one["targetLabel"]: one["replacement"] for one in ports["serve"]["relabelings"]} == {"job": "simile-serve"}
    deployment, service = yaml.safe_load_all((COMPONENT / "pushgateway.yaml").read_text())
    labels = deployment["metadata"]["labels"]
    selected = {monitor["metadata"]["name"]: monitor["spec"]["selector"]["matchLabels"] for monitor in monitors}
    assert selected["simile-pushgateway"].items() <= labels.items()
    assert service["metadata"]["labels"] == service["spec"]["selector"] == labels
    assert deployment["spec"]["template"]["metadata"]["labels"] == labels
    assert [port["name"] for port in service["spec"]["ports"]] == ["metrics"]


def test_dashboard_asks_whichever_prometheus_is_chosen_and_fits_its_grid():
    variables = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    for panel in panels():
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}, panel["title"]
        for target in panel["targets"]:
            assert "$namespace" in target["expr"], target
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(DASHBOARD["panels"])))
    assert used == {*variables, "__rate_interval"}
    cells = [
        (x, y)
        for panel in DASHBOARD["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
