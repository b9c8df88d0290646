"""The score of a pair with real weights does not depend on what else is computed, before it or beside it."""

import asyncio

import numpy as np
import onnxruntime
import pytest

from simile.scoring import GOLDEN_PAIRS, Scorer, choose_runtime
from tests.serving.engines import engine_of

needs_bf16 = pytest.mark.skipif(
    "OpenVINOExecutionProvider" not in onnxruntime.get_available_providers(), reason="bf16 needs OpenVINO"
)


def pairs_of_unlike_length(num: int) -> list[tuple[str, str]]:
    words = sorted({word for pair in GOLDEN_PAIRS for text in pair for word in text.split()})
    draw = np.random.default_rng(0)
    texts = [" ".join(draw.choice(words, size=size)) for size in draw.choice([2, 5, 12, 40], size=2 * num)]
    return list(zip(texts[::2], texts[1::2], strict=True))


@pytest.mark.parametrize(
    ("precision", "most", "mean"), [("fp32", 1e-6, 1e-6), pytest.param("bf16", 2e-3, 2e-4, marks=needs_bf16)]
)
def test_score_depends_on_no_neighbour_no_order_no_cache_and_no_other_call(minilm, precision, most, mean):
    scorer = Scorer(minilm, choose_runtime("cpu", precision))
    pairs = pairs_of_unlike_length(40)
    alone_P = np.array([scorer.score([pair])[0] for pair in pairs])

    async def scenario():
        engine = engine_of(scorer, max_waiting_tokens=100_000, deadline_s=60.0, cache_bytes=1 << 20)
        order = np.random.default_rng(1).permutation(len(pairs))
        calls = [order[start : start + 7] for start in range(0, len(pairs), 7)]
        for _ in ("computed", "cached"):
            answers = await asyncio.gather(*(engine.score([pairs[i] for i in call]) for call in calls))
            score_P = np.empty(len(pairs))
            score_P[order] = np.concatenate([answer.score_P for answer in answers])
            yield score_P
        await engine.close(10)

    async def collect():
        return [score_P async for score_P in scenario()]

    computed_P, cached_P = asyncio.run(collect())
    np.testing.assert_array_equal(cached_P, computed_P)
    difference_P = np.abs(computed_P - alone_P)
    assert difference_P.max() <= most
    assert difference_P.mean() <= mean
