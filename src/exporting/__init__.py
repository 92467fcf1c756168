"""What travels with an exported detector."""
