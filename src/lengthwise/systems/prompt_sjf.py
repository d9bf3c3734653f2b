"""Shortest prompt first."""

from lengthwise.policies import PromptSJF
from lengthwise.systems.system import System

SYSTEM = System(
    name="prompt-sjf",
    summary="shortest prompt first: a size that needs no prediction",
    source="EWSJF's baseline, arXiv 2601.21758; Gimbal, arXiv 2602.21626",
    policy=PromptSJF,
    reads_length=False,
    not_modelled="prefix-cache hits; Gimbal's ageing and expert placement",
)
