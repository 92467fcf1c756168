"""What the detectors have in common."""
