import numpy as np
import pytest

from serving.merging import score_merged
from serving.metrics import Metrics
from simile.scoring import GOLDEN_PAIRS, Scorer

REQUESTS = [
    [GOLDEN_PAIRS[0], GOLDEN_PAIRS[1]],
    [GOLDEN_PAIRS[1]],
    [GOLDEN_PAIRS[7], (GOLDEN_PAIRS[0][0], GOLDEN_PAIRS[0][0])],
]


@pytest.mark.parametrize("alone", REQUESTS)
def test_merged_request_gets_what_the_scorer_gives_it_alone(scorer, alone):
    merged = score_merged(scorer, REQUESTS, Metrics())[REQUESTS.index(alone)]
    expected = scorer.score_members(alone)
    np.testing.assert_allclose(merged.score_P, expected.score_P, rtol=0, atol=1e-6)
    for name, score_P in expected.members.items():
        np.testing.assert_allclose(merged.members[name], score_P, rtol=0, atol=1e-6)
    assert (merged.num_texts, merged.num_tokens, merged.num_cut) == (
        expected.num_texts,
        expected.num_tokens,
        expected.num_cut,
    )


def test_text_that_requests_share_is_computed_once(bundle, scorer):
    class Recorder:
        name = "small"

        def tokenize(self, texts):
            seen.extend(texts)
            return scorer.members[0].tokenize(texts)

        def embed_tokens(self, tokens):
            return scorer.members[0].embed_tokens(tokens)

    seen: list[str] = []
    recording = Scorer(bundle, scorer.runtime)
    recording.members = (Recorder(), scorer.members[1])
    score_merged(recording, REQUESTS, Metrics())
    assert sorted(seen) == sorted({text for request in REQUESTS for pair in request for text in pair})
