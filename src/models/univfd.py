"""UnivFD: logistic regression on the features of a frozen CLIP.

Source: Ojha, Li, Lee 2023, arXiv:2302.10174 (WisconsinAIVision/UniversalFakeDetect), linear probe
on ViT-L/14. Differs: the features are CLIP's before its projection to the space of texts; the
layer is solved for, with the strength that validates best, instead of trained; `train.epochs` is
the number of augmented views of each image that it is solved from; `model.backbone` may name any
network of timm, with a tag of it as `model.weights` (for CLIP `openai`; without, the features are
random projections), or any vision model of transformers, as `openai/clip-vit-large-patch14` or
`./folder`, with a revision as `model.weights` (`main`).
"""

from src.models.shared.frozen_probe import FrozenProbe, LinearHead

BLUEPRINT = FrozenProbe("vit_large_patch14_clip_quickgelu_224", LinearHead)
