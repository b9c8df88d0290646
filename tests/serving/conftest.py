import threading

import numpy as np
import onnx
import pytest
from fastapi.testclient import TestClient
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from serving.app import create_app
from serving.settings import Settings
from simile.artifacts import (
    Bundle,
    Calibration,
    Combine,
    EncoderMember,
    LexicalMember,
    Manifest,
    file_entry,
    write_bundle,
)
from simile.scoring import GOLDEN_PAIRS, Runtime, Scorer, golden_pairs, load, pack_vocabulary

MAX_LENGTH = 24
WORDS = sorted({word for pair in GOLDEN_PAIRS for text in pair for word in text.replace(".", " .").split()})


def encoder_graph(num_words: int, dimension: int) -> bytes:
    """Embedding lookup, masked mean, L2 norm."""
    table_VD = np.random.default_rng(0).normal(size=(num_words, dimension)).astype(np.float32)
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["word_BTD"]),
        helper.make_node("Cast", ["attention_mask"], ["mask_BT"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask_BT", "last"], ["mask_BT1"]),
        helper.make_node("Mul", ["word_BTD", "mask_BT1"], ["kept_BTD"]),
        # The norm takes out the number of words, so the sum does as well as the mean.
        helper.make_node("ReduceSum", ["kept_BTD", "tokens"], ["sum_BD"], keepdims=0),
        helper.make_node("LpNormalization", ["sum_BD"], ["embedding"], axis=1, p=2),
    ]
    graph = helper.make_graph(
        nodes,
        "encoder",
        [
            helper.make_tensor_value_info(name, TensorProto.INT64, ["B", "T"])
            for name in ("input_ids", "attention_mask")
        ],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["B", dimension])],
        [
            numpy_helper.from_array(table_VD, "table"),
            numpy_helper.from_array(np.array([-1]), "last"),
            numpy_helper.from_array(np.array([1]), "tokens"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def word_tokenizer() -> bytes:
    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", *WORDS])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    return tokenizer.to_str().encode()


def write_ensemble(path) -> Bundle:
    dimension = 8
    data = {
        "members/small/model.onnx": encoder_graph(len(WORDS) + 2, dimension),
        "members/small/tokenizer.json": word_tokenizer(),
        "members/words/lexical.npz": pack_vocabulary(
            {word.lower(): i for i, word in enumerate(sorted({word.lower() for word in WORDS}))},
            np.linspace(1, 3, len({word.lower() for word in WORDS})),
        ),
    }
    entries = {name: file_entry(name, content) for name, content in data.items()}
    manifest = Manifest(
        name="tiny",
        members=(
            EncoderMember(
                name="small",
                model=entries["members/small/model.onnx"],
                tokenizer=entries["members/small/tokenizer.json"],
                base="random",
                revision=None,
                pooling="mean",
                max_length=MAX_LENGTH,
                pad_id=0,
                dimension=dimension,
            ),
            LexicalMember(
                name="words",
                vocabulary=entries["members/words/lexical.npz"],
                dimension=len({word.lower() for word in WORDS}),
            ),
        ),
        combine=Combine(weights={"small": 0.75, "words": 0.25}),
        calibration=Calibration(slope=8, intercept=-4, positive_share=0.5),
        golden=(),
        made={},
    )
    bundle = write_bundle(path, manifest, data)
    golden = golden_pairs(load(path, device="cpu", precision="fp32"))
    return write_bundle(path, manifest.model_copy(update={"golden": golden}), bundle.data)


@pytest.fixture(scope="session")
def bundle(tmp_path_factory) -> Bundle:
    return write_ensemble(tmp_path_factory.mktemp("bundles") / "tiny")


@pytest.fixture(scope="session")
def scorer(bundle) -> Scorer:
    return load(bundle.path, device="cpu", precision="fp32")


@pytest.fixture
def uncalibrated(bundle, scorer) -> Scorer:
    manifest = bundle.manifest.model_copy(update={"calibration": None})
    return Scorer(Bundle(bundle.path, manifest, bundle.data), scorer.runtime)


@pytest.fixture
def client(scorer):
    settings = Settings(max_pairs=8, max_characters=200, max_body_bytes=4096)
    with TestClient(create_app(settings, scorer)) as client:
        yield client


class WatchedScorer(Scorer):
    """A scorer whose calls are counted, and wait at the gate."""

    def __init__(self, bundle: Bundle, runtime: Runtime) -> None:
        super().__init__(bundle, runtime)
        self.calls: list[int] = []
        self.gate = threading.Event()
        self.gate.set()

    def combine(self, scores):
        self.calls.append(len(scores["words"]))
        assert self.gate.wait(10)
        return super().combine(scores)


@pytest.fixture
def watched(bundle, scorer) -> WatchedScorer:
    return WatchedScorer(bundle, scorer.runtime)
