"""MPNet with the official weights of all-mpnet-base-v2, which five packages bring (`make mpnet`)."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from peft import PeftModel
from sentence_transformers import SentenceTransformer

from simile.hardware import bf16_pays, has_int8_products
from simile.scoring import Scorer, choose_runtime, load
from simile.scoring.metrics import spearman
from simile.scoring.provider import TOLERANCE
from training.torch_encoder import load_encoder

pytestmark = pytest.mark.mpnet
NUM_TEXTS = 60


@pytest.fixture(scope="module")
def bundle(bundle_made_once):
    return bundle_made_once("mpnet", "bundled:mpnet")


@pytest.fixture(scope="module")
def pairs(helpdesk):
    texts = [row.text for row in helpdesk[:NUM_TEXTS]]
    return list(pairwise(texts))


def by_torch(model, pairs):
    """Return the scores of sentence-transformers itself."""
    vectors_A, vectors_B = (model.encode(list(texts)) for texts in zip(*pairs, strict=True))
    return (vectors_A * vectors_B).sum(axis=1)


def test_bundled_mpnet_is_the_official_encoder():
    base = load_encoder("bundled:mpnet")
    assert (base.name, base.pooling) == ("sentence-transformers/all-mpnet-base-v2", "mean")
    assert (base.max_length, base.dimension) == (384, 768)


def test_published_figure_of_the_sts_benchmark_is_reproduced(bundle, stsb):
    score_P = load(bundle.path, device="cpu", precision="fp32").score(stsb.texts)
    assert spearman(score_P, stsb.target_P) == pytest.approx(0.8342, abs=5e-4)


@pytest.mark.parametrize("precision", TOLERANCE)
def test_bundle_scores_as_torch_does(bundle, pairs, precision):
    if (precision == "bf16" and not bf16_pays()) or (precision == "int8" and not has_int8_products()):
        pytest.skip(f"this processor has no {precision}")
    if precision == "fp16":
        # A CPU computes fp16 graphs as well, but the service does not offer it there.
        (member,) = bundle.manifest.members
        half = bundle.manifest.model_copy(update={"members": (member.model_copy(update={"model": member.model_fp16}),)})
        scorer = Scorer(replace(bundle, manifest=half), choose_runtime("cpu", "fp32"))
    else:
        scorer = load(bundle.path, device="cpu", precision=precision)
    expected_P = by_torch(load_encoder("bundled:mpnet").model, pairs)
    np.testing.assert_allclose(scorer.score(pairs), expected_P, rtol=0, atol=TOLERANCE[precision])


# peft reads a property that transformers has renamed.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_lora_weights_are_merged_into_the_bundle(trained, pairs):
    run = trained(base="bundled:mpnet", pairs="few", learning_rate=2e-4)
    score_P = load(run.out, device="cpu", precision="fp32").score(pairs)
    untouched = load_encoder("bundled:mpnet", max_length=32)
    assert np.abs(score_P - by_torch(untouched.model, pairs)).max() > 1e-3
    np.testing.assert_allclose(score_P, by_torch(SentenceTransformer(str(run.weights)), pairs), rtol=0, atol=1e-4)
    untouched.transformer.model = PeftModel.from_pretrained(untouched.transformer.model, str(run.work / "best"))
    np.testing.assert_allclose(score_P, by_torch(untouched.model, pairs), rtol=0, atol=1e-4)
