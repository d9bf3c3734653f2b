"""What people read and look at: summaries, tables, pictures."""
