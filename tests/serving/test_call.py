"""The embeddings of a call while it waits."""

import asyncio

import numpy as np

from serving.cache import Embedding
from serving.call import Call
from simile.scoring import DistinctTexts


def test_calls_for_the_same_text_share_its_embedding():
    async def scenario():
        embedding = Embedding(np.arange(4, dtype=np.float32), 3, False, 0)
        calls = [Call(DistinctTexts(["a"], [0], np.empty((0, 2), dtype=np.int64)), 1) for _ in range(2)]
        for call in calls:
            call.fill(0, 0, embedding)
            assert np.shares_memory(call._vectors[0][0], embedding.vector_D)
            np.testing.assert_array_equal(call.embeddings()[0], [[0, 1, 2, 3]])

    asyncio.run(scenario())
