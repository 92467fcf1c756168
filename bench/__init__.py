"""Side-by-side measurements: `python -m bench` runs the jobs, which are modules with a `run`."""

import src as src  # first: it sets what NumPy and PyTorch read when they are loaded
