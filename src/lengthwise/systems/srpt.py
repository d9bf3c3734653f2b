"""Shortest remaining processing time."""

from lengthwise.policies import SRPT
from lengthwise.systems.system import System

SYSTEM = System(
    name="srpt",
    summary="shortest predicted remainder first, displacing running work where the host can",
    source="Schrage 1968; for LLMs: ELIS, arXiv 2505.09142",
    policy=SRPT,
    not_modelled="a gateway cannot take work back from its engine: there it orders like sjf",
)
