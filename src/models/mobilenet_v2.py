"""MobileNetV2, the small baseline for phones and CPUs.

Source: nogibjj's Detecting-AI-Generated-Fake-Images (transfer learning from ImageNet). Differs:
all layers are trained, by this project's recipe; native crops unless `model.view` says otherwise.
Without `model.weights` it starts from nothing.
"""

from src.models.shared.timm_network import TimmNetwork

BLUEPRINT = TimmNetwork("mobilenetv2_100")
