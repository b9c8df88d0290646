"""Files and tiny bundles for the command line."""

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from simile.artifacts import Bundle, Document, Pair, write_pairs

NUM_GROUPS, PER_GROUP = 15, 10


@pytest.fixture(scope="session")
def documents(helpdesk) -> tuple[Document, ...]:
    """Some documents of some of the sample's groups, 150 in all."""
    groups = dict.fromkeys(row.group for row in helpdesk)
    chosen = list(groups)[:NUM_GROUPS]
    return tuple(row for group in chosen for row in [row for row in helpdesk if row.group == group][:PER_GROUP])


@pytest.fixture(scope="session")
def write_documents() -> Callable[[Path, Iterable[Document]], Path]:
    def write(path: Path, rows: Iterable[Document]) -> Path:
        fields: list[dict[str, Any]] = [
            {"id": row.id, "text": row.text, "category": row.category, "group": row.group} for row in rows
        ]
        path.write_text("".join(json.dumps(row) + "\n" for row in fields))
        return path

    return write


@pytest.fixture(scope="session")
def pairs(tmp_path_factory, documents) -> Path:
    """Labelled pairs that word overlap tells apart: neighbours in the file share a group, distant ones do not."""
    path = tmp_path_factory.mktemp("pairs") / "judged.jsonl"
    rows = []
    for number in range(0, len(documents) - 40, 2):
        label = number // 2 % 2
        a, b = documents[number], documents[number + 1 if label else number + 37]
        shared = "exactly the same trouble here again" if label else ""
        rows.append(Pair(f"{a.text} {shared}", f"{b.text} {shared}", label=int(a.group == b.group)))
    write_pairs(path, rows)
    return path


@pytest.fixture(scope="session")
def words(tmp_path_factory, write_lexical, documents) -> Bundle:
    """A bundle of one lexical member: much better on `pairs`."""
    return write_lexical(tmp_path_factory.mktemp("bundles") / "words", [row.text for row in documents])


@pytest.fixture(scope="module")
def s3_endpoint():
    """The address of an S3 server."""
    # Imported here, because few tests need it and it takes a while.
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(s3_endpoint, monkeypatch):
    """An empty bucket, as boto3 knows it, and the variables that the command finds it by."""
    import boto3
    from s3fs import S3FileSystem

    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    options = {"endpoint_url": s3_endpoint, "aws_access_key_id": "x", "aws_secret_access_key": "x"}
    variables = {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
    variables |= {"AWS_EC2_METADATA_DISABLED": "true", "AWS_DEFAULT_REGION": "us-east-1"}
    for name, value in (variables | {name.upper(): value for name, value in options.items()}).items():
        monkeypatch.setenv(name.replace("ENDPOINT_URL", "AWS_ENDPOINT_URL"), value)
    S3FileSystem.clear_instance_cache()
    made = boto3.resource("s3", region_name="us-east-1", **options).create_bucket(Bucket="pairs")
    yield made
    made.objects.delete()
    made.delete()
