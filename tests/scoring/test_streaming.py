import numpy as np
import pytest

from simile.scoring import Scorer
from simile.scoring.streaming import StreamScorer
from tests.tiny_ensembles import CPU, WORDS, Ensemble


def text(number: int) -> str:
    return f"{WORDS[3 + number % 20]} {WORDS[3 + number // 20 % 20]}"


def test_stream_scorer_computes_a_text_again_only_once_its_memory_is_full(scorer):
    pairs = [(text(i), text(i + 1)) for i in range(40)]
    roomy, tight = StreamScorer(scorer), StreamScorer(scorer, max_bytes=4 * scorer.dimension * 10)
    blocks = [pairs[i : i + 8] for i in range(0, 40, 8)] * 2
    for stream in (roomy, tight):
        scores = np.concatenate([stream.score(block) for block in blocks])
        np.testing.assert_allclose(scores, np.tile(scorer.score(pairs), 2), atol=1e-6)
    assert roomy.num_texts == 41
    assert 41 < tight.num_texts <= 82


def test_text_on_both_sides_is_two_texts_where_prompts_differ(tmp_path):
    scorer = Scorer(Ensemble(tmp_path).write(sides=("the ", "my ")), CPU)
    pairs = [(text(1), text(1)), (text(2), text(1))]
    stream = StreamScorer(scorer)
    np.testing.assert_allclose(stream.score(pairs), scorer.score(pairs), atol=1e-6)
    assert stream.num_texts == 3


@pytest.mark.parametrize("side", [0, 1])
def test_stream_embeds_as_the_scorer_does(tiny, side):
    scorer = Scorer(tiny, CPU)
    texts = [text(i % 30) for i in range(50)]
    stream = StreamScorer(scorer)
    given = np.concatenate([stream.embed(texts[:20], side), stream.embed(texts[20:], side)])
    np.testing.assert_allclose(given, scorer.embed(texts, side=side), atol=1e-6)
    assert stream.num_texts == 30
