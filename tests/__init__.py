import src as src  # first: it sets what NumPy and PyTorch read when they are loaded
