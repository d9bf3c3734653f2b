"""Short requests first: predict how long each LLM answer will be, and order the queue by it."""

from lengthwise.core.prediction import Prediction
from lengthwise.core.request import Request
from lengthwise.core.scheduler import Scheduler
from lengthwise.errors import LengthwiseError

__all__ = ["LengthwiseError", "Prediction", "Request", "Scheduler", "__version__"]

__version__ = "0.1.0"
