"""Commands around the pipeline: they run it, look at it or serve it, and change no result."""
