"""UnivFD's other half: the nearest real and the nearest fake training image in a frozen CLIP.

Source: Ojha, Li, Lee 2023, arXiv:2302.10174, nearest neighbours on ViT-L/14 with cosine distance.
Differs: the score is the difference of the mean cosines to the k nearest of each class, not a
vote, so that it ranks; k is the one of 1, 3, 5 and 9 that validates best. See `univfd` for the
backbone and its weights.
"""

from src.models.shared.frozen_probe import FrozenProbe, NeighbourHead

BLUEPRINT = FrozenProbe("vit_large_patch14_clip_quickgelu_224", NeighbourHead)
