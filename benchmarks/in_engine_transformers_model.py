"""The model, the tokens and the machine of `in_engine_transformers.py`."""

from __future__ import annotations

import os
import platform
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse

LOAD_BEFORE = os.getloadavg()[0]
#: Hidden size, feed-forward size, layers, heads, KV heads, vocabulary: Llama 3.2 1B, 3.1 8B.
SHAPES = {
    "tiny": (32, 64, 2, 2, 2, 8192),
    "1b": (2048, 8192, 16, 32, 8, 128256),
    "8b": (4096, 14336, 32, 32, 8, 128256),
}


def encode(requests: list[dict[str, Any]]) -> tuple[Any, int]:
    """Turn the requests' messages into `ids`, as ChatML, with a tokenizer of their own words."""
    from tests.transformers.words import tokenizer  # noqa: PLC0415

    texts = [message["content"] for one in requests for message in one["messages"]]
    words = tokenizer(texts, vocabulary=8192)
    for one in requests:
        turns = [f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in one["messages"]]
        one["ids"] = words.encode("".join(turns) + "<|im_start|>assistant\n")
    return words, len(words)


def build(options: argparse.Namespace, vocabulary: int) -> Any:
    """Make a Llama-shaped model with random weights, on the device."""
    import torch  # noqa: PLC0415
    from transformers import LlamaConfig, LlamaForCausalLM  # noqa: PLC0415

    hidden, feed, layers, heads, kv_heads, words = SHAPES[options.model_size]
    torch.manual_seed(options.seed)
    config = LlamaConfig(
        hidden_size=options.hidden_size or hidden,
        intermediate_size=options.intermediate_size or feed,
        num_hidden_layers=options.layers or layers,
        num_attention_heads=options.heads or heads,
        num_key_value_heads=options.kv_heads or options.heads or kv_heads,
        vocab_size=max(words, vocabulary),
        max_position_embeddings=8192,
        attn_implementation=options.attention,
    )
    dtype = options.dtype or ("float32" if options.device == "cpu" else "bfloat16")
    torch.set_default_dtype(getattr(torch, dtype))
    with torch.device(options.device):
        model = LlamaForCausalLM(config).eval()
    torch.set_default_dtype(torch.float32)
    return model


def machine(options: argparse.Namespace, model: Any) -> str:
    """Say what this ran on."""
    import torch  # noqa: PLC0415
    import transformers  # noqa: PLC0415

    on = f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} thread(s)"
    if options.device == "cuda":
        on = f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}"
    size = sum(one.numel() for one in model.parameters())
    shape = model.config
    return (
        f"{time.strftime('%Y-%m-%d')}, {on}; a random Llama of {size / 1e6:,.1f} M parameters "
        f"({shape.num_hidden_layers} layers, hidden size {shape.hidden_size}, {model.dtype}, "
        f"{options.attention}); torch {torch.__version__}, transformers "
        f"{transformers.__version__}, Python {platform.python_version()}; load average before it "
        f"{LOAD_BEFORE:.1f}"
    )
