"""Pipelines beside the main one: each varies one thing of it and says what that does."""

import src as src  # first: it sets what NumPy and PyTorch read when they are loaded
