"""Use the trained detector on your own images."""
