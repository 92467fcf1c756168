"""Features that say nothing of how a picture was made: the floor that a detector must beat."""
