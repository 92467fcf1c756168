"""BEiT-3 shrunk until it trains from nothing on a CPU in minutes."""

from src.models.shared.beit3 import BASE, Beit3

BLUEPRINT = Beit3(BASE, patch_size=8, embed_dim=192, depth=2, num_heads=3)
