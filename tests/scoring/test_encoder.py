import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from simile.artifacts import Bundle, Combine
from simile.errors import BundleError, InputError
from simile.scoring import GOLDEN_PAIRS, Encoder, Runtime, Scorer, choose_runtime
from tests.tiny_ensembles import graph, table

CPU = Runtime("CPUExecutionProvider", "fp32")
VOCABULARY = sorted({word for pair in GOLDEN_PAIRS for text in pair for word in text.split()})


def random_pairs(num: int) -> list[tuple[str, str]]:
    """Return pairs of texts from one word to more than the encoder's maximum length."""
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(VOCABULARY, size=int(rng.integers(1, 60)))) for _ in range(2 * num)]
    return list(zip(texts[:num], texts[num:], strict=True))


def small(scorer, pairs):
    return scorer.score_members(pairs).members["small"]


def test_cosines_are_those_that_numpy_computes(scorer, expected_cosine):
    pairs = [*GOLDEN_PAIRS, *random_pairs(50), ("never seen", "The water"), ("same", "same")]
    np.testing.assert_allclose(small(scorer, pairs), [expected_cosine(a, b) for a, b in pairs], rtol=0, atol=1e-6)


def test_cosines_are_the_same_on_the_provider_that_auto_picks_in_fp32(bundle, expected_cosine):
    chosen = Scorer(bundle, choose_runtime(precision="fp32"))
    expected = [expected_cosine(a, b) for a, b in GOLDEN_PAIRS]
    np.testing.assert_allclose(small(chosen, GOLDEN_PAIRS), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("runtime", [CPU, choose_runtime("cpu", "fp32")], ids=str)
def test_score_does_not_depend_on_its_neighbours_or_their_order(bundle, runtime):
    scorer, pairs = Scorer(bundle, runtime), random_pairs(150)
    together = scorer.score(pairs)
    alone = [scorer.score([pair])[0] for pair in pairs[:20]]
    order = np.random.default_rng(1).permutation(len(pairs))
    shuffled = scorer.score([pairs[i] for i in order])
    np.testing.assert_allclose(alone, together[:20], rtol=0, atol=1e-6)
    np.testing.assert_allclose(shuffled, together[order], rtol=0, atol=1e-6)


def test_score_is_the_same_both_ways_round(scorer):
    pairs = random_pairs(20)
    np.testing.assert_allclose(scorer.score(pairs), scorer.score([(b, a) for a, b in pairs]), rtol=0, atol=1e-6)


def test_score_is_the_weighted_mean_of_the_members(scorer):
    scored = scorer.score_members(GOLDEN_PAIRS)
    assert list(scored.members) == ["small", "words"]
    expected = 0.75 * scored.members["small"] + 0.25 * scored.members["words"]
    np.testing.assert_allclose(scored.score_P, expected, rtol=0, atol=1e-6)
    assert scored.score_P.dtype == np.float32


def test_no_pairs_have_no_scores(scorer):
    scored = scorer.score_members([])
    assert (scored.score_P.shape, scored.num_texts, scored.num_tokens, scored.num_cut) == ((0,), 0, 0, 0)


def test_texts_are_counted_once_and_tokens_with_the_special_ones(scorer):
    scored = scorer.score_members([("one two three", "one"), ("one", "one two three"), ("four", "one")])
    assert scored.num_texts == 3
    assert scored.num_tokens == (1 + 3) + (1 + 1) + (1 + 1)
    assert scored.num_cut == 0


LETTERS = {letter: i for i, letter in enumerate("cold", 1)}


@pytest.mark.parametrize(
    ("model", "pre_tokenizer", "expected"),
    [
        (models.WordLevel({"?": 0, "cold": 1}, unk_token="?"), pre_tokenizers.WhitespaceSplit(), 1),
        (models.WordPiece({"?": 0, "cold": 1}, unk_token="?"), pre_tokenizers.WhitespaceSplit(), 1),
        (models.BPE({"?": 0, **LETTERS}, [], unk_token="?"), pre_tokenizers.WhitespaceSplit(), 1),
        (models.Unigram([("?", 0.0), ("cold", -1.0)], unk_id=0), pre_tokenizers.WhitespaceSplit(), 1),
        (models.BPE(LETTERS, []), pre_tokenizers.WhitespaceSplit(), 0),
        (
            models.BPE({byte: i for i, byte in enumerate(pre_tokenizers.ByteLevel.alphabet())}, []),
            pre_tokenizers.ByteLevel(),
            0,
        ),
    ],
    ids=["WordLevel", "WordPiece", "BPE", "Unigram", "BPE without", "bytes"],
)
def test_unknown_tokens_are_those_of_the_tokenizers_model(ensemble, model, pre_tokenizer, expected):
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizer
    content = {"members/small/tokenizer.json": tokenizer.to_str().encode()}
    bundle = ensemble.write(replace=content, with_golden=False)
    encoder = Encoder(bundle, bundle.manifest.members[0], CPU)
    assert [text.num_unknown for text in encoder.tokenize(["cold \U0001f600 cold", "cold"])] == [expected, 0]


def test_unknown_tokens_are_counted_once_per_text_and_their_share_leaves_special_tokens_out(scorer):
    pairs = [("cold \U0001f600", "cold \U0001f62d"), ("cold \U0001f600", "no signal")]
    assert scorer.score_members(pairs).num_unknown == 2
    # Each of the three texts has two tokens, and [CLS].
    assert scorer.unknown_shares(pairs) == {"random": 2 / 6}


def test_each_different_text_is_computed_once(bundle):
    class Watched(Encoder):
        def tokenize(self, texts, sides=None):
            seen.extend(texts)
            return super().tokenize(texts, sides)

    seen: list[str] = []
    scorer = Scorer(bundle, CPU)
    scorer.members = (Watched(bundle, bundle.manifest.members[0], CPU), scorer.members[1])
    pairs = [("b", "a"), ("a", "b"), ("a", "a"), ("c", "a")] * 40
    scorer.score(pairs)
    assert seen == ["b", "a", "c"]


def test_progress_counts_each_distinct_text_once_per_member(scorer):
    done: list[int] = []
    scored = scorer.score_members(random_pairs(100) * 2, done.append)
    assert len(done) > 2
    assert sum(done) == scored.num_texts * len(scorer.members)


def test_long_text_is_cut_and_counted_once(scorer):
    # 39 words and [CLS] make 40 tokens.
    fits, long = " ".join(["The"] * 20 + ["water"] * 19), " ".join(["The"] * 20 + ["water"] * 19 + ["was"] * 5)
    scored = scorer.score_members([(fits, "cold."), (long, "cold."), (long, fits)])
    assert scored.num_cut == 1
    assert scored.num_tokens == 40 + 2 + 40
    assert scored.members["small"][0] == pytest.approx(scored.members["small"][1], abs=1e-6)


def test_text_cut_before_tokenizing_is_counted_too(scorer):
    # Characters beyond 64 for each of the 40 tokens are ignored.
    far = "The" + " " * 40 * 64 + "water"
    scored = scorer.score_members([(far, "The")])
    assert scored.num_cut == 1
    assert scored.members["small"][0] == pytest.approx(1, abs=1e-6)


def test_prompt_is_put_before_every_text(ensemble, scorer):
    prompted = Scorer(ensemble.write("prompted", prompt="My card "), CPU)
    expected = small(scorer, [(f"My card {a}", f"My card {b}") for a, b in GOLDEN_PAIRS])
    np.testing.assert_allclose(small(prompted, GOLDEN_PAIRS), expected, rtol=0, atol=1e-6)
    assert np.abs(small(prompted, GOLDEN_PAIRS) - small(scorer, GOLDEN_PAIRS)).max() > 0.01


def test_each_side_of_a_pair_has_its_own_prompt(ensemble, scorer):
    sided = Scorer(ensemble.write("sided", sides=("My card ", "The ")), CPU)
    assert sided.has_sides
    # The same text on both sides, and in other pairs.
    pairs = [*GOLDEN_PAIRS, *((b, a) for a, b in GOLDEN_PAIRS), *((a, a) for a, _ in GOLDEN_PAIRS)]
    expected = small(scorer, [(f"My card {a}", f"The {b}") for a, b in pairs])
    np.testing.assert_allclose(small(sided, pairs), expected, rtol=0, atol=1e-6)
    assert sided.score_members([("The", "The"), ("water", "The")]).num_texts == 3


def test_embeddings_of_two_sides_need_the_side(ensemble):
    bundle = ensemble.write("sided", sides=("My card ", "The "))
    update = {"members": bundle.manifest.members[:1], "combine": Combine(weights={"small": 1.0})}
    sided = Scorer(Bundle(bundle.path, bundle.manifest.model_copy(update=update), bundle.data), CPU)
    first, second = (sided.embed(["water"], side=side)[0] for side in (0, 1))
    assert float(first @ second) == pytest.approx(float(sided.score([("water", "water")])[0]), abs=1e-6)
    with pytest.raises(InputError, match="its two sides have different prompts, need side=0 or side=1"):
        sided.embed(["water"])


def test_prompt_counts_towards_the_length_and_is_never_cut(ensemble):
    prompted = Scorer(ensemble.write("prompted", prompt="My card "), CPU)
    scored = prompted.score_members([(" ".join(["The"] * 37), " ".join(["The"] * 38))])
    assert scored.num_cut == 1
    assert scored.num_tokens == 2 * 40


def test_fp16_runs_its_own_graph(ensemble):
    bundle = ensemble.write(replace={"members/small/model.fp16.onnx": graph(table(seed=1))})
    encoder = bundle.manifest.members[0]
    swapped = encoder.model_copy(update={"model": encoder.model_fp16, "model_fp16": None})
    of_fp16 = Encoder(bundle, encoder, Runtime("CPUExecutionProvider", "fp16"))
    expected = Encoder(bundle, swapped, CPU)
    plain = Encoder(bundle, encoder, CPU)
    tokens = plain.tokenize(["The water was cold."])
    np.testing.assert_array_equal(of_fp16.embed_tokens(tokens), expected.embed_tokens(tokens))
    assert np.abs(of_fp16.embed_tokens(tokens) - plain.embed_tokens(tokens)).max() > 0.01


def test_fp16_without_a_graph_of_its_own_runs_the_other(bundle):
    encoder = bundle.manifest.members[0].model_copy(update={"model_fp16": None})
    of_fp16 = Encoder(bundle, encoder, Runtime("CPUExecutionProvider", "fp16"))
    plain = Encoder(bundle, encoder, CPU)
    tokens = plain.tokenize(["The water was cold."])
    np.testing.assert_array_equal(of_fp16.embed_tokens(tokens), plain.embed_tokens(tokens))


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b"not a tokenizer"])
def test_invalid_tokenizer_is_refused(ensemble, content):
    bundle = ensemble.write(replace={"members/small/tokenizer.json": content}, with_golden=False)
    with pytest.raises(BundleError, match=r"tokenizer\.json is not a tokenizer"):
        Scorer(bundle, CPU)


@pytest.mark.parametrize("runtime", [CPU, choose_runtime("cpu", "fp32")], ids=str)
def test_invalid_graph_is_refused(ensemble, runtime):
    bundle = ensemble.write(replace={"members/small/model.onnx": b"not a graph"}, with_golden=False)
    with pytest.raises(InputError, match="the graph is no ONNX file"):
        Scorer(bundle, runtime)


def test_provider_that_is_not_there_is_refused_and_not_replaced(bundle):
    with pytest.raises(InputError, match="Tensorrt"):
        Scorer(bundle, Runtime("TensorrtExecutionProvider", "fp32"))


def test_bundle_in_memory_needs_no_file(bundle, scorer):
    elsewhere = Bundle(bundle.path / "nowhere", bundle.manifest, bundle.data)
    np.testing.assert_array_equal(Scorer(elsewhere, CPU).score(GOLDEN_PAIRS), scorer.score(GOLDEN_PAIRS))
