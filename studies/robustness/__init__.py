"""What is left of a detector after images were recompressed, resized, blurred, ..."""
