"""Parts that a small run of the pipeline leaves out -> a digest of what each one computes."""

import hashlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor

from src.core.cli import run
from src.inference.scorer import prepare_torch
from src.models.shared.detector import build_detector
from src.sources.synthesis import autoencoder
from src.sources.synthesis.ncnn_model import Network
from src.training.optim import build_optimizer, set_learning_rate
from tests.helpers.make_data import make_image
from tests.helpers.make_training import MODEL

# Without what an emulator needs hours for: the large BEiT-3, which are more of the tiny one, and
# the probes of CLIP, whose backbones are those of `transformers`.
DETECTORS = ("beit3_tiny", "dct_cnn", "ela_cnn", "mobilenet_v2", "npr", "xray", "resnet50")
BACKBONES = ("clip", "dinov2", "convnext")
SIZE, BATCH, UPDATES = 32, 2, 2

Part = Callable[[], Iterator[Tensor]]


def images(count: int, size: int = SIZE) -> Tensor:
    """Return pictures (count, size, size, 3), uint8."""
    return torch.from_numpy(np.stack([make_image(i, size, fake=i % 2 == 1) for i in range(count)]))


def detector(name: str) -> Iterator[Tensor]:
    """Yield the weights of the detector after two updates, and its logits."""
    model = build_detector(replace(MODEL, name=name, drop_path=0.0, image_size=SIZE), ("a", "b"), 0)
    optimizer = build_optimizer(model.blueprint.parameter_groups(model.network, 0.05, 1.0), 0.98)
    set_learning_rate(optimizer, 1e-3)
    for update in range(UPDATES):
        torch.manual_seed(update)
        loss: Tensor = model.train()(images(BATCH), torch.arange(BATCH) % 2, 0.1)
        loss.backward()  # type: ignore[no-untyped-call]  # torch's omission
        optimizer.step()
        optimizer.zero_grad()
    yield from model.network.state_dict().values()
    with torch.no_grad():
        yield model.eval()(images(BATCH))


def backbone(kind: str) -> Iterator[Tensor]:
    """Yield the features and the gradients of a small backbone of transformers."""
    layers = {
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 128,
        "image_size": SIZE,
        "patch_size": 8,
    }
    torch.manual_seed(0)
    lib: Any = transformers
    if kind == "clip":
        network = lib.CLIPVisionModel(lib.CLIPVisionConfig(**layers))
    elif kind == "dinov2":
        network = lib.Dinov2Model(lib.Dinov2Config(**layers))
    else:
        sizes = {"hidden_sizes": [8, 16, 16, 32], "depths": [1] * 4}
        network = lib.ConvNextModel(lib.ConvNextConfig(**sizes))
    pixels = images(BATCH).permute(0, 3, 1, 2).float() / 255
    features = network(pixel_values=pixels).pooler_output
    features.square().sum().backward()
    yield features.detach()
    yield from (weight.grad for weight in network.parameters() if weight.grad is not None)


def trained_autoencoder() -> Iterator[Tensor]:
    """Yield the weights of the sample's autoencoder after one step, and a round trip."""
    views = [make_image(0, 64), make_image(1, 64)]
    weights = autoencoder.train(views, 1)
    yield torch.frombuffer(bytearray(weights), dtype=torch.uint8)
    yield torch.tensor(autoencoder.RoundTrip(weights)(views[0]))


def super_resolution(layers: int = 3, width: int = 64) -> Iterator[Tensor]:
    """Yield what a network of Real-ESRGAN's kinds of layers, with random weights, makes."""
    random = np.random.default_rng(0)
    lines, weights = ["Input in 0 1 data"], b""
    source, channels = "data", 3
    for number in range(layers):
        settings = f"0={width} 1=3 4=1 5=1 6={9 * channels * width} 9=2 -23310=1,0.2"
        lines.append(f"Convolution c{number} 1 1 {source} b{number} {settings}")
        stored = random.normal(0, 0.05, 9 * channels * width).astype("<f2").tobytes()
        weights += (
            b"\x47\x6b\x30\x01" + stored + random.normal(0, 0.1, width).astype("<f4").tobytes()
        )
        source, channels = f"b{number}", width
    slopes = random.random(width).astype("<f4").tobytes()
    lines += [f"PReLU p 1 1 {source} slope 0={width}", "Interp i 1 1 slope output 0=1 1=2.0 2=2.0"]
    structure = "\n".join(["7767517", "0 0", *lines]).encode()
    yield Network(structure, weights + slopes)(images(1).permute(0, 3, 1, 2).float() / 255)


PARTS: dict[str, Part] = {
    "super-resolution": super_resolution,
    **{f"transformers: {kind}": partial(backbone, kind) for kind in BACKBONES},
    **{f"detector: {name}": partial(detector, name) for name in DETECTORS},
    "autoencoder": trained_autoencoder,  # the longest last
}


def main() -> None:
    """Print the name and the digest of each part."""
    prepare_torch(threads=1)
    for name, part in PARTS.items():
        digest = hashlib.sha256()
        for tensor in part():
            digest.update(tensor.detach().contiguous().numpy().tobytes())
        sys.stdout.write(f"{name}\t{digest.hexdigest()[:12]}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    run(main)
