"""Simulated comparisons."""
