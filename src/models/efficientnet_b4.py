"""EfficientNet-B4, the single network of the ICPR 2020 deepfake detection study.

Source: polimi-ispl/icpr2020dfdc (Bonettini et al. 2020, arXiv:2004.07676). Differs: no attention
block and no ensemble; any crops instead of faces found in video frames; the head is softmax over
the classes; trained by this project's recipe. Without `model.weights` it starts from nothing,
where the original starts from ImageNet.
"""

from src.models.shared.timm_network import TimmNetwork

BLUEPRINT = TimmNetwork("efficientnet_b4")
