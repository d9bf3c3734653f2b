"""A tiny encoder with random weights, made on the spot: what a fine-tuning test starts from."""

from __future__ import annotations

import pytest

from tests.proxy.worlds import LONG, OTHERS, SHORT

MODULES = ("torch", "transformers", "onnx", "onnxruntime", "tokenizers", "lightgbm")


def needs_torch() -> None:
    """Skip, naming the module, where the extra 'train' is not installed."""
    for name in MODULES:
        pytest.importorskip(
            name, reason=f"{name} is not installed: pip install 'lengthwise[train]'"
        )


def make(directory, *, layers: int = 2, hidden: int = 32):
    """Save a BERT of two layers and a tokenizer of the words of the made-up answers."""
    import tokenizers
    import torch
    import transformers

    marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    vocabulary = {word: at for at, word in enumerate([*marks, *LONG, *SHORT, *OTHERS])}
    words = tokenizers.Tokenizer(
        tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]")  # noqa: S106
    )
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    words.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    directory.mkdir(parents=True, exist_ok=True)
    words.save(str(directory / "tokenizer.json"))
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    transformers.BertModel(config).save_pretrained(directory)
    return directory
