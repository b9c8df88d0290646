import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from sentence_transformers import SentenceTransformer
from transformers import BertModel

from simile.errors import SimileError
from simile.scoring import GOLDEN_PAIRS, Encoder, Runtime, Scorer, choose_runtime
from simile.scoring.provider import open_session
from tests.tiny_bases import POOLING
from training.baseline import make_baseline
from training.export import export_member
from training.torch_encoder import load_encoder

UNPADDED = ("bert", "modernbert", "mpnet", "nomic_bert", "xlm_roberta")
ARCHITECTURES = (*UNPADDED, "gemma3", "qwen3")
TEXTS = [text for pair in GOLDEN_PAIRS for text in pair] + ["the card " * 200, "Wörter, die es nicht gibt", "?"]


class LengthIsBakedIn(BertModel):
    """A layer that uses the length as a Python number, which tracing turns into a constant."""

    def forward(self, *args, **keywords):
        output = super().forward(*args, **keywords)
        length = float(output.last_hidden_state.shape[1])
        output.last_hidden_state[:, :, 0] += length
        return output


class RmsNorm(torch.nn.Module):
    """The norm of Llama, Gemma and Qwen: ONNX Runtime fails to load it in fp16."""

    def __init__(self, norm: torch.nn.LayerNorm) -> None:
        super().__init__()
        self.weight = norm.weight

    def forward(self, x_BTD):
        return self.weight * (x_BTD * torch.rsqrt(x_BTD.pow(2).mean(-1, keepdim=True) + 1e-6))


@pytest.fixture
def rms_encoder(make_base):
    """A tiny encoder with RMS norms."""
    base = load_encoder(str(make_base("bert")))
    model = base.transformer.model
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, torch.nn.LayerNorm):
                setattr(module, name, RmsNorm(child))
    return base


@pytest.fixture(scope="module")
def exported(make_base):
    """An encoder with its member and files, exported once."""
    made = {}

    def export(architecture):
        if architecture not in made:
            base = load_encoder(str(make_base(architecture)))
            made[architecture] = (base, *export_member(base, name="encoder"))
        return made[architecture]

    return export


def batches(base, sizes=(1, 12, 40)):
    """Yield random ids and masks; in each batch the first text has full length, the others are padded."""
    rng = np.random.default_rng(1)
    pad_id, num_words = base.model.tokenizer.pad_token_id, len(base.model.tokenizer)
    for num_texts in sizes:
        for length in (1, 12, 40, 128, base.max_length):
            ids_BT = rng.integers(5, num_words, (num_texts, length))
            mask_BT = np.arange(length) < rng.integers(1, length + 1, (num_texts, 1))
            mask_BT[0] = True
            yield np.where(mask_BT, ids_BT, pad_id), mask_BT.astype(np.int64)


def by_torch(base, ids_BT, mask_BT):
    """Return the embeddings by sentence-transformers itself."""
    features = {"input_ids": torch.from_numpy(ids_BT), "attention_mask": torch.from_numpy(mask_BT)}
    with torch.no_grad():
        return base.model.eval()(features)["sentence_embedding"].numpy()


def computed(session, ids_BT, mask_BT):
    """Return the embeddings by the graph of a session."""
    return session.run(None, {"input_ids": ids_BT, "attention_mask": mask_BT})[0]


def embed(bundle, texts):
    encoder = Encoder(bundle, bundle.manifest.members[0], choose_runtime("cpu", "fp32"))
    return encoder.embed_tokens(encoder.tokenize(texts))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_graph_equals_torch_at_every_batch_size_and_length(exported, architecture):
    base, member, files = exported(architecture)
    session = open_session(files[member.model.path], choose_runtime("cpu", "fp32"))
    for ids_BT, mask_BT in batches(base):
        (embedding_BD,) = session.run(None, {"input_ids": ids_BT, "attention_mask": mask_BT})
        np.testing.assert_allclose(
            embedding_BD, by_torch(base, ids_BT, mask_BT), rtol=0, atol=1e-4, err_msg=ids_BT.shape
        )


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_embedding_does_not_depend_on_the_other_texts_of_its_batch(exported, architecture):
    base, member, files = exported(architecture)
    session = open_session(files[member.model.path], choose_runtime("cpu", "fp32"))
    for ids_BT, mask_BT in batches(base, sizes=(12,)):
        (together_BD,) = session.run(None, {"input_ids": ids_BT, "attention_mask": mask_BT})
        for row, length in enumerate(mask_BT.sum(1)):
            one = {"input_ids": ids_BT[row : row + 1, :length], "attention_mask": mask_BT[row : row + 1, :length]}
            np.testing.assert_allclose(session.run(None, one)[0][0], together_BD[row], rtol=0, atol=1e-6)


@pytest.mark.parametrize("architecture", UNPADDED)
def test_nothing_but_attention_is_computed_for_padding(exported, architecture, tmp_path):
    _, member, files = exported(architecture)
    options = onnxruntime.SessionOptions()
    options.enable_profiling, options.profile_file_prefix = True, str(tmp_path / "profile")
    session = onnxruntime.InferenceSession(files[member.model.path], options, providers=["CPUExecutionProvider"])
    mask_BT = np.zeros((4, 50), dtype=np.int64)
    mask_BT[:, :3], mask_BT[0] = 1, 1
    session.run(None, {"input_ids": np.full_like(mask_BT, 5), "attention_mask": mask_BT})
    events = json.loads(Path(session.end_profiling()).read_text())
    products = [event["args"] for event in events if event.get("args", {}).get("op_name") in ("MatMul", "Gemm")]
    rows = {next(iter(args["input_type_shape"][0].values()))[-2] for args in products}
    assert mask_BT.sum() in rows
    assert not rows & {50, mask_BT.size}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_fp16_graph_loads_on_the_cpu_and_is_near(exported, architecture):
    base, member, files = exported(architecture)
    session = onnxruntime.InferenceSession(files[member.model_fp16.path], providers=["CPUExecutionProvider"])
    for ids_BT, mask_BT in batches(base, sizes=(3,)):
        (embedding_BD,) = session.run(None, {"input_ids": ids_BT, "attention_mask": mask_BT})
        assert (embedding_BD.dtype, np.isfinite(embedding_BD).all()) == (np.float32, True)
        assert (embedding_BD * by_torch(base, ids_BT, mask_BT)).sum(axis=1).min() > 0.999, ids_BT.shape


def test_fp16_graph_of_rms_norms_loads_on_the_cpu_and_is_near(rms_encoder):
    _, files = export_member(rms_encoder, name="encoder")
    session = open_session(files["members/encoder/model.fp16.onnx"], choose_runtime("cpu", "fp32"))
    for ids_BT, mask_BT in batches(rms_encoder, sizes=(3,)):
        (embedding_BD,) = session.run(None, {"input_ids": ids_BT, "attention_mask": mask_BT})
        np.testing.assert_allclose(embedding_BD, by_torch(rms_encoder, ids_BT, mask_BT), rtol=0, atol=5e-3)


@pytest.mark.parametrize("architecture", UNPADDED)
def test_fp16_graph_keeps_no_operator_in_fp32_that_needs_not(exported, architecture):
    _, member, files = exported(architecture)
    loaded = onnx.load_from_string(files[member.model_fp16.path])
    casts = [node for node in loaded.graph.node if node.op_type == "Cast"]
    assert len([cast for cast in casts if cast.attribute[0].i == onnx.TensorProto.FLOAT]) <= 3


def test_fp16_graph_that_differs_from_torch_is_left_out(make_base, monkeypatch, capsys):
    monkeypatch.setattr("training.export._MAX_HALF", 1e-3)
    member, files = export_member(load_encoder(str(make_base("bert"))), name="encoder")
    assert member.model_fp16 is None
    names = ("model.int8.onnx", "model.onnx", "tokenizer.json")
    assert sorted(files) == [f"members/encoder/{name}" for name in names]
    assert "note: tiny-bert exceeds what fp16 can hold" in capsys.readouterr().err


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_int8_embeddings_are_near_those_of_torch(exported, architecture):
    base, member, files = exported(architecture)
    session = open_session(files[member.model_int8.path], choose_runtime("cpu", "fp32"))
    for ids_BT, mask_BT in batches(base, sizes=(3,)):
        cosine_B = (computed(session, ids_BT, mask_BT) * by_torch(base, ids_BT, mask_BT)).sum(axis=1)
        assert cosine_B.min() > 0.97, ids_BT.shape


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_int8_embedding_does_not_depend_on_the_other_texts_of_its_batch(exported, architecture):
    base, member, files = exported(architecture)
    session = open_session(files[member.model_int8.path], choose_runtime("cpu", "fp32"))
    for ids_BT, mask_BT in batches(base, sizes=(12,)):
        together_BD = computed(session, ids_BT, mask_BT)
        for row, length in enumerate(mask_BT.sum(1)):
            alone_D = computed(session, ids_BT[row : row + 1, :length], mask_BT[row : row + 1, :length])[0]
            np.testing.assert_allclose(alone_D, together_BD[row], rtol=0, atol=1e-6)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_all_products_with_weights_and_the_word_embeddings_are_in_int8(exported, architecture):
    _, member, files = exported(architecture)
    graph = onnx.load_from_string(files[member.model_int8.path]).graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    products = [node for node in graph.node if node.op_type in ("MatMul", "Gemm")]
    assert not [node for node in products if node.input[1] in weights]
    tables = [weights[node.input[0]] for node in graph.node if node.op_type == "Gather" and node.input[0] in weights]
    assert max(tables, key=lambda tensor: np.prod(tensor.dims)).data_type == onnx.TensorProto.INT8
    assert {node.domain for node in graph.node} <= {"", "com.microsoft"}


def test_graph_whose_int8_embeddings_are_far_from_torch_is_left_out(make_base, monkeypatch, capsys):
    monkeypatch.setattr("training.export._MIN_COARSE_COSINE", 1.1)
    member, files = export_member(load_encoder(str(make_base("bert"))), name="encoder")
    assert member.model_int8 is None
    assert "members/encoder/model.int8.onnx" not in files
    assert "note: tiny-bert exceeds what int8 can hold" in capsys.readouterr().err


@pytest.mark.skipif("OpenVINOExecutionProvider" not in onnxruntime.get_available_providers(), reason="needs OpenVINO")
def test_graph_without_one_in_fp16_runs_on_openvino_too(make_base, monkeypatch, capsys):
    monkeypatch.setattr("training.export._MIN_COARSE_COSINE", 1.1)
    member, files = export_member(load_encoder(str(make_base("bert"))), name="encoder")
    assert member.model_fp16 is None
    open_session(files[member.model.path], Runtime("OpenVINOExecutionProvider", "bf16"))
    assert "note: tiny-bert exceeds what fp16 can hold" in capsys.readouterr().err


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_saved_weights_give_the_bundles_embeddings(trained, architecture):
    run = trained(architecture)
    expected_ND = SentenceTransformer(str(run.weights), device="cpu").encode(TEXTS)
    np.testing.assert_allclose(embed(run.bundle, TEXTS), expected_ND, rtol=0, atol=1e-4)


def test_saved_weights_use_the_prompt_as_the_bundle_does(trained):
    run = trained(method="full", prompt="query: ")
    weights = SentenceTransformer(str(run.weights), device="cpu")
    np.testing.assert_allclose(embed(run.bundle, TEXTS), weights.encode(TEXTS), rtol=0, atol=1e-4)
    assert np.abs(weights.encode(TEXTS) - weights.encode(TEXTS, prompt="")).max() > 1e-3


def test_saved_weights_have_a_prompt_for_each_side_as_the_bundle_does(trained):
    run = trained(method="full", prompt_a="my card ", prompt_b="the fee ")
    weights, scorer = (
        SentenceTransformer(str(run.weights), device="cpu"),
        Scorer(run.bundle, choose_runtime("cpu", "fp32")),
    )
    for side, encode in ((0, weights.encode_query), (1, weights.encode_document)):
        np.testing.assert_allclose(scorer.embed(TEXTS, side=side), encode(TEXTS), rtol=0, atol=1e-4)
    assert np.abs(scorer.embed(TEXTS, side=0) - scorer.embed(TEXTS, side=1)).max() > 1e-3


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_member_names_its_base(exported, architecture):
    _, member, _ = exported(architecture)
    assert (member.base, member.revision) == (f"tiny-{architecture}", None)
    assert (member.pooling, member.dimension) == (POOLING.get(architecture, "mean"), 32)
    assert member.max_length == 130
    assert member.pad_id == (1 if architecture in ("mpnet", "xlm_roberta") else 0)


def test_graph_that_differs_from_torch_is_refused(make_base):
    folder = str(make_base("bert"))
    base = load_encoder(folder)
    base.transformer.model = LengthIsBakedIn.from_pretrained(folder)
    with pytest.raises(SimileError, match=r"export of tiny-bert: \S+ from torch at shape \(1, 1\), need 1e-04"):
        export_member(base, name="encoder")


def test_cls_pooling_is_in_the_graph(make_base, tmp_path):
    folder = make_base("bert", pooling="cls")
    bundle = make_baseline(str(folder), tmp_path / "bundle")
    assert bundle.manifest.members[0].pooling == "cls"
    np.testing.assert_allclose(
        embed(bundle, TEXTS), SentenceTransformer(str(folder), device="cpu").encode(TEXTS), rtol=0, atol=1e-4
    )
    mean = make_baseline(str(make_base("bert")), tmp_path / "mean")
    assert np.abs(embed(bundle, TEXTS) - embed(mean, TEXTS)).max() > 1e-2


def test_export_leaves_the_encoder_as_it_was(make_base):
    base = load_encoder(str(make_base("bert")))
    before = base.transformer.model.config._attn_implementation
    export_member(base, name="encoder")
    assert base.transformer.model.config._attn_implementation == before


def test_same_encoder_gives_the_same_bundle_from_any_folder(make_base, tmp_path):
    first = make_baseline(str(make_base("bert")), tmp_path / "here" / "bundle")
    second = make_baseline(str(make_base("bert")), tmp_path / "there" / "bundle")
    assert first.manifest.digest == second.manifest.digest
    assert str(Path(tmp_path).parent) not in (first.path / "manifest.json").read_text()
