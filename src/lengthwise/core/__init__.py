"""The pure heart: requests, predictions, policies and the queue. Standard library only."""
