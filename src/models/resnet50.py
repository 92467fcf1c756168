"""ResNet-50, the most used baseline of this field.

Source: nogibjj's Detecting-AI-Generated-Fake-Images (transfer learning from ImageNet). Differs:
all layers are trained, by this project's recipe; native crops unless `model.view` says otherwise.
Without `model.weights` it starts from nothing.
"""

from src.models.shared.timm_network import TimmNetwork

BLUEPRINT = TimmNetwork("resnet50")
