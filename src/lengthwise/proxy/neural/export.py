"""From torch to an int8 ONNX graph that onnxruntime runs alone."""

from __future__ import annotations

import logging
import tempfile
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from onnxruntime.quantization import QuantType, quantize_dynamic

from lengthwise.proxy.neural.heads import Scored

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lengthwise.proxy.neural.aims import Aim

OPSET = 17


def graph_of(model: Any, aim: Aim, *, models: int, quantised: bool = True) -> bytes:
    """Export a trained model as `Encoder` reads it, its weights in int8 if `quantised`."""
    scored = Scored(model.cpu(), aim).eval()
    ids = torch.ones((1, 8), dtype=torch.long)
    names, given = ["input_ids", "attention_mask"], [ids, torch.ones_like(ids)]
    if models:
        names.append("model")
        given.append(torch.full((1, models), 1 / models))
    with tempfile.TemporaryDirectory() as directory, _quietly():
        whole, small = Path(directory) / "whole.onnx", Path(directory) / "small.onnx"
        # The exporter of torch.export needs onnxscript and is slower; this one is traced.
        torch.onnx.export(
            scored,
            tuple(given),
            str(whole),
            input_names=names,
            output_names=["score"],
            dynamic_axes={name: {1: "tokens"} for name in names[:2]},
            opset_version=OPSET,
            dynamo=False,
        )
        if quantised:
            quantize_dynamic(str(whole), str(small), weight_type=QuantType.QInt8)
        return (small if quantised else whole).read_bytes()


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep what the exporters tell their own developers from the operator."""
    before = logging.root.manager.disable
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(before)
