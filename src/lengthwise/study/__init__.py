"""Simulated comparisons: a trace, predictions, a server and policies in; figures out."""
