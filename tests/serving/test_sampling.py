"""The sample of the traffic: what is drawn with which probability, and the files."""

import asyncio
import json
import sys
import time
from datetime import UTC, datetime

import numpy as np
import pyarrow.parquet as pq
import pytest
from fastapi.testclient import TestClient
from prometheus_client import CollectorRegistry

from serving.app import create_app
from serving.sampling import _FILE_BYTES, Rates, Sampling
from serving.settings import Settings
from simile.artifacts import read_sampled_pairs
from simile.artifacts.strata import STRATA, strata_of
from simile.artifacts.texts import text_hash
from simile.errors import InputError
from simile.scoring import Scored
from tests.serving.running import running

PAIRS = [["The water was cold.", "A cold drink of water."], ["no signal", "no bars"]]
INFER = {
    "inputs": [
        {"name": name, "datatype": "BYTES", "shape": [1], "data": [text]}
        for name, text in (("text_a", "no signal"), ("text_b", "no bars"))
    ]
}


def served(scorer, folder, **options):
    """Return a client of a service that samples into the folder; at its end, everything is written."""
    return TestClient(create_app(Settings(sample_folder=folder, **options), scorer))


def rows_of(folder):
    return [row for path in sorted(folder.glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def scored(score_P):
    score_P = np.asarray(score_P, np.float32)
    return Scored(score_P, {"small": score_P}, 2, 2, 0, 0)


def traffic(num, seed):
    """Return scores as traffic has them: nearly all are low."""
    return np.random.default_rng(seed).beta(2, 8, size=num)


def drawn_of(rates, score_P, pairs_per_call=10):
    """Return the indices of the drawn pairs and their probabilities."""
    drawn, probabilities = [], []
    for begin in range(0, len(score_P), pairs_per_call):
        index_K, _, probability_K = rates.draw(score_P[begin : begin + pairs_per_call])
        drawn += [begin + i for i in index_K]
        probabilities += probability_K
    return np.array(drawn), np.array(probabilities)


def test_sample_has_its_share_and_rare_scores_as_often_as_common_ones():
    score_P = traffic(300_000, seed=1)
    index_K, probability_K = drawn_of(Rates(0.01, seed=2), score_P)
    assert len(index_K) == pytest.approx(3000, rel=0.1)
    counts = np.bincount(strata_of(score_P[index_K]), minlength=len(STRATA))
    population = np.bincount(strata_of(score_P), minlength=len(STRATA))
    # Below 0.65, every stratum has enough pairs for an equal share.
    assert population[13] < 0.02 * population.max()
    assert counts[1:14].min() > 0.6 * counts[1:14].max()
    assert np.all(probability_K > 0)
    assert np.all(probability_K <= 1)


def test_sums_weighted_by_the_inverse_probability_are_unbiased():
    score_P = traffic(20_000, seed=3)
    totals, means = [], []
    for seed in range(200):
        index_K, probability_K = drawn_of(Rates(0.02, seed=seed), score_P, pairs_per_call=100)
        totals.append((1 / probability_K).sum())
        means.append((score_P[index_K] / probability_K).sum() / len(score_P))
    for estimates, truth in ((totals, len(score_P)), (means, score_P.mean())):
        standard_error = np.std(estimates) / np.sqrt(len(estimates))
        assert abs(np.mean(estimates) - truth) < 3.5 * standard_error


def test_scores_that_were_never_seen_do_not_flood_the_sample():
    rates = Rates(0.001, seed=4)
    drawn_of(rates, traffic(50_000, seed=5), pairs_per_call=1000)
    assert rates.rate_S.max() <= 0.1
    index_K, _ = drawn_of(rates, np.full(50_000, 0.97), pairs_per_call=100)
    # At most one adaptation's pairs at the highest rate, then the share of its stratum.
    assert len(index_K) < 0.1 * 1000 + 0.01 * 50_000


def test_long_traffic_of_few_scores_keeps_every_rate_a_number():
    rates = Rates(0.001, seed=6)
    for _ in range(300):
        rates.draw(np.full(100_000, 0.5))
    assert np.all(rates.rate_S > 0)
    assert np.all(rates.rate_S <= 0.1)


def test_drawn_pairs_are_written_at_the_end_with_all_that_is_known(scorer, tmp_path):
    before = datetime.now(UTC)
    options = {"sample_share": 1.0, "api_keys": ("secret-key",)}
    with served(scorer, tmp_path / "sample", **options) as client:
        headers = {"authorization": "Bearer secret-key"}
        body = client.post("/v1/similarity", json={"pairs": PAIRS, "members": True}, headers=headers).json()
        assert client.post("/v1/similarity", json={"pairs": []}, headers=headers).status_code == 422
        assert not rows_of(tmp_path / "sample")
    rows = rows_of(tmp_path / "sample")
    assert [[row["text_a"], row["text_b"]] for row in rows] == PAIRS
    for i, row in enumerate(rows):
        assert row["bundle_score"] == pytest.approx(body["scores"][i])
        members = {name: scores[i] for name, scores in body["members"].items()}
        assert json.loads(row["member_scores"]) == pytest.approx(members, abs=1e-6)
        assert (row["bundle"], row["key"], row["inclusion_probability"]) == (body["bundle"], "unnamed", 1)
        assert row["stratum"] == STRATA[strata_of(np.array([row["bundle_score"]]))[0]]
        assert abs((row["time"] - before).total_seconds()) < 60
    first, second = read_sampled_pairs(tmp_path / "sample")
    assert (first.text_a, second.text_b, first.inclusion_probability) == ("The water was cold.", "no bars", 1)
    registry = client.app.state.service.metrics.registry
    assert registry.get_sample_value("simile_sampled_pairs_total", {"result": "written"}) == 2


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/similarity", {"text": "no signal", "texts": ["no bars"]}),
        ("/rerank", {"query": "no signal", "documents": ["no bars"]}),
        ("/similarity", {"inputs": {"source_sentence": "no signal", "sentences": ["no bars"]}}),
        ("/v2/models/tiny/infer", INFER),
        ("/v1/score", {"text_1": "no signal", "text_2": "no bars"}),
    ],
)
def test_every_route_that_scores_pairs_is_sampled(scorer, tmp_path, path, body):
    with served(scorer, tmp_path, sample_share=1.0) as client:
        response = client.post(path, json=body)
        assert response.status_code == 200, response.text
    (row,) = rows_of(tmp_path)
    assert (row["text_a"], row["text_b"], row["key"]) == ("no signal", "no bars", None)


def test_hashed_sample_has_scores_and_no_text(scorer, tmp_path):
    with served(scorer, tmp_path, sample_share=1.0, sample_hashed=True) as client:
        client.post("/v1/similarity", json={"pairs": PAIRS})
    rows = rows_of(tmp_path)
    assert [row["text_a_sha256"] for row in rows] == [text_hash(a) for a, _ in PAIRS]
    assert all(b"water" not in path.read_bytes() and b"signal" not in path.read_bytes() for path in tmp_path.iterdir())
    with pytest.raises(InputError, match="cannot be labelled"):
        read_sampled_pairs(tmp_path)


def test_nothing_is_sampled_unless_a_folder_is_given(scorer):
    with TestClient(create_app(Settings(), scorer)) as client:
        client.post("/v1/similarity", json={"pairs": PAIRS})
    value = client.app.state.service.metrics.registry.get_sample_value
    assert value("simile_sampled_pairs_total", {"result": "written"}) is None


def test_stop_of_the_server_writes_what_was_drawn(scorer, tmp_path):
    async def scenario():
        async with running(scorer, sample_folder=tmp_path, sample_share=1.0) as (client, _):
            await client.post("/v1/similarity", json={"pairs": PAIRS})

    asyncio.run(scenario())
    assert len(rows_of(tmp_path)) == 2


@pytest.fixture
def sampling(tmp_path):
    """A sampling of everything into 16 MiB, in a folder that has as much already, and a file of another name."""
    (tmp_path / "README").write_text("not ours")
    for number in range(16):
        (tmp_path / f"sampled-2020010{number:02}.parquet").write_bytes(bytes(2**20))
    settings = Settings(sample_folder=tmp_path, sample_share=1.0, sample_bytes=2**24)
    return Sampling(tmp_path, settings, CollectorRegistry())


def test_oldest_files_make_room_for_a_new_one(sampling, tmp_path):
    sampling.offer(PAIRS, scored([0.25, 0.75]), bundle="b@0", key="")
    asyncio.run(sampling.close())
    names = sorted(path.name for path in tmp_path.glob("sampled-*"))
    assert sum(path.stat().st_size for path in tmp_path.glob("sampled-*")) <= 2**24
    assert names[0] == "sampled-202001001.parquet"
    assert pq.read_metadata(tmp_path / names[-1]).num_rows == 2
    assert (tmp_path / "README").exists()


def test_much_text_is_written_before_the_time_is_over(sampling, tmp_path):
    old = set(tmp_path.iterdir())
    sampling.offer([("a" * _FILE_BYTES, "b")], scored([0.5]), bundle="b@0", key="")
    end = time.monotonic() + 20
    while not [path for path in tmp_path.glob("sampled-*") if path not in old]:
        assert time.monotonic() < end
        time.sleep(0.01)


def test_pairs_that_would_fill_the_memory_are_dropped_and_counted(sampling):
    sampling.offer([("a" * 3 * _FILE_BYTES, "b"), ("c", "d")], scored([0.5, 0.5]), bundle="b@0", key="")
    asyncio.run(sampling.close())
    sampling.offer([("e", "f")], scored([0.5]), bundle="b@0", key="")
    assert sampling._metrics.dropped._value.get() == 2
    assert sampling._metrics.written._value.get() == 1


def test_disk_that_fails_costs_the_sample_and_nothing_else(sampling, tmp_path, caplog):
    for path in tmp_path.iterdir():
        path.unlink()
    tmp_path.rmdir()
    tmp_path.write_text("a file where the folder was")
    sampling.offer([("a secret", "another")], scored([0.5]), bundle="b@0", key="")
    asyncio.run(sampling.close())
    assert sampling._metrics.dropped._value.get() == 1
    assert "sampled pairs cannot be written" in caplog.text
    assert "secret" not in caplog.text


def test_folder_that_cannot_be_written_is_refused_at_start(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"--sample-folder: .*file cannot be written"):
        Sampling(tmp_path / "file", Settings(), CollectorRegistry())


def test_missing_pyarrow_is_told_at_start(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match=r"^--sample-folder needs pyarrow, .*simile-pairs\[bulk\]"):
        create_app(Settings(sample_folder=tmp_path / "sample"), lambda: None)
