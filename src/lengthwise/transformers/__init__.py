"""Shortest first inside Hugging Face transformers' continuous batching: `register()`.

See docs/transformers.md. Nothing here imports torch or transformers before `register` is called.
"""

from __future__ import annotations

from lengthwise.transformers.registration import register

__all__ = ["register"]
