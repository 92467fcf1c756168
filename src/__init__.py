"""The stages of the pipeline and the modules they share; see the README for the map."""

from src.core.cli import begin
from src.core.processor import set_switches

set_switches()  # before anything can import NumPy or PyTorch
begin()
