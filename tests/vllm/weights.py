"""Two small models as directories that vLLM loads: a random one, and SmolLM2 out of its GGUF.

vLLM on a CPU reads no GGUF, and transformers will not save what it read from one: the weights are
written here, once, into a cache outside the checkout (`LENGTHWISE_VLLM_CACHE`).
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path

from lengthwise.engines.embedded import packaged_weights


def cache() -> Path:
    """Directory that outlives a test run."""
    default = Path.home() / ".cache" / "lengthwise" / "vllm"
    return Path(os.environ.get("LENGTHWISE_VLLM_CACHE") or default)


def random_model(directory: Path) -> Path:
    """Write a two-layer Llama with random weights, and no tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=256,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        bos_token_id=1,
        eos_token_id=2,
        dtype="float32",
    )
    LlamaForCausalLM(config).save_pretrained(directory)
    return directory


def smollm2() -> Path:
    """Return the directory of SmolLM2-135M-Instruct, written from its GGUF the first time."""
    target = cache() / "smollm2-135m-instruct"
    if not (target / "config.json").exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=target.parent))
        _dequantise(packaged_weights(), scratch)
        scratch.replace(target) if not target.exists() else shutil.rmtree(scratch)
    return target


def _dequantise(gguf: Path, directory: Path) -> None:
    import torch
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder, name = str(gguf.parent), gguf.name
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32)
    weights = {
        name: tensor.detach().clone().contiguous()
        for name, tensor in model.state_dict().items()
        if name != "lm_head.weight" or not model.config.tie_word_embeddings
    }
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    config = model.config.to_dict()
    config["architectures"] = ["LlamaForCausalLM"]
    config.pop("quantization_config", None)
    (directory / "config.json").write_text(json.dumps(config, default=str))
    AutoTokenizer.from_pretrained(folder, gguf_file=name).save_pretrained(directory)
