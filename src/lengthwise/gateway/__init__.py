"""The gateway: an HTTP host of the scheduler in front of OpenAI-compatible engines."""
