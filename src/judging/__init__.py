"""What predictions say: metrics, intervals, tables, pictures."""
