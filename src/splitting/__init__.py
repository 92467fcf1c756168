"""From metadata to a balanced, group-safe split."""
