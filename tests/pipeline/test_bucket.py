"""Bundles go into a bucket and come out of it, by the real commands, over HTTP, whole or not at all."""

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import boto3
import httpx2
import pytest
from s3fs import S3FileSystem

from pipeline.cli import main
from simile.artifacts import Manifest, StoredEvaluations, read_bundle
from tests.live_servers import Reply, scripted, started

ROOT = Path(__file__).parents[2]
BUCKET = "bundles"
URL = f"s3://{BUCKET}/simile"
KEYS = {
    "AWS_ACCESS_KEY_ID": "PLANTEDKEYID",
    "AWS_SECRET_ACCESS_KEY": "planted-secret-key",
    "AWS_SESSION_TOKEN": "planted",
}


@pytest.fixture
def bucket(s3_endpoint):
    """An empty bucket, as boto3 knows it: not the client that is tested."""
    options = {"endpoint_url": s3_endpoint, "aws_access_key_id": "x", "aws_secret_access_key": "x"}
    made = boto3.resource("s3", region_name="us-east-1", **options).create_bucket(Bucket=BUCKET)
    yield made
    made.objects.delete()
    made.delete()


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def environ(s3_endpoint, tmp_path, monkeypatch):
    """Sets the only variables that tell of a bucket, and returns them; an empty one is not set."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    files = {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull, "HOME": str(tmp_path)}
    there = {"AWS_ENDPOINT_URL": s3_endpoint, "AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true"}
    return files | there | KEYS


@pytest.fixture
def simile(environ, monkeypatch, capfd):
    """Runs the command in this process with these variables; no output has a key."""

    def simile(*arguments, **changed):
        # Neither the client nor what it knows of a bucket outlives a command.
        S3FileSystem.clear_instance_cache()
        with monkeypatch.context() as patch:
            for name, value in (environ | changed).items():
                if value:
                    patch.setenv(name, value)
            code = main([*map(str, arguments)])
        done = Done(code, *capfd.readouterr())
        assert "planted" not in (done.stdout + done.stderr).lower()
        return done

    return simile


@pytest.fixture
def process(environ):
    """Runs the command in a process of its own, with these variables; no output has a key."""

    def simile(*arguments, **changed):
        given = {name: value for name, value in (environ | changed).items() if value}
        done = subprocess.run(
            [sys.executable, "-m", "pipeline.cli", *map(str, arguments)],
            cwd=ROOT,
            env=os.environ | given | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert "planted" not in (done.stdout + done.stderr).lower()
        return done

    return simile


def refused(done, code=2):
    """The one line of a refusal."""
    (line,) = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (code, "")
    return line


def test_what_is_pushed_is_pulled_and_served(process, bucket, bundle, tmp_path):
    pushed = process("push", bundle.path, URL)
    address = f"{URL}/{bundle.manifest.digest}"
    assert (pushed.returncode, pushed.stdout, pushed.stderr) == (0, f"{address}\n", "")
    pulled = process("pull", address, tmp_path / "bundles" / "pulled")
    assert (pulled.returncode, pulled.stdout, pulled.stderr) == (0, f"{bundle.identity}\n", "")
    assert [path.name for path in (tmp_path / "bundles").iterdir()] == ["pulled"]
    files = [path.relative_to(bundle.path) for path in bundle.path.rglob("*") if path.is_file()]
    for file in files:
        assert (tmp_path / "bundles" / "pulled" / file).read_bytes() == (bundle.path / file).read_bytes()
    with started(tmp_path / "bundles" / "pulled", tmp_path / "log") as process:
        answer = httpx2.post(f"{process.url}/v1/similarity", json={"pairs": [["the card", "a card"]]}, trust_env=False)
    assert answer.json()["bundle"].endswith(f"@sha256:{bundle.manifest.digest}")


def test_what_is_there_is_neither_pushed_nor_pulled_again(simile, bucket, bundle, tmp_path):
    first = simile("push", bundle.path, URL)
    before = {one.key: one.last_modified for one in bucket.objects.all()}
    assert simile("push", bundle.path, f"{URL}/").stdout == first.stdout
    assert {one.key: one.last_modified for one in bucket.objects.all()} == before
    inodes = set()
    for _ in range(2):
        assert simile("pull", first.stdout.strip(), tmp_path / "pulled").returncode == 0
        inodes.add((tmp_path / "pulled").stat().st_ino)
    assert len(inodes) == 1


@pytest.mark.parametrize("file", ["evaluation.json", "README.md", "texts.sha256", "members/small/model.onnx"])
def test_what_is_there_otherwise_is_pushed_again(simile, bucket, bundle, tmp_path, file):
    own = tmp_path / "own"
    shutil.copytree(bundle.path, own)
    for beside in ("evaluation.json", "README.md", "texts.sha256"):
        (own / beside).write_text(StoredEvaluations(reports=()).model_dump_json())
    address = simile("push", own, URL).stdout.strip()
    there = bucket.Object(f"simile/{bundle.manifest.digest}/{file}")
    there.put(Body=changed(there.get()["Body"].read()))
    assert simile("push", own, URL).stdout.strip() == address
    assert simile("pull", address, tmp_path / "pulled").returncode == 0
    assert (tmp_path / "pulled" / file).read_bytes() == (own / file).read_bytes()


def test_manifest_is_pushed_last(simile, bundle, tmp_path):
    simile("push", bundle.path, f"file://{tmp_path}")
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert max(files, key=lambda path: path.stat().st_mtime_ns).name == "manifest.json"


def test_push_that_was_killed_is_no_bundle_and_is_completed(simile, bucket, bundle, tmp_path):
    address = simile("push", bundle.path, URL).stdout.strip()
    bucket.Object(f"simile/{bundle.manifest.digest}/manifest.json").delete()
    line = refused(simile("pull", address, tmp_path / "pulled"))
    assert line.startswith(f"simile: {address}: no such bundle or bucket (")
    assert simile("push", bundle.path, URL).stdout.strip() == address
    assert simile("pull", address, tmp_path / "pulled").returncode == 0


def test_two_that_pull_to_one_place_both_end_well(simile, process, bucket, bundle, tmp_path):
    address = simile("push", bundle.path, URL).stdout.strip()
    with ThreadPoolExecutor() as pool:
        done = list(pool.map(lambda _: process("pull", address, tmp_path / "out" / "pulled"), range(2)))
    assert [(one.returncode, one.stderr) for one in done] == [(0, "")] * 2
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["pulled"]
    assert read_bundle(tmp_path / "out" / "pulled").identity == bundle.identity


def restated(data):
    """Return the manifest with the checksum that it should have."""
    value = json.loads(data)
    del value["checksum"]
    return Manifest.model_validate(value).model_dump_json().encode()


def changed(data):
    return data[:-1] + bytes([data[-1] ^ 1])


DAMAGE = {
    "changed": ("members/small/model.onnx", changed, "members/small/model.onnx is damaged, got sha256"),
    "cut": ("members/small/tokenizer.json", lambda data: data[:100], "members/small/tokenizer.json is damaged"),
    "no JSON": ("manifest.json", lambda data: data[:-100], "no valid JSON"),
    "of another name without another checksum": (
        "manifest.json",
        lambda data: data.replace(b'"name": "tiny"', b'"name": "other"'),
        "was changed, got",
    ),
    "of another name": (
        "manifest.json",
        lambda data: restated(data.replace(b'"name": "tiny"', b'"name": "other"')),
        "got a bundle with the digest",
    ),
    "a path that leaves": (
        "manifest.json",
        lambda data: restated(data.replace(b"members/small/model.onnx", b"../small/model.onnx")),
        "got a bundle with the digest",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_bundle_is_not_pulled(simile, bucket, bundle, tmp_path, damage):
    file, change, expected = DAMAGE[damage]
    address = simile("push", bundle.path, URL).stdout.strip()
    there = bucket.Object(f"simile/{bundle.manifest.digest}/{file}")
    data = there.get()["Body"].read()
    assert change(data) != data
    there.put(Body=change(data))
    line = refused(simile("pull", address, tmp_path / "out" / "pulled"))
    assert line.startswith(f"simile: {address}")
    assert expected in line
    assert list((tmp_path / "out").iterdir()) == []


def test_manifest_whose_paths_leave_the_bundle_is_refused_under_any_name(simile, bucket, bundle, tmp_path):
    manifest = (bundle.path / "manifest.json").read_bytes()
    leaving = restated(manifest.replace(b"members/small/model.onnx", b"../../planned"))
    bucket.Object("any/manifest.json").put(Body=leaving)
    line = refused(simile("pull", f"s3://{BUCKET}/any", tmp_path / "out" / "pulled"))
    assert line.endswith("the manifest lists '../../planned', need a plain path inside the bundle")
    assert list((tmp_path / "out").iterdir()) == []


def test_bundle_whose_golden_pairs_are_not_reproduced_is_not_pulled(simile, bundle, tmp_path):
    other = shutil.copytree(bundle.path, tmp_path / "other")
    golden = [pair.model_dump() for pair in bundle.manifest.golden]
    golden[0]["scores"]["small"] += 0.1
    value = bundle.manifest.model_dump(exclude={"checksum"}) | {"golden": golden}
    (other / "manifest.json").write_text(Manifest.model_validate(value).model_dump_json())
    address = simile("push", other, f"file://{tmp_path}/store").stdout.strip()
    assert f"{address}: golden pairs differ by 1" in refused(simile("pull", address, tmp_path / "out" / "pulled"))
    assert list((tmp_path / "out").iterdir()) == []


def test_file_that_is_larger_than_the_manifest_says_is_not_fetched(simile, bundle, tmp_path):
    address = simile("push", bundle.path, f"file://{tmp_path}/store").stdout.strip()
    os.truncate(tmp_path / "store" / bundle.manifest.digest / "members/small/model.onnx", 2**40)
    line = refused(simile("pull", address, tmp_path / "out" / "pulled"))
    assert f"members/small/model.onnx: got {2**40} bytes, need at most " in line
    assert list((tmp_path / "out").iterdir()) == []


def test_missing_file_is_not_pulled(simile, bucket, bundle, tmp_path):
    address = simile("push", bundle.path, URL).stdout.strip()
    bucket.Object(f"simile/{bundle.manifest.digest}/members/small/model.onnx").delete()
    assert "no such bundle or bucket" in refused(simile("pull", address, tmp_path / "pulled"))
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_there_is_told(simile, bucket, bundle, tmp_path):
    assert "no such bundle or bucket" in refused(simile("pull", URL, tmp_path / "pulled"))
    assert "no such bundle or bucket" in refused(simile("pull", "s3://no-such-bucket/simile", tmp_path / "pulled"))
    assert "no such bundle or bucket" in refused(simile("push", bundle.path, "s3://no-such-bucket/simile"))
    assert "no such bundle" in refused(simile("push", tmp_path / "none", URL))
    assert list(tmp_path.iterdir()) == []


def test_place_that_holds_something_else_is_kept(simile, bucket, bundle, tiny, tmp_path):
    address = simile("push", bundle.path, URL).stdout.strip()
    shutil.copytree(tiny.path, tmp_path / "pulled")
    line = refused(simile("pull", address, tmp_path / "pulled"))
    assert line == f"simile: {tmp_path / 'pulled'}: holds {tiny.identity}, need a new or empty directory"
    assert read_bundle(tmp_path / "pulled").identity == tiny.identity


def test_missing_credentials_are_told(simile, bucket, bundle, tmp_path):
    nothing = dict.fromkeys(KEYS, "")
    for arguments in (("push", bundle.path, URL), ("pull", URL, tmp_path / "pulled")):
        assert "got no credentials, need AWS_ACCESS_KEY_ID" in refused(simile(*arguments, **nothing))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (500, "InternalError", 75),
        (503, "SlowDown", 75),
        (429, "TooManyRequests", 75),
        (400, "AuthorizationHeaderMalformed", 2),
        (400, "InvalidBucketName", 2),
        (418, "Teapot", 2),
    ],
)
def test_answer_of_the_bucket_ends_the_command_as_it_should(simile, bundle, tmp_path, status, code, expected):
    body = f"<Error><Code>{code}</Code><Message>so it is</Message></Error>".encode()
    with scripted(lambda _: Reply(status, body, {"content-type": "application/xml"})) as server:
        environ = {"AWS_ENDPOINT_URL": server.url, "AWS_MAX_ATTEMPTS": "1"}
        line = refused(simile("push", bundle.path, URL, **environ), expected)
    assert line.startswith(f"simile: {URL}/{bundle.manifest.digest}: ")
    assert "so it is" in line


def test_damaged_copy_is_to_be_removed(simile, bucket, bundle, tmp_path):
    address = simile("push", bundle.path, URL).stdout.strip()
    simile("pull", address, tmp_path / "pulled")
    file = tmp_path / "pulled" / "members" / "small" / "model.onnx"
    file.write_bytes(changed(file.read_bytes()))
    line = refused(simile("pull", address, tmp_path / "pulled"))
    assert line.endswith(f"; remove {tmp_path / 'pulled'} and pull again")


def test_server_that_is_away_can_be_tried_again(simile, bundle, tmp_path):
    away = {"AWS_ENDPOINT_URL": "http://somebody:planted@127.0.0.1:9", "AWS_MAX_ATTEMPTS": "1"}
    for arguments in (("push", bundle.path, URL), ("pull", URL, tmp_path / "pulled")):
        line = refused(simile(*arguments, **away), 75)
        assert "cannot be reached now (" in line
        assert line.endswith("); run the command again to continue")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "url",
    ["bundles/simile", "s3://planted:planted@bundles/simile", "s3://bundles/simile?key=planted", "nope://bundles/x"],
)
def test_address_of_no_bucket_is_refused(simile, bundle, tmp_path, url):
    for arguments in (("push", bundle.path, url), ("pull", url, tmp_path / "pulled")):
        assert len(refused(simile(*arguments))) < 200
    assert list(tmp_path.iterdir()) == []


def test_endpoint_that_is_no_address_is_refused(simile, bundle):
    line = refused(simile("push", bundle.path, URL, AWS_ENDPOINT_URL="somebody:planted"))
    assert "got an invalid AWS_ENDPOINT_URL" in line


def test_folder_does_as_well(simile, bundle, tmp_path):
    address = simile("push", bundle.path, f"file://{tmp_path}/store").stdout.strip()
    assert address == f"file://{tmp_path}/store/{bundle.manifest.digest}"
    assert simile("push", bundle.path, f"file://{tmp_path}/store").stdout.strip() == address
    assert simile("pull", address, tmp_path / "pulled").stdout == f"{bundle.identity}\n"


def test_key_that_may_not_is_refused_without_naming_it(simile, s3_endpoint, bucket, bundle, tmp_path):
    address = simile("push", bundle.path, URL).stdout.strip()
    asked = f"{s3_endpoint}/moto-api/reset-auth"
    httpx2.post(asked, content="0", trust_env=False).raise_for_status()
    try:
        for arguments in (("push", bundle.path, URL), ("pull", address, tmp_path / "pulled")):
            assert "access denied" in refused(simile(*arguments))
    finally:
        httpx2.post(asked, content="inf", trust_env=False).raise_for_status()
    assert list(tmp_path.iterdir()) == []
