import asyncio
import threading

import numpy as np
import pytest

from serving.errors import DeadlineError, NotFiniteError, NotReadyError, OverloadedError
from serving.job_queue import Client
from simile.scoring import GOLDEN_PAIRS, Scorer
from tests.live_servers import until
from tests.serving.engines import FIRST, OTHER, THREE, TWO, block, engine_of, sources, tokens_of
from tests.tiny_ensembles import WORDS


@pytest.mark.parametrize("pairs", [GOLDEN_PAIRS, TWO, [("no", "no")], GOLDEN_PAIRS * 30])
def test_engine_scores_as_the_scorer_does(scorer, pairs):
    scored, expected = asyncio.run(engine_of(scorer).score(pairs)), scorer.score_members(pairs)
    np.testing.assert_allclose(scored.score_P, expected.score_P, rtol=0, atol=1e-6)
    for name, score_P in expected.members.items():
        np.testing.assert_allclose(scored.members[name], score_P, rtol=0, atol=1e-6)
    counts = (scored.num_texts, scored.num_tokens, scored.num_cut, scored.num_unknown)
    assert counts == (expected.num_texts, expected.num_tokens, expected.num_cut, expected.num_unknown)


def test_long_call_is_tokenized_in_threads_and_scored_as_the_scorer_does(scorer):
    words = [word for word in WORDS if not word.startswith("[")]
    draw = np.random.default_rng(0)
    texts = [" ".join(draw.choice(words, size=size)) for size in draw.integers(1, 60, size=500)]
    pairs = list(zip(texts[::2], texts[1::2], strict=True))
    scored, expected = asyncio.run(engine_of(scorer).score(pairs)), scorer.score_members(pairs)
    np.testing.assert_allclose(scored.score_P, expected.score_P, rtol=0, atol=1e-6)
    assert scored.num_cut == expected.num_cut > 0


def test_call_that_arrives_during_a_batch_joins_the_next_batch(watched):
    async def scenario():
        engine = engine_of(watched)
        blocking = await block(engine, watched)
        waiting = [asyncio.create_task(engine.score(pairs)) for pairs in (TWO, OTHER)]
        await until(lambda: engine.queue.num_tokens == tokens_of(watched, TWO + OTHER))
        watched.gate.set()
        return [len((await task).score_P) for task in (blocking, *waiting)]

    assert asyncio.run(scenario()) == [1, 2, 1]
    assert watched.sizes == [2, 6]


def test_text_that_another_call_waits_for_is_computed_once(watched):
    async def scenario():
        engine = engine_of(watched)
        blocking = await block(engine, watched)
        calls = [asyncio.create_task(engine.score(pairs)) for pairs in (FIRST, TWO, THREE)]
        await until(lambda: sources(engine)["shared"] == 6)
        watched.gate.set()
        return engine, await asyncio.gather(blocking, *calls)

    engine, scored = asyncio.run(scenario())
    assert watched.sizes == [2, 6]
    assert sources(engine) == {"computed": 8, "cached": 0, "shared": 6}
    for answer, pairs in zip(scored, (FIRST, FIRST, TWO, THREE), strict=True):
        np.testing.assert_allclose(answer.score_P, watched.score(pairs), rtol=0, atol=1e-6)


def test_cached_text_is_not_computed_again(watched):
    async def scenario():
        engine = engine_of(watched, cache_bytes=2**20)
        return engine, [await engine.score(pairs) for pairs in (TWO, THREE)]

    engine, (_, scored) = asyncio.run(scenario())
    assert watched.sizes == [4, 2]
    assert sources(engine) == {"computed": 6, "cached": 4, "shared": 0}
    expected = watched.score_members(THREE)
    np.testing.assert_allclose(scored.score_P, expected.score_P, rtol=0, atol=1e-6)
    assert scored.num_tokens == expected.num_tokens


def test_cancelled_call_is_not_computed_unless_another_call_needs_its_texts(watched):
    async def scenario():
        engine = engine_of(watched)
        blocking = await block(engine, watched)
        gone, stays = (asyncio.create_task(engine.score(pairs)) for pairs in (THREE, TWO))
        await until(lambda: sources(engine)["shared"] == 4)
        gone.cancel()
        await until(lambda: engine.queue.num_tokens == tokens_of(watched, TWO))
        watched.gate.set()
        await asyncio.gather(blocking, stays)
        return await engine.score(THREE)

    assert len(asyncio.run(scenario()).score_P) == 3
    assert watched.sizes == [2, 4, 6]


def test_a_call_does_not_wait_for_the_turn_of_another_clients_batch_work(watched):
    """Both ask for the same text, which is then computed twice."""

    async def scenario():
        engine = engine_of(watched, max_waiting_tokens=10**6)
        blocking = await block(engine, watched)
        later = asyncio.create_task(engine.score(TWO, client=Client("shop", is_batch=True)))
        await asyncio.sleep(0.01)
        now = asyncio.create_task(engine.score(TWO, client=Client("shop")))
        await asyncio.sleep(0.01)
        watched.gate.set()
        await asyncio.gather(blocking, later, now)
        return sources(engine)["computed"]

    assert asyncio.run(scenario()) == 2 + 4 + 4


def test_dropped_texts_are_not_tokenized(watched):
    tokenize, gate, seen = watched.encoder.tokenize, threading.Event(), []

    def slow(texts, sides):
        assert gate.wait(10)
        seen.extend(texts)
        return tokenize(texts, sides)

    watched.encoder.tokenize = slow
    texts = [f"cold water {i} " * 20 for i in range(1000)]

    async def scenario():
        engine = engine_of(watched, max_waiting_tokens=10**6)
        gone = asyncio.create_task(engine.score(list(zip(texts[::2], texts[1::2], strict=True))))
        await until(lambda: engine.queue.num_tokens)
        gone.cancel()
        await until(lambda: engine.queue.num_tokens == 0)
        gate.set()
        return await engine.score([("cold " * 500, "water " * 500)])

    asyncio.run(scenario())
    assert len(seen) < 300


def test_long_call_of_short_texts_is_tokenized_in_threads(watched):
    tokenize, threads = watched.encoder.tokenize, set()

    def noting(texts, sides):
        threads.add(threading.current_thread().name)
        return tokenize(texts, sides)

    watched.encoder.tokenize = noting
    asyncio.run(engine_of(watched).score([(f"a {i}", f"no {i}") for i in range(1000)]))
    assert "MainThread" not in threads


def test_call_beyond_the_budget_is_refused_until_others_are_answered(watched):
    async def scenario():
        engine = engine_of(watched, max_waiting_tokens=tokens_of(watched, FIRST + THREE))
        blocking = await block(engine, watched)
        waiting = asyncio.create_task(engine.score(TWO))
        await until(lambda: engine.queue.num_tokens == tokens_of(watched, TWO))
        with pytest.raises(OverloadedError, match="tokens are waiting already") as refused:
            await engine.score([*OTHER, ("cold return", "the cold water")])
        assert int(refused.value.headers["retry-after"]) >= 1
        watched.gate.set()
        await asyncio.gather(blocking, waiting)
        await engine.score([*OTHER, ("cold return", "the cold water")])

    asyncio.run(scenario())


def test_idle_engine_takes_a_call_beyond_the_budget(watched):
    assert len(asyncio.run(engine_of(watched, max_waiting_tokens=1).score(THREE)).score_P) == 3


def test_call_past_its_deadline_is_dropped_and_never_computed(watched):
    async def scenario():
        engine = engine_of(watched, deadline_s=0.05)
        blocking = await block(engine, watched)
        with pytest.raises(DeadlineError, match=r"0\.05 s"):
            await engine.score(TWO)
        with pytest.raises(DeadlineError):
            await blocking
        assert engine.queue.num_tokens == 0
        watched.gate.set()
        await engine.close(10)

    asyncio.run(scenario())
    assert watched.sizes == [2]


@pytest.mark.parametrize("step", ["tokenize", "embed_batch"])
def test_text_that_breaks_the_model_fails_only_its_own_calls(watched, step):
    encoder, poison = watched.encoder, "The poison"
    ids = encoder.tokenize([poison])[0].ids.tolist()
    whole = getattr(encoder, step)

    def fragile(batch, *sides):
        if any(text == poison if isinstance(text, str) else text.tolist() == ids for text in batch):
            raise RuntimeError("the graph broke")
        return whole(batch, *sides)

    async def scenario():
        engine = engine_of(watched)
        blocking = await block(engine, watched)
        setattr(encoder, step, fragile)
        waiting = [asyncio.create_task(engine.score(pairs)) for pairs in (TWO, [(poison, "a")], OTHER)]
        await asyncio.sleep(0.01)
        watched.gate.set()
        answers = await asyncio.gather(blocking, *waiting, return_exceptions=True)
        with pytest.raises(RuntimeError):
            await engine.score([(poison, "a")])
        return engine, answers

    engine, (_, two, broken, other) = asyncio.run(scenario())
    assert (len(two.score_P), len(other.score_P)) == (2, 1)
    assert isinstance(broken, RuntimeError)
    assert engine.queue.num_tokens == 0


def test_embedding_that_is_not_finite_fails_only_its_own_calls(watched):
    whole, ids = watched.encoder.embed_batch, watched.encoder.tokenize(["no"])[0].ids.tolist()

    def overflowing(batch):
        embedding_BD = whole(batch)
        embedding_BD[[text.tolist() == ids for text in batch]] = np.nan
        return embedding_BD

    watched.encoder.embed_batch = overflowing

    async def scenario():
        engine = engine_of(watched, cache_bytes=2**20)
        calls = [engine.score(pairs) for pairs in (FIRST, [("no", "bars")], [("bars", "water")])]
        return await asyncio.gather(*calls, return_exceptions=True)

    good, bad, shared = asyncio.run(scenario())
    assert np.isfinite([*good.score_P, *shared.score_P]).all()
    assert isinstance(bad, NotFiniteError)


def test_short_call_does_not_wait_for_the_end_of_a_long_one(watched):
    words = [word for word in WORDS if not word.startswith("[")]
    draw = np.random.default_rng(0)
    texts = [" ".join(draw.choice(words, size=39)) for _ in range(400)]
    many = list(zip(texts[::2], texts[1::2], strict=True))

    async def scenario():
        engine = engine_of(watched, max_waiting_tokens=100_000)
        blocking = await block(engine, watched)
        long = asyncio.create_task(engine.score(many))
        await until(lambda: engine.queue.num_tokens == tokens_of(watched, many))
        short = asyncio.create_task(engine.score(OTHER))
        await until(lambda: engine.queue.num_tokens == tokens_of(watched, many + OTHER))
        watched.gate.set()
        await asyncio.gather(blocking, long, short)

    asyncio.run(scenario())
    cold = tuple(watched.encoder.tokenize(["cold"])[0].ids.tolist())
    assert [cold in batch for batch in watched.batches].index(True) <= 2
    assert len(watched.batches) > 5


def test_embeddings_give_the_scores_of_an_ensemble_of_encoders(bundle, scorer):
    encoder = scorer.members[0]
    pairs = [(a, b) for a, b in GOLDEN_PAIRS]
    alone = Scorer(bundle, scorer.runtime)
    alone.members = (encoder,)
    alone.combine = lambda scores: scores[encoder.name]
    alone.join = lambda embeddings: embeddings[0]

    async def scenario():
        engine = engine_of(alone)
        return await engine.embed([text for pair in pairs for text in pair]), await engine.score(pairs)

    (embedding_ND, num_tokens, num_unknown), scored = asyncio.run(scenario())
    cosine_P = (embedding_ND[::2] * embedding_ND[1::2]).sum(axis=1)
    np.testing.assert_allclose(cosine_P, scored.score_P, rtol=0, atol=1e-6)
    assert (num_tokens, num_unknown) == (scored.num_tokens, scored.num_unknown)


def test_closing_engine_answers_waiting_calls_and_refuses_new_ones(watched):
    async def scenario():
        engine = engine_of(watched)
        blocking = await block(engine, watched)
        waiting = asyncio.create_task(engine.score(TWO))
        await until(lambda: engine.queue.num_tokens)
        closing = asyncio.create_task(engine.close(10))
        await asyncio.sleep(0)
        with pytest.raises(NotReadyError):
            await engine.score(OTHER)
        watched.gate.set()
        await closing
        assert blocking.done()
        assert len((await waiting).score_P) == 2
        await engine.close(10)
        with pytest.raises(NotReadyError):
            await engine.score(OTHER)

    asyncio.run(scenario())


def test_engine_that_cannot_drain_in_time_refuses_the_remaining_calls(watched):
    async def scenario():
        engine = engine_of(watched)
        blocking = await block(engine, watched)
        waiting = asyncio.create_task(engine.score(TWO))
        await until(lambda: engine.queue.num_tokens)
        await engine.close(0.01)
        answers = await asyncio.gather(blocking, waiting, return_exceptions=True)
        watched.gate.set()
        return answers

    assert [type(answer) for answer in asyncio.run(scenario())] == [NotReadyError, NotReadyError]
    assert watched.sizes == [2]


def test_calls_that_wait_for_the_same_texts_are_limited(watched, monkeypatch):
    monkeypatch.setattr("serving.engine._MAX_WAITS", 7)

    async def scenario():
        engine = engine_of(watched)
        blocking = await block(engine, watched)
        waiting = asyncio.create_task(engine.score(TWO))
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError, match="6 texts are waited for already"):
            await engine.score(TWO)
        watched.gate.set()
        await asyncio.gather(blocking, waiting)
        assert len((await engine.score(TWO * 5)).score_P) == 10

    asyncio.run(scenario())


def test_calls_that_end_together_are_answered_in_turns(watched, monkeypatch):
    # However slow the machine, no call is refused.
    monkeypatch.setattr("serving.engine._MAX_WAITING_S", 1000)
    pairs = [(f"water {i}", f"cold {i}") for i in range(500)]
    ends, iterations = [], 0

    async def count():
        nonlocal iterations
        while True:
            iterations += 1
            await asyncio.sleep(0)

    async def ask(engine):
        await engine.score(pairs)
        ends.append(iterations)

    async def scenario():
        engine = engine_of(watched, max_waiting_tokens=100_000)
        counting = asyncio.create_task(count())
        await asyncio.gather(*(ask(engine) for _ in range(20)))
        counting.cancel()

    asyncio.run(scenario())
    # Two get their turn in an iteration; on a busy machine, some of the one before resume with them.
    assert max(ends.count(end) for end in ends) <= 4
