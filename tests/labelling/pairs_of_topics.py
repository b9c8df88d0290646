"""Pairs of short texts on topics, with embeddings of which those of one topic are near, for tests of the audit."""

import numpy as np

from labelling.evidence import Evidence, normalized

NUM_TOPICS, TEXTS_PER_TOPIC, DIMENSION = 6, 12, 16


def embeddings(rng, *, noise=1.0):
    """Returns the topic and the embedding of each text: the topic's centre and noise of about its length."""
    topic_N = np.repeat(np.arange(NUM_TOPICS), TEXTS_PER_TOPIC)
    centre_GD = normalized(rng.normal(size=(NUM_TOPICS, DIMENSION)))
    noise_ND = noise * normalized(rng.normal(size=(len(topic_N), DIMENSION)))
    return topic_N, normalized(centre_GD[topic_N] + noise_ND)


def labelled(num_pairs=400, seed=0):
    """Returns evidence without groups, pairs of which half are positive, and their labels."""
    rng = np.random.default_rng(seed)
    topic_N, embedding_ND = embeddings(rng)
    a, b = np.triu_indices(len(topic_N), 1)
    is_same = topic_N[a] == topic_N[b]
    chosen = np.concatenate(
        [rng.choice(np.flatnonzero(mask), num_pairs // 2, replace=False) for mask in (is_same, ~is_same)]
    )
    texts = tuple(f"text {number} of many" for number in range(len(topic_N)))
    pair_P2 = np.column_stack([a[chosen], b[chosen]])
    return Evidence(texts, embedding_ND), pair_P2, is_same[chosen].astype(np.int64)
