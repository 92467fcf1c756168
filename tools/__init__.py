"""Commands around the pipeline: they run it, look at it or serve it, and change no result."""

import src as src  # first: it sets what NumPy and PyTorch read when they are loaded
