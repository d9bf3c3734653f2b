"""Orders of service, one idea a file. Pure: they see a request and the time, nothing else."""

from lengthwise.policies.aging import HRRN, Aged
from lengthwise.policies.bounds import PaperRule
from lengthwise.policies.size import FCFS, SJF, SRPT

__all__ = ["FCFS", "HRRN", "SJF", "SRPT", "Aged", "PaperRule"]
