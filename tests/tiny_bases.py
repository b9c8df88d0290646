"""Tiny random base encoders of the architectures that people train, which differ from the real ones in size only."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, Transformer
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.normalizers import Lowercase
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from torch import nn
from transformers import (
    BertConfig,
    BertModel,
    Gemma3TextConfig,
    Gemma3TextModel,
    ModernBertConfig,
    ModernBertModel,
    MPNetConfig,
    MPNetModel,
    NomicBertConfig,
    NomicBertModel,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3Model,
    XLMRobertaConfig,
    XLMRobertaModel,
)

# Importing it limits oneDNN to what this processor can do, and silences transformers.
import training.torch_encoder  # noqa: F401

MAX_LENGTH = 130
"""Maximum length in tokens, longer than every length at which an export is checked."""
POOLING = {"modernbert": "cls", "qwen3": "lasttoken"}
"""Pooling of the architectures that people use without mean pooling."""
_NUM_WORDS = 500
_SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}


def write_base(folder: Path, architecture: str, texts: Iterable[str], *, pooling: str | None = None) -> Path:
    """Write an encoder whose vocabulary is the most frequent words of the texts; return its folder."""
    tokenizer = _tokenizer(architecture, texts)
    transformer = _transformer(architecture, len(tokenizer), tokenizer.pad_token_id)
    parts = folder.with_name(f"{folder.name}-parts")
    transformer.save_pretrained(parts)
    tokenizer.save_pretrained(parts)
    width = _SIZES["hidden_size"]
    # EmbeddingGemma widens its embedding and narrows it again.
    widths = [(width, 2 * width), (2 * width, width)] if architecture == "gemma3" else []
    dense = [Dense(*both, bias=False, activation_function=nn.Identity()) for both in widths]
    modules = [
        Transformer(str(parts)),
        Pooling(width, pooling_mode=pooling or POOLING.get(architecture, "mean")),
        *dense,
        Normalize(),
    ]
    SentenceTransformer(modules=modules, device="cpu").save_pretrained(str(folder), create_model_card=False)
    return folder


def _tokenizer(architecture: str, texts: Iterable[str]) -> PreTrainedTokenizerFast:
    bert = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
    # The padding token of MPNet and XLM-R has index 1.
    mpnet = {"cls": "<s>", "pad": "<pad>", "sep": "</s>", "unk": "[UNK]", "mask": "<mask>"}
    special = mpnet if architecture in ("mpnet", "xlm_roberta") else bert
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
    # Windows are shorter than the longest text, so that they matter.
    rotary = {**sizes, "max_position_embeddings": 512, "num_key_value_heads": 2, "head_dim": 8, "use_cache": False}
    match architecture:
        case "bert":
            return BertModel(BertConfig(max_position_embeddings=MAX_LENGTH, **sizes))
        case "mpnet":
            # MPNet and XLM-R reserve the first two positions.
            return MPNetModel(MPNetConfig(max_position_embeddings=MAX_LENGTH + 2, **sizes))
        case "xlm_roberta":
            return XLMRobertaModel(XLMRobertaConfig(max_position_embeddings=MAX_LENGTH + 2, **sizes))
        case "nomic_bert":
            return NomicBertModel(NomicBertConfig(max_position_embeddings=512, **sizes))
        case "modernbert":
            layers = {"num_hidden_layers": 3, "layer_types": ["full_attention", "sliding_attention", "full_attention"]}
            return ModernBertModel(ModernBertConfig(local_attention=16, **(sizes | layers)))
        case "qwen3":
            return Qwen3Model(Qwen3Config(**rotary))
        case "gemma3":
            layers = {"layer_types": ["sliding_attention", "full_attention"], "query_pre_attn_scalar": 8}
            return Gemma3TextModel(
                Gemma3TextConfig(sliding_window=16, use_bidirectional_attention=True, **rotary, **layers)
            )
        case other:
            raise ValueError(f"got architecture {other!r}")
