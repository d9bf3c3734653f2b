"""Fine-tunes text encoders: the neural tier, and SSJF's own proxy. torch is imported only here."""
