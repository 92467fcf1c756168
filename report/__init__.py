"""The last run as one HTML page that needs no other file: see `make report`."""

import src as src  # first: it sets what NumPy and PyTorch read when they are loaded
