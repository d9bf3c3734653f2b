"""Orders of service, one idea a file. Pure: they see a request and the time, nothing else."""

from lengthwise.policies.aging import HRRN, Aged, ElasticAged
from lengthwise.policies.bounds import PaperRule
from lengthwise.policies.deadline import EDF, Priority
from lengthwise.policies.gittins import Gittins
from lengthwise.policies.iterative import ISRTF
from lengthwise.policies.mlfq import MLFQ
from lengthwise.policies.size import FCFS, SJF, SRPT, PromptSJF

__all__ = [
    "EDF",
    "FCFS",
    "HRRN",
    "ISRTF",
    "MLFQ",
    "SJF",
    "SRPT",
    "Aged",
    "ElasticAged",
    "Gittins",
    "PaperRule",
    "Priority",
    "PromptSJF",
]
