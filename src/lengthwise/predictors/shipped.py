"""The shipped model, which refits start from, and which version its features are of."""

from __future__ import annotations

import hashlib
import json

from lengthwise.predictors import load_predictor
from lengthwise.predictors.stack import Stack
from lengthwise.predictors.tuned import NAMES


def shipped() -> Stack:
    """Load the model that refits start from."""
    base = load_predictor("default")
    if not isinstance(base, Stack):
        raise TypeError("the shipped model is not a stack")
    return base


def features_version(base: Stack) -> int:
    """Give what `tuned.features` of a base mean a number: another meaning, another number.

    Rows of the request log carry it, and only rows of the present one are learnt from.
    """
    meaning = json.dumps([NAMES, base.manifest.get("files")], sort_keys=True)
    return int(hashlib.sha256(meaning.encode()).hexdigest()[:12], 16)
