"""Memory for large answers, and what large calls may ask for."""

import asyncio
import json
from itertools import pairwise

import numpy as np
import pytest
from fastapi.testclient import TestClient

from serving.answers import Answers
from serving.app import create_app
from serving.errors import InvalidRequestError, OverloadedError
from serving.inference import tokens_per_s
from serving.job_queue import ANYBODY, BatchLimits, Client, Job, JobQueue, estimated_tokens
from serving.settings import Settings
from simile.artifacts import Bundle
from simile.scoring import Runtime, Scorer
from tests.serving.engines import engine_of

MIB = 2**20


class TwoAtOnce(Runtime):
    """A runtime with two inference threads on every machine."""

    batches_at_once = 2


def test_large_answers_share_a_limited_memory():
    async def scenario():
        answers = Answers()
        async with answers.reserve(100 * MIB):
            with pytest.raises(OverloadedError):
                async with answers.reserve(MIB):
                    pass
            async with answers.reserve(1000):
                pass
        async with answers.reserve(60 * MIB), answers.reserve(4 * MIB):
            pass

    asyncio.run(scenario())


def test_others_have_their_turn_between_two_answers():
    turns = []

    async def other():
        for _ in range(20):
            turns.append("other")
            await asyncio.sleep(0)

    async def scenario():
        answers = Answers()

        async def render():
            await answers.render({})
            turns.append("answer")

        await asyncio.gather(other(), *(render() for _ in range(5)))

    asyncio.run(scenario())
    numbers = [i for i, turn in enumerate(turns) if turn == "answer"]
    assert all("other" in turns[first:second] for first, second in pairwise(numbers))


def test_embeddings_are_written_with_the_digits_of_their_precision(alone):
    with TestClient(create_app(Settings(), alone)) as client:
        answer = client.post("/v1/embeddings", json={"input": ["The water was cold."]})
    written = json.loads(answer.text, parse_float=str)["data"][0]["embedding"]
    exact = alone.embed(["The water was cold."])[0]
    assert np.array_equal(np.array(written, dtype=np.float32), exact)
    assert max(len(number) for number in written) <= 16


def test_a_call_that_takes_more_than_half_of_the_deadline_is_refused(alone):
    async def scenario():
        engine = engine_of(alone, deadline_s=10.0)
        assert engine.max_tokens is None
        engine.health.full_tokens_per_s = 100.0
        assert engine.max_tokens == 500
        assert len((await engine.score([("water", "cold")] * 1000)).score_P) == 1000
        with pytest.raises(InvalidRequestError, match="need at most 500 tokens per request"):
            await engine.score([(f"water {i}", f"cold {i}") for i in range(200)])

    asyncio.run(scenario())


def test_a_pair_of_the_longest_texts_is_never_too_much(alone):
    async def scenario():
        engine = engine_of(alone)
        engine.health.full_tokens_per_s = 0.001
        await engine.score([("water " * 5000, "cold " * 5000)])

    asyncio.run(scenario())


def test_what_may_wait_follows_the_throughput(alone):
    async def scenario():
        engine = engine_of(alone, max_waiting_tokens=100_000)
        for tokens_per_second, budget in ((10.0, 8192), (40_000.0, 40_000), (10**6, 100_000)):
            engine.health.full_tokens_per_s = tokens_per_second
            await engine.score([(f"water {tokens_per_second}", "cold")])
            assert engine.queue.max_tokens == budget

    asyncio.run(scenario())


def test_the_throughput_is_that_of_all_threads_and_encoders(encoder_alone, monkeypatch):
    member = encoder_alone.manifest.members[0]
    twice = (member, member.model_copy(update={"name": "other"}))
    manifest = encoder_alone.manifest.model_copy(update={"members": twice})
    scorer = Scorer(Bundle(encoder_alone.path, manifest, encoder_alone.data), TwoAtOnce("CPUExecutionProvider", "fp32"))
    clock = [0.0]
    monkeypatch.setattr("serving.inference.perf_counter", lambda: clock[0])
    for encoder, seconds_per_token in zip(scorer.members, (0.001, 0.003), strict=True):

        def embed(ids, seconds_per_token=seconds_per_token):
            clock[0] += seconds_per_token * sum(map(len, ids))

        encoder.embed_batch = embed
    # A token takes 2 ms on average, and two threads compute.
    assert tokens_per_s(scorer) == pytest.approx(1000)


def test_estimates_learn_from_the_tokens_of_the_traffic():
    def admitted() -> int:
        jobs = [Job(0, 0, text, estimated_tokens(text), 0.0) for _ in range(50)]
        queue.admit(jobs)
        num_tokens = queue.num_tokens
        for job in jobs:
            job.ids = np.zeros(3 * estimated_tokens(text), dtype=np.int64)
        # A call is tokenized in several parts.
        for start in range(0, len(jobs), 10):
            queue.ready(jobs[start : start + 10])
        queue.release(jobs)
        return num_tokens

    text = "x" * 200
    queue = JobQueue(10**9, BatchLimits(max_tokens=512, max_padding=128))
    estimates = [admitted() for _ in range(6)]
    assert estimates[0] == 50 * estimated_tokens(text)
    assert estimates[2:] == pytest.approx([3 * estimates[0]] * 4, rel=0.05)


def jobs_of(num_tokens: int) -> list[Job]:
    return [Job(0, 0, "text", 100, 0.0) for _ in range(num_tokens // 100)]


def test_a_large_call_leaves_half_of_the_budget_to_others():
    queue = JobQueue(10_000, BatchLimits(max_tokens=512, max_padding=128))
    large = jobs_of(100_000)
    assert queue.admit(large, Client("first"))
    assert not queue.admit(jobs_of(100), Client("first"))
    assert queue.admit(jobs_of(2_000), Client("second"))
    assert queue.admit(jobs_of(1_000), ANYBODY)
    assert not queue.admit(jobs_of(5_000), ANYBODY)
    queue.release(large)
    assert queue.admit(jobs_of(5_000), ANYBODY)
    assert queue.num_tokens == 8_000


def test_batch_work_takes_nothing_from_the_budget_of_interactive_work():
    queue = JobQueue(10_000, BatchLimits(max_tokens=512, max_padding=128))
    assert queue.admit(jobs_of(5_000), Client("first", is_batch=True))
    assert queue.admit(jobs_of(5_000), Client("second", is_batch=True))
    assert not queue.admit(jobs_of(1_000), Client("third", is_batch=True))
    assert queue.admit(jobs_of(5_000), Client("second"))
    assert queue.admit(jobs_of(5_000), ANYBODY)
    assert not queue.admit(jobs_of(1_000), ANYBODY)


@pytest.mark.parametrize(
    ("text", "least", "most"), [("x" * 100, 25, 30), ("水" * 100, 100, 150), ("Grüße " * 10, 15, 40)]
)
def test_estimates_know_characters_that_are_words(text, least, most):
    assert least <= estimated_tokens(text) <= most


def test_a_large_call_of_batch_work_adds_nothing_to_the_budget_of_interactive_work():
    queue = JobQueue(10_000, BatchLimits(max_tokens=512, max_padding=128))
    assert queue.admit(jobs_of(100_000), Client("first", is_batch=True))
    assert queue.admit(jobs_of(5_000), Client("second"))
    assert queue.admit(jobs_of(4_000), ANYBODY)
    assert not queue.admit(jobs_of(2_000), ANYBODY)


@pytest.mark.parametrize("encoding", ["float", "base64", "int8", "binary", "ubinary"])
def test_the_memory_of_embeddings_is_reserved(alone, encoding, monkeypatch):
    reserved = []
    reserve = Answers.reserve
    monkeypatch.setattr(Answers, "reserve", lambda self, size: reserved.append(size) or reserve(self, size))
    with TestClient(create_app(Settings(), alone)) as client:
        body = {"input": [f"water {i}" for i in range(500)], "encoding_format": encoding}
        answer = client.post("/v1/embeddings", json=body)
    (num_bytes,) = reserved
    # The array of float32 waits together with what is written of it. Each object has about 50 bytes more in JSON.
    assert num_bytes >= 500 * alone.dimensions[0] * 4 + len(answer.content) - 500 * 50 - 1000
