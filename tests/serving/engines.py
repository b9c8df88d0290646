"""Engines for tests, with few tokens and no cache unless the test says otherwise."""

import asyncio

from serving.drift import Drift
from serving.engine import Engine
from serving.metrics import Metrics
from serving.settings import Settings
from tests.live_servers import until

FIRST = [("The water was cold.", "A cold drink of water.")]
TWO = [("no signal", "no bars"), ("a return", "the shoes")]
THREE = [*TWO, ("water", "no")]
OTHER = [("cold", "a")]


def engine_of(scorer, *, max_waiting_tokens=1000, deadline_s=10.0, cache_bytes=0) -> Engine:
    settings = Settings(max_waiting_tokens=max_waiting_tokens, deadline_s=deadline_s, cache_bytes=cache_bytes)
    return Engine(scorer, Metrics(), Drift(None, ""), settings)


async def block(engine, watched) -> "asyncio.Task":
    """Occupy the inference thread until the gate is set."""
    watched.gate.clear()
    blocking = asyncio.create_task(engine.score(FIRST))
    await until(lambda: len(watched.batches) == 1)
    return blocking


def tokens_of(watched, pairs) -> int:
    texts = list({text for pair in pairs for text in pair})
    return sum(len(tokens.ids) for tokens in watched.encoder.tokenize(texts))


def sources(engine) -> dict[str, float]:
    value = engine._metrics.registry.get_sample_value
    return {source: value("simile_texts_total", {"source": source}) for source in ("computed", "cached", "shared")}
