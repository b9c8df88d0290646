"""The sequences of docs/clusters.md run from start to end, with stand-ins for the tools that need a cluster or a cloud.

A stand-in records how it was called. What was called is then checked against the tools that are here: whether kubectl
and gcloud list the options in their help, and whether aws accepts the command line.
"""

import re
import shutil
import subprocess
from itertools import takewhile
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from tests.k8s.manifests import K8S, ROOT, TIMEOUT_S, kustomize, pods, the

TEXT = (ROOT / "docs" / "clusters.md").read_text()
SEQUENCES = {
    title: "\n".join(re.findall(r"^```\n(.*?)^```$", section, re.MULTILINE | re.DOTALL))
    for title, section in re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL)
}
ANSI = re.compile(r"\x1b\[[0-9;]*m")
TOOLS = ("aws", "curl", "docker", "eksctl", "gcloud", "git", "kind", "kubectl", "sleep")
STAND_IN = """#!/bin/sh
name=$(basename "$0")
printf '%s\\036' "$name" "$@" >> "$CALLS"
printf '\\n' >> "$CALLS"
case "$name $*" in
*"-f -"*) cat >> "$CALLS.yaml"; echo --- >> "$CALLS.yaml" ;;
*--password-stdin*) cat > /dev/null ;;
*describe-file-systems*) echo available ;;
*describe-subnets*) echo subnet-1 subnet-2 ;;
*port-forward*) exec /bin/sleep 30 ;;
aws*) echo stand-in ;;
esac
"""


class Recorded:
    """What a sequence called and wrote."""

    def __init__(self, folder: Path) -> None:
        self.repository = folder / "repository"
        # A line that an argument contains is part of the call: a record separator ends each argument.
        self.calls = [call.split("\036") for call in (folder / "calls").read_text().split("\036\n")[:-1]]
        file = folder / "calls.yaml"
        self.objects = [one for one in yaml.safe_load_all(file.read_text()) if one] if file.exists() else []

    def of(self, tool: str) -> list[list[str]]:
        """Return the argument lists with which the tool was called."""
        return [words for name, *words in self.calls if name == tool]


@pytest.fixture(scope="module", params=sorted(SEQUENCES))
def sequence(request, tmp_path_factory):
    """One sequence, run in a copy of the repository's manifests."""
    folder = tmp_path_factory.mktemp(request.param)
    shutil.copytree(K8S, folder / "repository" / "k8s")
    tools = folder / "tools"
    tools.mkdir()
    for name in TOOLS:
        (tools / name).write_text(STAND_IN)
        (tools / name).chmod(0o755)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", SEQUENCES[request.param]],
        cwd=folder / "repository",
        env={"PATH": f"{tools}:/usr/bin:/bin", "CALLS": str(folder / "calls")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    recorded = Recorded(folder)
    assert recorded.calls
    return recorded


def test_every_cluster_has_a_sequence():
    assert set(SEQUENCES) == {"kind", "EKS", "GKE"}


def test_images_that_are_built_are_those_that_the_overlay_runs(sequence):
    (overlay,) = {words[words.index("-k") + 1] for words in sequence.of("kubectl") if "-k" in words}
    manifests = kustomize(sequence.repository / overlay)
    built = {words[words.index("--tag") + 1] for words in sequence.of("docker") if words[0] == "build"}
    assert built == {container["image"] for pod in pods(manifests) for container in pod.containers}
    claim = the(manifests, "PersistentVolumeClaim", "simile-bundles")["spec"]
    classes = {"dev": None, "eks": "efs", "gke": "standard-rwx"}
    assert claim.get("storageClassName") == classes[Path(overlay).name]


def test_objects_that_are_written_on_the_way_are_valid(sequence):
    for one in sequence.objects:
        if one["apiVersion"] != "eksctl.io/v1alpha5":
            assert kubernetes_validate.validate(one, "1.35", strict=True) == "1.35"
        else:
            configurations = [yaml.safe_load(addon.get("configurationValues", "{}")) for addon in one["addons"]]
            assert {"enableNetworkPolicy": "true"} in configurations


def test_kubectl_and_gcloud_have_the_options(sequence):
    for tool in ("kubectl", "gcloud"):
        for words in sequence.of(tool):
            assert unknown_options(tool, words) == set(), words


def test_aws_accepts_the_command_lines(sequence):
    if not shutil.which("aws"):
        pytest.skip("no aws here")
    for words in sequence.of("aws"):
        # Calls nothing: the command line is read, and its input is described.
        argv = ["aws", *words, "--region", "eu-central-1", "--generate-cli-skeleton", "input"]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        # Commands that are no calls of the API have no such option, and every other one.
        only_unknown = "Unknown options: --generate-cli-skeleton,input"
        assert done.returncode == 0 or done.stderr.strip().endswith(only_unknown), done.stderr


@pytest.mark.parametrize(
    "command", ["kubectl create job a --from-cronjob=b", "gcloud container clusters create a --regoin b"]
)
def test_planted_option_is_detected(command):
    tool, *words = command.split()
    assert unknown_options(tool, words) == {words[-2 if tool == "gcloud" else -1].partition("=")[0]}


def unknown_options(tool, words):
    """Return the long options that the tool's help does not list for the command."""
    if not shutil.which(tool):
        pytest.skip(f"no {tool} here")
    # Without options, since kubectl prints no help for a command line that has unknown ones.
    command = list(takewhile(lambda word: not word.startswith("-"), words[2:] if words[0] == "-n" else words))
    texts = [
        subprocess.run([tool, *more], capture_output=True, text=True, timeout=TIMEOUT_S, check=True).stdout
        for more in ([*command, "--help"], *([["options"]] if tool == "kubectl" else []))
    ]
    known = set(re.findall(r"--[a-z][a-z0-9-]*", ANSI.sub("", "".join(texts))))
    return {word.partition("=")[0] for word in words if word.startswith("--")} - known
