"""SSJF as its authors released it."""

from lengthwise.policies import PaperRule
from lengthwise.systems.system import System

SYSTEM = System(
    name="ssjf-paper",
    summary="shortest predicted first; by waiting time while the oldest is overdue",
    source="SSJF, arXiv 2404.08509, released code at 4b86686",
    policy=PaperRule,
    parameters={"limit_s": 100.0, "ratio": 10.0},
    not_modelled="the rule reads the predicted service time where their simulator reads the true",
)
