"""Checks that the manifests agree with the code: arguments, settings, ports, paths, exit codes and drain time."""

import re
from pathlib import Path

import httpx2
import pytest
import yaml

from pipeline.bulk import SHARDS
from pipeline.output import GATE_FAILED
from pipeline.presets import read_train_config
from pipeline.run_config import read_run_config
from serving import server
from serving.app import create_app
from serving.keys import Keys
from serving.metrics import Metrics
from serving.settings import ENVIRONMENT_PREFIX, Settings
from simile.errors import InputError, StoppedError
from simile.version import __version__
from tests.command_lines import read_options
from tests.k8s.manifests import JOB_NAME, ROOT, arguments, environment, of_kind, pods, replicated_jobs, the
from tests.k8s.policy import holds as policy_holds
from tests.live_servers import served

SETTINGS = {ENVIRONMENT_PREFIX + name.upper() for name in Settings.model_fields} | {SHARDS}
PART = "app.kubernetes.io/component"
NO_SIMILE = ("sleep", "sh")
"""Commands of containers that are not Simile's; test_publish.py runs `publish.sh`."""
LATER = ("node", "submit", "head", "worker")
"""Containers whose command lines are elsewhere: in the TrainJob, or in the entrypoint of the RayJob."""


@pytest.fixture
def manifests(manifests):
    """The manifests without the monitoring component, which runs others' images and is tested in tests/monitoring."""
    return [one for one in manifests if one["metadata"].get("labels", {}).get(PART) != "monitoring"]


def command_lines(manifests):
    """Yield every `simile` command line as the kubelet runs it, one per completion index where there are several."""
    for pod in pods(manifests):
        is_indexed = pod.job is not None and pod.job.get("completionMode") == "Indexed"
        for container in pod.containers:
            if container["name"] in LATER or container.get("command", [""])[0] in NO_SIMILE:
                continue
            assert "command" not in container
            for index in range(pod.job["completions"]) if is_indexed else (0,):
                yield arguments(container, manifests, **({"JOB_COMPLETION_INDEX": str(index)} if is_indexed else {}))
    for job in of_kind(manifests, "TrainJob"):
        trainer, runtime = job["spec"]["trainer"], the(manifests, "TrainingRuntime", job["spec"]["runtimeRef"]["name"])
        (node,) = [pod for pod in pods([runtime]) if pod.name.endswith(" node")]
        command, *line = arguments(node.containers[0] | trainer, manifests)
        assert command == "simile"
        yield line


def config_files(manifests, folder):
    """Write the files that are mounted at /etc/simile into the folder."""
    for config in of_kind(manifests, "ConfigMap"):
        for name, text in config.get("data", {}).items():
            if "." in name:
                (folder / name).write_text(text)


def test_every_argument_is_one_that_the_command_takes(manifests, tmp_path):
    config_files(manifests, tmp_path)
    lines = list(command_lines(manifests))
    assert {line[0] for line in lines} >= {"serve"}
    for line in lines:
        assert not any("$(" in word for word in line), line
        options = read_options([word.replace("/etc/simile", str(tmp_path)) for word in line])
        if line[0] == "run":
            assert read_run_config(options.source, options.set, options).out.parent == Path("/work/runs")
        elif line[0] == "train":
            read_train_config(options.config, options.set)


def test_each_way_to_train_has_its_steps(render):
    steps = {name: [line[0] for line in command_lines(render(name))] for name in ("dev", "production")}
    assert sorted(steps["dev"]) == ["quickstart", "serve"]
    assert sorted(steps["production"]) == ["run", "serve"]
    trainjob = sorted(line[0] for line in command_lines(render("production with trainjob")))
    assert trainjob == ["run", "serve"]
    members = sorted(line[0] for line in command_lines(render("production with members")))
    assert members == ["baseline", "evaluate", "join", "mine", "serve", "train", "train", "train"]
    for name in ("production", "production with members", "production with trainjob"):
        with_bucket = [line[0] for line in command_lines(render(name.replace("production", "production-bucket")))]
        assert sorted(with_bucket) == sorted(["pull", *(line[0] for line in command_lines(render(name)))])


def test_members_are_as_many_as_their_settings_and_as_are_joined(render):
    manifests = render("production with members")
    (job,) = [pod.job for pod in pods(manifests) if pod.name == "JobSet/simile-train train"]
    (settings,) = [one["data"] for one in of_kind(manifests, "ConfigMap") if "member-0.yaml" in one.get("data", {})]
    lines = list(command_lines(manifests))
    made = [read_options(line).out for line in lines if line[0] == "train"]
    (joined,) = [read_options(line).bundles for line in lines if line[0] == "join"]
    assert (job["completionMode"], job["completions"]) == ("Indexed", len(settings))
    assert [*joined] == made
    assert len({yaml.safe_load(text)["name"] for text in settings.values()}) == len(settings)


def test_every_variable_is_a_setting_of_a_value_that_it_takes(manifests, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("a-key-of-the-test\n")
    for pod in pods(manifests):
        for container in pod.containers:
            variables = environment(container, manifests)
            assert {name for name in variables if name.startswith(ENVIRONMENT_PREFIX)} <= SETTINGS
            if "SIMILE_API_KEYS_FILE" in variables:
                (mount,) = [one for one in pod.spec["containers"][0]["volumeMounts"] if one["name"] == "keys"]
                assert variables["SIMILE_API_KEYS_FILE"] == f"{mount['mountPath']}/keys"
                variables |= {"SIMILE_API_KEYS_FILE": str(keys)}
            assert bool(Keys(Settings.resolve({}, variables))) == ("SIMILE_API_KEYS_FILE" in variables)


def test_unknown_variable_is_detected(production):
    (container,) = the(production, "Deployment")["spec"]["template"]["spec"]["containers"]
    variables = {name for name in environment(container, production) if name.startswith(ENVIRONMENT_PREFIX)}
    assert "SIMILE_HOST" in variables
    assert not {"SIMILE_HOSTING", *variables} <= SETTINGS


def test_service_listens_where_the_manifests_look_for_it(manifests):
    (container,) = the(manifests, "Deployment")["spec"]["template"]["spec"]["containers"]
    settings = Settings.resolve({}, {"SIMILE_HOST": environment(container, manifests)["SIMILE_HOST"]})
    assert settings.host == "0.0.0.0"
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"http": settings.port, "metrics": settings.metrics_port}
    service = the(manifests, "Service", "simile")
    served = {port["name"]: (port["port"], port["targetPort"]) for port in service["spec"]["ports"]}
    assert served == {name: (port, name) for name, port in ports.items()}
    allowed = the(manifests, "NetworkPolicy", "simile-serve")["spec"]["ingress"]
    assert {port["port"] for rule in allowed for port in rule["ports"]} == {"http"}


def test_prometheus_may_scrape_every_port_named_for_it(render):
    manifests = render("production with monitoring")
    policy = the(manifests, "NetworkPolicy", "simile-metrics")
    open_ports = [port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]]
    scraped = {
        pod.name
        for pod in pods(manifests)
        for container in pod.containers
        if policy_holds(policy, pod, "Ingress")
        and any(port["name"] in open_ports for port in container.get("ports", ()))
    }
    assert scraped == {"Deployment/simile-serve", "Deployment/simile-pushgateway"}
    monitored = [
        endpoint["port"] for one in of_kind(manifests, "ServiceMonitor") for endpoint in one["spec"]["endpoints"]
    ]
    assert monitored == open_ports * 2


def test_keda_asks_one_prometheus(render):
    triggers = the(render("production-gpu"), "ScaledObject")["spec"]["triggers"]
    assert {trigger["metadata"]["serverAddress"] for trigger in triggers} == {
        "http://prometheus-operated.monitoring.svc:9090"
    }


@pytest.fixture(scope="module")
def guarded(scorer):
    """The address of a service that requires an API key."""
    with served(create_app(Settings(api_keys=("a-key-of-the-test",)), scorer)) as url:
        yield url


def test_probes_ask_real_routes_that_need_no_key(manifests, guarded):
    (container,) = the(manifests, "Deployment")["spec"]["template"]["spec"]["containers"]
    asked = {name: container[name]["httpGet"] for name in ("startupProbe", "readinessProbe", "livenessProbe")}
    for probe in asked.values():
        assert httpx2.get(guarded + probe["path"], trust_env=False).status_code == 200
    assert {probe["port"] for probe in asked.values()} == {"http"}
    # The liveness probe must not depend on the bundle or the length of the queue.
    assert asked["livenessProbe"]["path"] == "/healthz"


def test_proxies_let_through_what_the_service_takes(render):
    settings, manifests = Settings(), render("example")
    ingress, route = the(manifests, "Ingress"), the(manifests, "HTTPRoute")
    annotations = ingress["metadata"]["annotations"]
    size = annotations["nginx.ingress.kubernetes.io/proxy-body-size"]
    assert int(size.removesuffix("m")) * 2**20 == settings.max_body_bytes
    assert int(annotations["nginx.ingress.kubernetes.io/proxy-read-timeout"]) > settings.deadline_s
    (rule,) = route["spec"]["rules"]
    assert int(rule["timeouts"]["request"].removesuffix("s")) > settings.deadline_s
    (path,) = ingress["spec"]["rules"][0]["http"]["paths"]
    service = the(manifests, "Service")
    assert path["backend"]["service"] == {"name": service["metadata"]["name"], "port": {"name": "http"}}
    assert [(one["name"], one["port"]) for one in rule["backendRefs"]] == [(service["metadata"]["name"], 8080)]


def test_grace_is_as_long_as_the_service_drains(manifests):
    spec = the(manifests, "Deployment")["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    settings = Settings.resolve({}, environment(container, manifests) | {"SIMILE_API_KEYS_FILE": "/dev/null"})
    waits = settings.linger_s + settings.drain_s + server._LAST_ANSWERS_S
    # Load balancers need some seconds to learn that the pod is not ready.
    assert settings.linger_s >= 5
    assert waits < spec["terminationGracePeriodSeconds"] <= waits + 15


def test_exit_codes_of_the_jobs_are_those_of_the_code(manifests):
    # The input of bulk work is the same for all pods, and a gate is not part of it.
    givers_up = {"train": [InputError.exit_code, GATE_FAILED], "bulk": [InputError.exit_code]}
    jobs = [
        (pod.job, givers_up[pod.labels[PART]])
        for pod in pods(manifests)
        if pod.job and pod.labels.get(PART) in givers_up
    ]
    assert jobs
    for job, given_up in jobs:
        fail, ignore = job["podFailurePolicy"]["rules"]
        codes = fail["onExitCodes"]
        # The rule holds for every container: if it named one, the others' codes would count towards `backoffLimit`.
        assert codes == {"operator": "In", "values": given_up}
        assert fail["action"] == "FailJob"
        assert StoppedError.exit_code not in codes["values"]
        # A full disk exits with 75 as well: if that code were ignored, the Job would be retried for ever.
        assert ignore == {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
        assert job["template"]["spec"]["restartPolicy"] == "Never"
        assert job.get("backoffLimit") or job.get("backoffLimitPerIndex")


def test_nothing_trains_until_somebody_says_so(manifests):
    for template in of_kind(manifests, "CronJob"):
        assert template["spec"]["suspend"] is True
    assert not of_kind(manifests, "Job")
    assert not of_kind(manifests, "Pod")


def test_run_is_named_by_its_job(production):
    (line,) = [line for line in command_lines(production) if line[0] == "run"]
    assert line[-1] == f"out=/work/runs/{JOB_NAME}"
    (publish,) = [one for pod in pods(production) for one in pod.containers if one["name"] == "publish"]
    assert f"/work/runs/{JOB_NAME}/bundle" in arguments(publish, production)


def test_jobs_of_an_ensemble_wait_for_each_other(render):
    jobs = replicated_jobs(the(render("production with members"), "JobSet"))
    waits = {job["name"]: [(one["name"], one["status"]) for one in job.get("dependsOn", ())] for job in jobs}
    assert waits == {"mine": [], "train": [("mine", "Complete")], "join": [("train", "Complete")]}


def test_time_in_a_queue_does_not_count_towards_a_deadline(manifests):
    assert not any("activeDeadlineSeconds" in job["spec"] for job in of_kind(manifests, "TrainJob"))
    for pod in pods(manifests):
        assert "activeDeadlineSeconds" not in (pod.job or {})
        # A pod's deadline counts from when a node has taken it.
        assert ("activeDeadlineSeconds" in pod.spec) == (pod.job is not None), pod.name


def test_what_copies_files_runs_the_small_image(manifests):
    images = {
        container["name"]: container["image"].rpartition("/")[2].partition(":")[0]
        for pod in pods(manifests)
        for container in pod.containers
    }
    assert {name for name, image in images.items() if image == "simile-serve"} >= {"serve", "files", "publish"}


def test_environment_has_no_files_in_it(manifests):
    for pod in pods(manifests):
        for container in pod.containers:
            assert all(name.isidentifier() for name in environment(container, manifests)), container["name"]


def test_pods_that_train_differ_in_nothing_but_what_they_run(render):
    def common(pod):
        left_out = ("initContainers", "containers", "volumes", "tolerations")
        return {key: value for key, value in pod.spec.items() if key not in left_out}

    (base,) = [pod for pod in pods(render("production")) if pod.name == "CronJob/simile-train"]
    others = [
        pod
        for name in ("production with members", "production with trainjob")
        for pod in pods(render(name))
        if pod.labels.get(PART) == "train"
    ]
    assert len(others) == 5
    for pod in others:
        assert common(pod) == common(base)
        assert {
            "app.kubernetes.io/component": "train",
            "app.kubernetes.io/name": "simile",
        }.items() <= pod.labels.items()


def test_images_have_this_version_and_run_as_their_own_user(manifests):
    for pod in pods(manifests):
        for container in pod.containers:
            name, _, tag = container["image"].rpartition("/")[2].partition(":")
            dockerfile = (ROOT / f"Dockerfile.{name.removeprefix('simile-')}").read_text()
            assert tag in (__version__, f"{__version__}-gpu")
            user = pod.spec["securityContext"]
            assert f"ARG VERSION={__version__}\n" in dockerfile
            assert f"USER {user['runAsUser']}:{user['runAsGroup']}\n" in dockerfile


def on_gpus(manifests):
    """Return the containers that have a GPU."""
    return {
        f"{pod.name}/{container['name']}"
        for pod in pods(manifests)
        for container in pod.containers
        if "nvidia.com/gpu" in container["resources"]["limits"]
    }


def test_gpus_are_asked_for_where_the_work_is(render):
    trainers = {
        "production-gpu": {"CronJob/simile-train/train"},
        "production-gpu with members": {"JobSet/simile-train train/train"},
        "production-gpu with trainjob": set(),
        "production-gpu on production-bucket": {"CronJob/simile-train/train"},
        "production-gpu on production-bucket with members": {"JobSet/simile-train train/train"},
    }
    for name, trainer in trainers.items():
        manifests = render(name)
        asked = on_gpus(manifests)
        assert asked == {"Deployment/simile-serve/serve", *trainer}
        for job in of_kind(manifests, "TrainJob"):
            assert job["spec"]["trainer"]["resourcesPerNode"]["limits"]["nvidia.com/gpu"] == "1"
        tolerating = {pod.name for pod in pods(manifests) if "tolerations" in pod.spec}
        assert {name.rpartition("/")[0] for name in asked} <= tolerating
        (container,) = the(manifests, "Deployment", "simile-serve")["spec"]["template"]["spec"]["containers"]
        assert environment(container, manifests)["SIMILE_DEVICE"] == "cuda"


def test_processors_are_enough_for_every_other_overlay(every):
    others = {name: manifests for name, manifests in every.items() if not name.startswith("production-gpu")}
    assert {name for name, manifests in others.items() if on_gpus(manifests)} == set()


def test_gpu_containers_find_the_driver(render):
    manifests = render("production-gpu")
    for pod in pods(manifests):
        for container in pod.containers:
            if "nvidia.com/gpu" in container["resources"]["limits"]:
                variables = environment(container, manifests)
                assert variables["LD_LIBRARY_PATH"] == "/usr/local/nvidia/lib64"
                assert variables["NVIDIA_DRIVER_CAPABILITIES"] == "compute,utility"


def test_every_reference_resolves(manifests):
    names = {(one["kind"], one["metadata"]["name"]) for one in manifests}
    labels = [pod.labels for pod in pods(manifests) if pod.name == "Deployment/simile-serve"]
    for pod in pods(manifests):
        volumes = {volume["name"]: volume for volume in pod.spec.get("volumes", ())}
        wanted = {("ServiceAccount", pod.spec["serviceAccountName"])} if "serviceAccountName" in pod.spec else set()
        for volume in volumes.values():
            wanted |= {("PersistentVolumeClaim", volume[key]["claimName"]) for key in volume if key.startswith("pers")}
            wanted |= {("ConfigMap", volume["configMap"]["name"]) for key in volume if key == "configMap"}
        for container in pod.containers:
            assert {mount["name"] for mount in container["volumeMounts"]} <= set(volumes)
            assert "/tmp" in {mount["mountPath"] for mount in container["volumeMounts"]}
        assert wanted <= names
        assert "emptyDir" in volumes["tmp"]
    selectors = [one["spec"]["selector"] for one in of_kind(manifests, "Service")]
    selectors += [one["spec"]["selector"]["matchLabels"] for one in of_kind(manifests, "PodDisruptionBudget")]
    selectors += [the(manifests, "Deployment")["spec"]["selector"]["matchLabels"]]
    assert all(selector.items() <= labels[0].items() for selector in selectors)


def test_service_sees_bundles_and_no_documents_and_writes_neither(manifests):
    (pod,) = [pod for pod in pods(manifests) if pod.name == "Deployment/simile-serve"]
    claims = {
        volume["persistentVolumeClaim"]["claimName"]
        for volume in pod.spec["volumes"]
        if len(volume) == 2 and "persistentVolumeClaim" in volume
    }
    has_bucket = "initContainers" in pod.spec
    assert claims == (set() if has_bucket else {"simile-bundles"})
    (mount,) = [one for one in pod.spec["containers"][0]["volumeMounts"] if one["name"] == "bundles"]
    assert mount["readOnly"] is True


BUCKETS = ("production-bucket", "production-bucket with members", "production-bucket with trainjob")


@pytest.mark.parametrize("name", BUCKETS)
def test_bundle_is_pushed_to_where_it_is_pulled_from(render, name):
    manifests = render(name)
    (publish,) = [one for pod in pods(manifests) for one in pod.containers if one["name"] == "publish"]
    sh, script, bundle, store = arguments(publish, manifests)
    assert (sh, script, Path(bundle).name) == ("sh", "/etc/simile/publish.sh", "bundle")
    (pulled,) = [line for line in command_lines(manifests) if line[0] == "pull"]
    (served,) = [line for line in command_lines(manifests) if line[0] == "serve"]
    address, _, digest = pulled[1].rpartition("/")
    assert re.fullmatch("[0-9a-f]{64}", digest)
    assert (store, served[1]) == (address, pulled[2])
    volumes = [one["metadata"]["name"] for one in of_kind(manifests, "PersistentVolumeClaim")]
    assert volumes == ["simile-work"]


@pytest.mark.parametrize("name", BUCKETS)
def test_what_pulls_is_the_services_image_with_its_memory(render, name):
    pod = the(render(name), "Deployment", "simile-serve")["spec"]["template"]["spec"]
    (pull,), (serve,) = pod["initContainers"], pod["containers"]
    assert pull["image"] == serve["image"]
    assert (
        pull["image"] == the(render("production"), "Deployment")["spec"]["template"]["spec"]["containers"][0]["image"]
    )
    assert pull["resources"]["limits"]["memory"] == serve["resources"]["limits"]["memory"]


@pytest.mark.parametrize("name", BUCKETS)
def test_only_who_pulls_and_pushes_has_the_keys_of_the_bucket(render, name):
    manifests = render(name)
    having = {
        container["name"]: source["secretRef"]
        for pod in pods(manifests)
        for container in pod.containers
        for source in container.get("envFrom", ())
        if "secretRef" in source
    }
    # The keys are optional, since a service account may have access to the bucket itself.
    assert having == {name: {"name": "simile-bucket", "optional": True} for name in ("pull", "publish")}
    assert not of_kind(manifests, "Secret")


def test_way_to_the_bucket_is_of_the_pods_that_use_it(render):
    manifests = render("production-bucket")
    policy = the(manifests, "NetworkPolicy", "simile-bucket")
    assert {pod.name for pod in pods(manifests) if policy_holds(policy, pod, "Egress")} == {
        "Deployment/simile-serve",
        "CronJob/simile-train",
    }


def test_one_autoscaler_scales_the_service(manifests):
    autoscalers = [*of_kind(manifests, "HorizontalPodAutoscaler"), *of_kind(manifests, "ScaledObject")]
    (autoscaler,) = autoscalers
    (runner,) = of_kind(manifests, "Rollout") or of_kind(manifests, "Deployment")
    assert autoscaler["spec"]["scaleTargetRef"] == {
        "apiVersion": runner["apiVersion"],
        "kind": runner["kind"],
        "name": "simile-serve",
    }
    # Each apply would otherwise reset the autoscaler's choice.
    assert "replicas" not in the(manifests, "Deployment")["spec"] | runner["spec"]


def test_autoscaler_asks_for_metrics_that_exist_before_the_first_request(render):
    scaled = the(render("production-gpu"), "ScaledObject")
    known = {sample.name for family in Metrics().registry.collect() for sample in family.samples}
    for trigger in scaled["spec"]["triggers"]:
        query = trigger["metadata"]["query"]
        asked = re.findall(r"simile_\w+", query)
        assert set(asked) <= known
        assert query.count(f'namespace="{scaled["metadata"]["namespace"]}"') == len(asked) == 2


@pytest.mark.parametrize("component", ["store", "files", "train", "serve"])
def test_each_part_can_be_applied_by_its_label(manifests, component):
    assert all(PART in one["metadata"].get("labels", {}) for one in manifests)
    assert [one for one in manifests if one["metadata"]["labels"][PART] == component]


def test_what_watches_is_a_part_of_its_own(render):
    parts = {one["metadata"].get("labels", {}).get(PART) for one in render("production with monitoring")}
    assert parts == {"store", "files", "train", "serve", "monitoring"}


@pytest.mark.parametrize(
    "name", [f"production with {what}monitoring" for what in ("", "members and ", "trainjob and ")]
)
def test_training_tells_the_gateway_that_is_there(render, name):
    manifests = render(name)
    gateway = the(manifests, "Service", "simile-pushgateway")
    address = f"http://{gateway['metadata']['name']}:{gateway['spec']['ports'][0]['port']}"
    trainings = [
        container
        for pod in pods(manifests)
        for container in pod.containers
        if container["image"].rpartition("/")[2].startswith("simile-train")
    ]
    assert trainings
    for container in trainings:
        (source,) = container["envFrom"]
        settings = the(manifests, "ConfigMap", source["configMapRef"]["name"])["data"]
        assert settings["PROMETHEUS_PUSHGATEWAY_URL"] == address
