import asyncio

import numpy as np
import pytest

from serving.engine import Engine
from serving.errors import DeadlineError, NotFiniteError, NotReadyError, OverloadedError
from serving.metrics import Metrics
from simile.scoring import Scorer

ONE = [("The water was cold.", "A cold drink of water.")]
TWO = [*ONE, ("no signal", "no bars")]
THREE = [*TWO, ("a return", "the shoes")]


def engine_of(scorer, *, max_waiting_pairs=100, deadline_s=10.0) -> Engine:
    return Engine(scorer, Metrics(), max_waiting_pairs=max_waiting_pairs, deadline_s=deadline_s)


async def until(condition) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


async def block(engine, scorer) -> "asyncio.Task":
    """Occupy the inference thread until the scorer's gate is set."""
    scorer.gate.clear()
    blocking = asyncio.create_task(engine.score(ONE))
    await until(lambda: scorer.calls == [1])
    return blocking


def test_engine_scores_as_the_scorer_does(scorer):
    scored = asyncio.run(engine_of(scorer).score(THREE))
    np.testing.assert_allclose(scored.score_P, scorer.score(THREE), rtol=0, atol=1e-6)


def test_requests_that_wait_are_computed_in_one_call(watched):
    async def scenario():
        engine = engine_of(watched)
        blocking = await block(engine, watched)
        waiting = [asyncio.create_task(engine.score(pairs)) for pairs in (TWO, THREE, ONE)]
        await until(lambda: engine.num_waiting_pairs == 6)
        watched.gate.set()
        return [len((await task).score_P) for task in (blocking, *waiting)]

    assert asyncio.run(scenario()) == [1, 2, 3, 1]
    assert watched.calls == [1, 6]


def test_merged_call_ends_at_its_budget_but_a_large_request_stays_whole(watched):
    async def scenario():
        engine = engine_of(watched, max_waiting_pairs=1000)
        blocking = await block(engine, watched)
        waiting = [asyncio.create_task(engine.score(ONE * n)) for n in (200, 56, 1, 300)]
        await until(lambda: engine.num_waiting_pairs == 557)
        watched.gate.set()
        await asyncio.gather(blocking, *waiting)

    asyncio.run(scenario())
    assert watched.calls == [1, 256, 1, 300]


def test_cancelled_request_is_never_computed(watched):
    async def scenario():
        engine = engine_of(watched)
        blocking = await block(engine, watched)
        gone, stays = (asyncio.create_task(engine.score(pairs)) for pairs in (THREE, TWO))
        await until(lambda: engine.num_waiting_pairs == 5)
        gone.cancel()
        await until(lambda: engine.num_waiting_pairs == 2)
        watched.gate.set()
        await asyncio.gather(blocking, stays)

    asyncio.run(scenario())
    assert watched.calls == [1, 2]


def test_request_beyond_the_budget_is_refused_until_the_queue_moves(watched):
    async def scenario():
        engine = engine_of(watched, max_waiting_pairs=4)
        blocking = await block(engine, watched)
        waiting = asyncio.create_task(engine.score(TWO))
        await until(lambda: engine.num_waiting_pairs == 2)
        with pytest.raises(OverloadedError, match="2 pairs wait"):
            await engine.score(THREE)
        watched.gate.set()
        await asyncio.gather(blocking, waiting)
        await engine.score(THREE)

    asyncio.run(scenario())


def test_request_past_its_deadline_is_given_up_and_never_computed(watched):
    async def scenario():
        engine = engine_of(watched, deadline_s=0.05)
        blocking = await block(engine, watched)
        with pytest.raises(DeadlineError, match=r"0\.05 s"):
            await engine.score(TWO)
        with pytest.raises(DeadlineError):
            await blocking
        watched.gate.set()
        await engine.close(10)

    asyncio.run(scenario())
    assert watched.calls == [1]


def test_text_that_breaks_the_model_fails_its_own_request_only(watched):
    class Fragile:
        name = "small"
        embed_tokens = watched.members[0].embed_tokens

        def tokenize(self, texts):
            if "poison" in texts:
                raise RuntimeError("the graph broke")
            return small.tokenize(texts)

    small, words = watched.members

    async def scenario():
        engine = engine_of(watched)
        blocking = await block(engine, watched)
        watched.members = (Fragile(), words)
        waiting = [asyncio.create_task(engine.score(pairs)) for pairs in (TWO, [("poison", "a")], ONE)]
        await until(lambda: engine.num_waiting_pairs == 4)
        watched.gate.set()
        return await asyncio.gather(blocking, *waiting, return_exceptions=True)

    _, two, poison, one = asyncio.run(scenario())
    assert (len(two.score_P), len(one.score_P)) == (2, 1)
    assert isinstance(poison, RuntimeError)


def test_score_that_is_no_number_fails_its_own_request_only(bundle, scorer):
    class Overflowing(Scorer):
        def combine(self, scores):
            score_P = super().combine(scores)
            return np.where(scores["words"] == 0, np.nan, score_P).astype(np.float32)

    async def scenario():
        engine = engine_of(Overflowing(bundle, scorer.runtime))
        return await asyncio.gather(engine.score(ONE), engine.score([("no", "bars")]), return_exceptions=True)

    good, bad = asyncio.run(scenario())
    assert np.isfinite(good.score_P).all()
    assert isinstance(bad, NotFiniteError)


def test_closing_engine_answers_what_waits_and_refuses_what_comes(watched):
    async def scenario():
        engine = engine_of(watched)
        blocking = await block(engine, watched)
        waiting = asyncio.create_task(engine.score(TWO))
        await until(lambda: engine.num_waiting_pairs == 2)
        closing = asyncio.create_task(engine.close(10))
        await asyncio.sleep(0)
        with pytest.raises(NotReadyError):
            await engine.score(ONE)
        watched.gate.set()
        await closing
        assert blocking.done()
        assert len((await waiting).score_P) == 2
        await engine.close(10)

    asyncio.run(scenario())


def test_engine_that_cannot_drain_in_time_sends_the_rest_away(watched):
    async def scenario():
        engine = engine_of(watched)
        blocking = await block(engine, watched)
        waiting = asyncio.create_task(engine.score(TWO))
        await until(lambda: engine.num_waiting_pairs == 2)
        await engine.close(0.01)
        answers = await asyncio.gather(blocking, waiting, return_exceptions=True)
        watched.gate.set()
        return answers

    assert [type(answer) for answer in asyncio.run(scenario())] == [NotReadyError, NotReadyError]
    assert watched.calls == [1]
