import asyncio
import threading

import numpy as np
import pytest

from serving.errors import DeadlineError, InvalidRequestError, OverloadedError
from simile.artifacts import Combine
from simile.scoring import Lexical, Scorer
from tests.live_servers import until
from tests.serving.engines import FIRST, OTHER, THREE, TWO, block, engine_of, tokens_of


def test_lexical_member_has_no_embeddings(scorer):
    assert any(isinstance(member, Lexical) for member in scorer.members)
    with pytest.raises(InvalidRequestError, match="lexical"):
        asyncio.run(engine_of(scorer).embed(["no bars"]))


@pytest.fixture
def words_alone(bundle, scorer) -> Scorer:
    words = scorer.members[1]
    manifest = bundle.manifest.model_copy(update={"combine": Combine(weights={words.name: 1.0})})
    alone = Scorer(type(bundle)(bundle.path, manifest, bundle.data), scorer.runtime)
    alone.members = (words,)
    return alone


def test_bundle_without_an_encoder_is_served(words_alone, scorer):
    scored = asyncio.run(engine_of(words_alone).score(FIRST))
    expected_P = scorer.score_members(FIRST).members[words_alone.members[0].name]
    np.testing.assert_allclose(scored.score_P, expected_P, rtol=0, atol=1e-6)


@pytest.fixture
def in_thread(monkeypatch):
    """Have the lexical thread count even few words."""
    monkeypatch.setattr("serving.lexical.MAX_INLINE_CHARACTERS", 0)


@pytest.fixture
def counting(words_alone, monkeypatch, in_thread):
    """Two events: the first is set when counting words has begun, the second lets it finish."""
    started, gate, words = threading.Event(), threading.Event(), words_alone.members[0]
    cosines = words.cosines

    def slow(texts, pair_P2):
        started.set()
        assert gate.wait(10)
        return cosines(texts, pair_P2)

    monkeypatch.setattr(words, "cosines", slow)
    return started, gate


def test_budget_also_applies_to_a_bundle_without_an_encoder(words_alone, counting):
    started, gate = counting

    async def scenario():
        engine = engine_of(words_alone, max_waiting_tokens=30)
        begun = asyncio.create_task(engine.score(FIRST))
        await until(started.is_set)
        assert engine.queue.num_tokens == 0
        waiting = asyncio.create_task(engine.score(TWO))
        await until(lambda: engine.queue.num_tokens > 0)
        with pytest.raises(OverloadedError, match="tokens are waiting already"):
            await engine.score(THREE)
        gate.set()
        await asyncio.gather(begun, waiting)
        assert engine.queue.num_tokens == 0
        await engine.score(THREE)

    asyncio.run(scenario())


def test_closing_engine_answers_a_call_whose_words_are_being_counted(words_alone, scorer, counting):
    started, gate = counting

    async def scenario():
        engine = engine_of(scorer)
        begun = asyncio.create_task(engine.score(FIRST))
        await until(started.is_set)
        closing = asyncio.create_task(engine.close(10))
        await asyncio.sleep(0)
        gate.set()
        await closing
        return await begun

    assert len(asyncio.run(scenario()).score_P) == len(FIRST)


def test_words_are_counted_while_the_encoder_computes(watched, monkeypatch):
    words = watched.members[1]
    cosines, counted = words.cosines, []

    def counting(texts, pair_P2):
        counted.append(len(texts))
        return cosines(texts, pair_P2)

    monkeypatch.setattr(words, "cosines", counting)

    async def scenario():
        blocking = await block(engine_of(watched), watched)
        await until(lambda: counted)
        assert not blocking.done()
        watched.gate.set()
        return await blocking

    scored = asyncio.run(scenario())
    np.testing.assert_allclose(scored.score_P, watched.score(FIRST), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("pairs", "thread"),
    [(FIRST, "MainThread"), ([("cold " * 300, "water " * 300)], "lexical_0"), (FIRST * 100, "lexical_0")],
    ids=["short", "long texts", "many pairs"],
)
def test_words_of_a_short_call_are_counted_at_once_and_others_in_the_thread(scorer, monkeypatch, pairs, thread):
    words, threads = scorer.members[1], []
    cosines = words.cosines

    def noting(texts, pair_P2):
        threads.append(threading.current_thread().name)
        return cosines(texts, pair_P2)

    monkeypatch.setattr(words, "cosines", noting)
    scored = asyncio.run(engine_of(scorer).score(pairs))
    assert threads == [thread]
    np.testing.assert_allclose(scored.score_P, scorer.score(pairs), rtol=0, atol=1e-6)


def test_encoder_computes_while_words_are_counted(watched, words_alone, monkeypatch, in_thread):
    gate, words = threading.Event(), watched.members[1]
    cosines = words.cosines
    monkeypatch.setattr(words, "cosines", lambda texts, pair_P2: gate.wait(10) and cosines(texts, pair_P2))

    async def scenario():
        engine = engine_of(watched)
        call = asyncio.create_task(engine.score(FIRST))
        await until(lambda: engine.health.tokens_per_s)
        assert not call.done()
        gate.set()
        return await call

    assert len(asyncio.run(scenario()).score_P) == 1


@pytest.mark.parametrize("max_inline", [0, 2048], ids=["in the thread", "at once"])
def test_call_whose_lexical_scores_fail_drops_its_texts(watched, monkeypatch, max_inline):
    monkeypatch.setattr("serving.lexical.MAX_INLINE_CHARACTERS", max_inline)

    def broken(texts, pair_P2):
        if len(texts) > 2:
            raise RuntimeError("the words broke")
        return np.zeros(len(pair_P2), dtype=np.float32)

    monkeypatch.setattr(watched.members[1], "cosines", broken)

    async def scenario():
        engine = engine_of(watched)
        blocking = await block(engine, watched)
        with pytest.raises(RuntimeError, match="the words broke"):
            await engine.score(THREE)
        assert engine.queue.num_tokens == 0
        watched.gate.set()
        await blocking
        await engine.close(10)

    asyncio.run(scenario())
    assert watched.sizes == [2]


@pytest.mark.parametrize("ending", ["failure", "deadline", "cancelled"])
def test_call_that_ends_early_drops_its_lexical_work(watched, monkeypatch, in_thread, ending):
    started, gate, counted = threading.Event(), threading.Event(), []

    def slow(texts, pair_P2):
        counted.append(len(texts))
        started.set()
        assert gate.wait(10)
        return np.zeros(len(pair_P2), dtype=np.float32)

    def broken(texts, sides):
        raise RuntimeError("the tokens broke")

    monkeypatch.setattr(watched.members[1], "cosines", slow)

    async def scenario():
        engine = engine_of(watched, deadline_s=0.2 if ending == "deadline" else 10)
        first = asyncio.create_task(engine.score(FIRST))
        await until(started.is_set)
        if ending == "failure":
            monkeypatch.setattr(watched.encoder, "tokenize", broken)
        call = asyncio.create_task(engine.score(TWO))
        await asyncio.sleep(0.01)
        if ending == "cancelled":
            call.cancel()
        error = {"failure": RuntimeError, "deadline": DeadlineError, "cancelled": asyncio.CancelledError}[ending]
        with pytest.raises(error):
            await call
        assert engine.queue.num_tokens == 0
        gate.set()
        await asyncio.wait([first])
        first.exception()
        await engine.close(10)
        engine._lexical.threads.shutdown(wait=True)

    asyncio.run(scenario())
    assert counted == [2]


def test_idle_engine_takes_a_call_whose_words_and_texts_are_beyond_the_budget(scorer, in_thread):
    assert len(asyncio.run(engine_of(scorer, max_waiting_tokens=1).score(THREE)).score_P) == 3


def test_call_is_refused_as_a_whole_if_its_texts_fit_the_budget_and_its_words_do_not(watched, in_thread):
    async def scenario():
        num_waiting = tokens_of(watched, TWO)
        engine = engine_of(watched)
        blocking = await block(engine, watched)
        waiting = asyncio.create_task(engine.score(TWO))
        await until(lambda: engine.queue.num_tokens == num_waiting)
        # The texts of the other call have 5 tokens by estimate, and its words as many.
        engine._max_waiting_tokens = engine.queue.held_tokens + 7
        with pytest.raises(OverloadedError):
            await engine.score(OTHER)
        assert engine.queue.num_tokens == num_waiting
        watched.gate.set()
        await asyncio.gather(blocking, waiting)

    asyncio.run(scenario())
