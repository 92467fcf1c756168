"""What the data sets have in common."""
