"""Earliest deadline first."""

from lengthwise.policies import EDF
from lengthwise.systems.system import System

SYSTEM = System(
    name="edf",
    summary="earliest deadline first; 600 s from arrival where none is named",
    source="Jackson 1955",
    policy=EDF,
    reads_length=False,
    needs=("deadline",),
)
