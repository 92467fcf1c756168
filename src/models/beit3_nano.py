"""BEiT-3 shrunk until it trains in seconds: to try the plumbing, not to detect anything."""

from src.models.shared.beit3 import BASE, Beit3

BLUEPRINT = Beit3(BASE, patch_size=8, embed_dim=32, depth=2, num_heads=2)
