"""The load generator, and the comparison of policies on one system."""
