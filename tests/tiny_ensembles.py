"""A small encoder whose embeddings NumPy can compute: the normalized mean of its words' vectors."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing

from simile.artifacts import (
    Bundle,
    Combine,
    EncoderMember,
    LexicalMember,
    Manifest,
    PlattCalibration,
    file_entry,
    write_bundle,
)
from simile.artifacts.bundle import Prompts
from simile.scoring import GOLDEN_PAIRS, Runtime, Scorer, golden_pairs, pack_vocabulary, unscored_pairs

CPU = Runtime("CPUExecutionProvider", "fp32")
DIMENSION = 16
MAX_LENGTH = 40
WORDS = ["[PAD]", "[UNK]", "[CLS]", *sorted({word for pair in GOLDEN_PAIRS for text in pair for word in text.split()})]


def table(seed: int = 0) -> NDArray[np.float32]:
    """Return a vector per word."""
    return np.random.default_rng(seed).normal(size=(len(WORDS), DIMENSION)).astype(np.float32)


def graph(table_VD: NDArray[np.float32]) -> bytes:
    """Return the ONNX model: embedding lookup, masked mean, L2 norm."""
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["word_BTD"]),
        helper.make_node("Cast", ["attention_mask"], ["mask_BT"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask_BT", "last"], ["mask_BT1"]),
        helper.make_node("Mul", ["word_BTD", "mask_BT1"], ["kept_BTD"]),
        helper.make_node("ReduceSum", ["kept_BTD", "tokens"], ["sum_BD"], keepdims=0),
        helper.make_node("LpNormalization", ["sum_BD"], ["embedding"], axis=1, p=2),
    ]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["B", "T"]) for name in ("input_ids", "attention_mask")
    ]
    constants = {"table": table_VD, "last": np.array([-1]), "tokens": np.array([1])}
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "encoder",
            inputs,
            [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["B", DIMENSION])],
            [numpy_helper.from_array(value, name) for name, value in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    onnx.checker.check_model(model)
    return model.SerializeToString()


def tokenizer() -> bytes:
    """Return a tokenizer that splits at white space and puts [CLS] before every text."""
    made = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    made.pre_tokenizer = WhitespaceSplit()
    made.post_processor = TemplateProcessing(single="[CLS] $A", special_tokens=[("[CLS]", WORDS.index("[CLS]"))])
    return made.to_str().encode()


@dataclass
class Ensemble:
    """Writes bundles of an encoder and a lexical member into a folder."""

    folder: Path

    def write(
        self,
        name: str = "tiny",
        *,
        prompt: str = "",
        sides: Prompts | None = None,
        seed: int = 0,
        poisoned: str | None = None,
        replace: dict[str, bytes] | None = None,
        with_golden: bool = True,
    ) -> Bundle:
        """Write a bundle whose word vectors have this seed; the poisoned word's vector is NaN, ``sides`` are prompts.

        Without golden scores, those in the bundle are 0.
        """
        table_VD = table(seed)
        if poisoned is not None:
            table_VD[WORDS.index(poisoned)] = np.nan
        words = sorted({word.lower() for word in WORDS if word.isalpha() and len(word) > 1})
        data = {
            "members/small/model.onnx": graph(table_VD),
            "members/small/model.fp16.onnx": graph(table_VD),
            "members/small/tokenizer.json": tokenizer(),
            "members/words/lexical.npz": pack_vocabulary(
                {word: i for i, word in enumerate(words)}, np.linspace(1, 3, len(words))
            ),
        } | (replace or {})
        entry = {path: file_entry(path, content) for path, content in data.items()}
        encoder = EncoderMember(
            name="small",
            model=entry["members/small/model.onnx"],
            model_fp16=entry["members/small/model.fp16.onnx"],
            model_int8=entry.get("members/small/model.int8.onnx"),
            tokenizer=entry["members/small/tokenizer.json"],
            base="random",
            revision=None,
            pooling="mean",
            prompt=prompt,
            prompt_a=sides and sides[0],
            prompt_b=sides and sides[1],
            max_length=MAX_LENGTH,
            pad_id=0,
            dimension=DIMENSION,
        )
        manifest = Manifest(
            name=name,
            members=(
                encoder,
                LexicalMember(name="words", vocabulary=entry["members/words/lexical.npz"], dimension=len(words)),
            ),
            combine=Combine(weights={"small": 0.75, "words": 0.25}),
            calibration=PlattCalibration(slope=8, intercept=-4, positive_share=0.5),
            golden=unscored_pairs(["small", "words"]),
            made={"by": "simile join", "of": [], "fitted_on": None, "texts": None},
        )
        bundle = write_bundle(self.folder / name, manifest, data)
        if not with_golden:
            return bundle
        golden = golden_pairs(Scorer(bundle, CPU))
        return write_bundle(bundle.path, manifest.model_copy(update={"golden": golden}), data)
