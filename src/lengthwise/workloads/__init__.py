"""What is asked of an engine: data sets of prompts, traces, arrivals."""
