"""Bulk work from and into a bucket, over HTTP."""

import json
import os

import pyarrow.parquet as pq
import pytest

from simile.bulk.storage import storage_of
from tests.pipeline.bulk_inputs import bulk, parts, write_folder

SMALL = ("--shard-rows", 64)


@pytest.fixture
def uploaded(bucket, tmp_path):
    """A folder, and the same files under a prefix of the bucket."""
    folder = write_folder(tmp_path / "in", 150)
    for path in folder.iterdir():
        bucket.upload_file(str(path), f"in/{path.name}")
    return folder


def objects(bucket, prefix):
    return {one.key.removeprefix(prefix): one.get()["Body"].read() for one in bucket.objects.filter(Prefix=prefix)}


def table(data, tmp_path):
    (tmp_path / "part").write_bytes(data)
    return pq.read_table(tmp_path / "part").replace_schema_metadata(None)


def test_parts_of_a_bucket_hold_what_those_of_a_folder_hold(uploaded, bucket, bundle, tmp_path):
    assert bulk("score", bundle, uploaded, tmp_path / "out", *SMALL) == 0
    assert bulk("score", bundle, "s3://pairs/in", "s3://pairs/out", *SMALL) == 0
    here, there = parts(tmp_path / "out"), objects(bucket, "out/")
    assert there.keys() == here.keys()
    for name in here.keys() - {"_SUCCESS"}:
        assert table(there[name], tmp_path) == table(here[name], tmp_path)
    manifest = json.loads(there["_SUCCESS"])
    assert [one["path"] for one in manifest["inputs"]] == [
        f"s3://pairs/in/{name}" for name in ("a.jsonl", "b.csv", "c.parquet")
    ]
    assert manifest["rows"] == 450


def test_rerun_writes_only_the_objects_that_are_missing(uploaded, bucket, bundle):
    assert bulk("score", bundle, "s3://pairs/in/*.parquet", "s3://pairs/out/", *SMALL) == 0
    before = objects(bucket, "out/")
    bucket.Object("out/c.parquet.00001.parquet").delete()
    times = {one.key: one.last_modified for one in bucket.objects.filter(Prefix="out/c")}
    assert bulk("score", bundle, "s3://pairs/in/*.parquet", "s3://pairs/out/", *SMALL) == 0
    assert objects(bucket, "out/") == before
    assert {one.key: one.last_modified for one in bucket.objects.filter(Prefix="out/c")}.items() >= times.items()


def test_object_that_was_changed_is_refused(uploaded, bucket, bundle, capsys):
    assert bulk("score", bundle, "s3://pairs/in/a.jsonl", "s3://pairs/out/", *SMALL) == 0
    bucket.upload_file(str(uploaded / "b.csv"), "in/a.jsonl")
    assert bulk("score", bundle, "s3://pairs/in/a.jsonl", "s3://pairs/out/", *SMALL, "--format", "csv") == 2
    assert "s3://pairs/out/a.jsonl.00000.parquet: got a part with reading" in capsys.readouterr().err
    bucket.upload_file(str(uploaded / "a.jsonl"), "in/a.jsonl")
    bucket.Object("in/a.jsonl").put(Body=bucket.Object("in/a.jsonl").get()["Body"].read() + b"\n")
    assert bulk("score", bundle, "s3://pairs/in/a.jsonl", "s3://pairs/out/", *SMALL) == 2
    assert "got a part of s3://pairs/in/a.jsonl before it was changed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("source", "out", "message"),
    [
        ("s3://pairs/none", "s3://pairs/out", "no such file, folder or bucket"),
        ("s3://pairs/in", "s3://nowhere/out", "no such file, folder or bucket"),
        ("s3://pairs/in", "s3://pairs/in/scored", "is read as input"),
        ("s3://pairs/in", "s3://pairs/in/", "is read as input"),
        ("s3://user:password@pairs/in", "s3://pairs/out", "need s3://BUCKET/FOLDER"),
    ],
)
def test_addresses_that_do_not_fit_are_one_line(uploaded, bucket, bundle, capsys, source, out, message):
    assert bulk("score", bundle, source, out) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert message in error
    assert "password" not in error
    assert {one.key.partition("/")[0] for one in bucket.objects.all()} == {"in"}


def test_object_is_read_in_ranges_as_a_file(bucket):
    data = bytes(range(256)) * 100
    bucket.Object("data").put(Body=data)
    with storage_of("s3://pairs/data").opened("s3://pairs/data") as file:
        file.seek(-300, os.SEEK_END)
        assert file.read() == data[-300:]
        file.seek(1000)
        assert file.read(10) == data[1000:1010]
