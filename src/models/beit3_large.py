"""BEiT-3 large: 304 M parameters, for pretrained weights and a GPU."""

from src.models.shared.beit3 import LARGE, Beit3

BLUEPRINT = Beit3(LARGE)
