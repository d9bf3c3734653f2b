"""ELIS."""

from lengthwise.policies import ISRTF
from lengthwise.systems.system import System

SYSTEM = System(
    name="elis",
    summary="shortest predicted remainder first, predicted anew every 50 tokens (iterative)",
    source="ELIS, arXiv 2505.09142",
    policy=ISRTF,
    parameters={"window_tokens": 50},
    not_modelled="its front end's choice of worker; a batch's common window; its BGE predictor",
)
