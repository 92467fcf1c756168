"""BEiT-3 base: 86 M parameters, for pretrained weights and a GPU."""

from src.models.shared.beit3 import BASE, Beit3

BLUEPRINT = Beit3(BASE)
