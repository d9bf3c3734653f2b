"""Where predictions come from: one contract, several ways to keep it."""
