"""Tiny random base encoders of the architectures that people train, which differ from the real ones in size only."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.normalizers import Lowercase
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import (
    BertConfig,
    BertModel,
    MPNetConfig,
    MPNetModel,
    NomicBertConfig,
    NomicBertModel,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

# Importing it limits oneDNN to what this processor can do, and silences transformers.
import training.torch_encoder  # noqa: F401

MAX_LENGTH = 130
"""Maximum length in tokens, longer than every length at which an export is checked."""
_NUM_WORDS = 500
_SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}


def write_base(folder: Path, architecture: str, pooling: str, texts: Iterable[str]) -> Path:
    """Write an encoder whose vocabulary is the most frequent words of the texts; return its folder."""
    tokenizer = _tokenizer(architecture, texts)
    transformer = _transformer(architecture, len(tokenizer), tokenizer.pad_token_id)
    parts = folder.with_name(f"{folder.name}-parts")
    transformer.save_pretrained(parts)
    tokenizer.save_pretrained(parts)
    modules = [Transformer(str(parts)), Pooling(_SIZES["hidden_size"], pooling_mode=pooling), Normalize()]
    SentenceTransformer(modules=modules, device="cpu").save_pretrained(str(folder), create_model_card=False)
    return folder


def _tokenizer(architecture: str, texts: Iterable[str]) -> PreTrainedTokenizerFast:
    bert = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
    # MPNet's padding token has index 1.
    mpnet = {"cls": "<s>", "pad": "<pad>", "sep": "</s>", "unk": "[UNK]", "mask": "<mask>"}
    special = mpnet if architecture == "mpnet" else bert
    counts = Counter(word for text in texts for word, _ in Whitespace().pre_tokenize_str(text.lower()))
    words = [*special.values(), *(word for word, _ in counts.most_common(_NUM_WORDS))]
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(words)}, unk_token=special["unk"]))
    tokenizer.normalizer, tokenizer.pre_tokenizer = Lowercase(), Whitespace()
    tokenizer.post_processor = TemplateProcessing(
        single=f"{special['cls']} $A {special['sep']}",
        special_tokens=[(special[name], words.index(special[name])) for name in ("cls", "sep")],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=MAX_LENGTH,
        **{f"{name}_token": token for name, token in special.items()},
    )


def _transformer(architecture: str, num_words: int, pad_id: int) -> PreTrainedModel:
    torch.manual_seed(0)
    sizes = {**_SIZES, "vocab_size": num_words, "pad_token_id": pad_id}
    if architecture == "bert":
        return BertModel(BertConfig(max_position_embeddings=MAX_LENGTH, **sizes))
    if architecture == "mpnet":
        # MPNet reserves the first two positions.
        return MPNetModel(MPNetConfig(max_position_embeddings=MAX_LENGTH + 2, **sizes))
    return NomicBertModel(NomicBertConfig(max_position_embeddings=512, **sizes))
