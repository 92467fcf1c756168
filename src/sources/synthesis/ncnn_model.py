"""The two files of an ncnn model -> the same network in PyTorch.

ncnn chooses its kernels by the processor and has no switch for it; PyTorch's have (see
core.processor). A file with the suffix .param lists layers, one a line: type, name, numbers of
inputs and outputs, the names of both, settings as `number=value`. The .bin file holds their weights
in the same order.

Source: github.com/Tencent/ncnn, docs/developer-guide/param-and-model-file-structure.md and
operators.md.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

Operation = Callable[[Sequence[Tensor]], Tensor]

_MAGIC = "7767517"
_HALF = 0x01306B47  # stands before weights of 16 bits
_FULL = 0
_ARRAY = -23300  # setting number n, where it is an array, has the number _ARRAY - n


@dataclass(frozen=True)
class Layer:
    """A line of a .param file."""

    kind: str
    inputs: Sequence[str]
    outputs: Sequence[str]
    settings: dict[int, float]
    arrays: dict[int, list[float]]

    def check(self, **expected: bool) -> None:
        """Check what this module takes for granted.

        Raises:
            ValueError: the layer has settings that it does not know.
        """
        if wrong := [name for name, holds in expected.items() if not holds]:
            raise ValueError(f"layer {self.kind} {self.settings} {self.arrays}: {', '.join(wrong)}")


class Network:
    """Runs the layers one after the other."""

    def __init__(self, structure: bytes, weights: bytes) -> None:
        """Load the two files.

        Raises:
            ValueError: they are damaged, or hold a layer that is not known here.
        """
        magic, _, *lines = structure.decode().splitlines()
        if magic != _MAGIC:
            raise ValueError(f"not an ncnn model: {magic!r} instead of {_MAGIC!r}")
        stored = _Weights(weights)
        layers = [_layer(line) for line in lines if line.strip()]
        self.steps = [(layer, _operation(layer, stored)) for layer in layers]
        if left := stored.left:
            raise ValueError(f"{left} bytes of the weights are of no layer")

    @torch.inference_mode()
    def __call__(self, image: Tensor) -> Tensor:
        """Return the blob `output`, (1, C, H, W), for the blob `data`."""
        blobs = {"data": image}
        for layer, operation in self.steps:
            if layer.inputs:  # else it only names the input
                result = operation([blobs[name] for name in layer.inputs])
                blobs.update(dict.fromkeys(layer.outputs, result))
        return blobs["output"]


class _Weights:
    """A .bin file, read from front to back."""

    def __init__(self, data: bytes) -> None:
        self._data, self._place = data, 0

    @property
    def left(self) -> int:
        return len(self._data) - self._place

    def take(self, count: int, dtype: str = "<f4") -> Tensor:
        """Return the next numbers as float32."""
        size = count * np.dtype(dtype).itemsize
        if size > self.left:
            raise ValueError(f"the weights end {size - self.left} bytes too early")
        numbers = np.frombuffer(self._data, dtype, count, self._place)
        self._place += -(-size // 4) * 4  # what follows starts at a multiple of four
        return torch.tensor(numbers.astype(np.float32))

    def take_tagged(self, count: int) -> Tensor:
        """Return the next numbers, before which stands how they are stored."""
        if self.left < 4:
            raise ValueError("the weights end too early")
        (tag,) = np.frombuffer(self._data, "<u4", 1, self._place)
        self._place += 4
        if tag not in (_HALF, _FULL):
            raise ValueError(f"weights stored as {tag:#x} are not known here")
        return self.take(count, "<f2" if tag == _HALF else "<f4")


def _layer(line: str) -> Layer:
    kind, _, inputs, outputs, *words = line.split()
    ends = int(inputs), int(inputs) + int(outputs)
    settings, arrays = {}, {}
    for word in words[ends[1] :]:
        number, value = word.split("=")
        if int(number) <= _ARRAY:
            arrays[_ARRAY - int(number)] = [float(part) for part in value.split(",")[1:]]
        else:
            settings[int(number)] = float(value)
    return Layer(kind, words[: ends[0]], words[ends[0] : ends[1]], settings, arrays)


def _operation(layer: Layer, stored: _Weights) -> Operation:
    if layer.kind not in _KINDS:
        raise ValueError(f"layer {layer.kind} is not known here, only {sorted(_KINDS)}")
    return _KINDS[layer.kind](layer, stored)


def _first(_layer: Layer, _stored: _Weights) -> Operation:
    return lambda blobs: blobs[0]


def _convolution(layer: Layer, stored: _Weights) -> Operation:
    known = layer.settings
    channels, side, padding = (int(known.get(number, 0)) for number in (0, 1, 4))
    layer.check(
        stride_1=known.get(3, 1) == 1,
        no_dilation=known.get(2, 1) == 1,
        has_bias=known.get(5) == 1,
        leaky_or_linear=known.get(9, 0) in (0, 2),
    )
    weight = stored.take_tagged(int(known[6])).view(channels, -1, side, side)
    bias = stored.take(channels)
    slope = layer.arrays[10][0] if known.get(9) == 2 else 1.0

    def convolve(blobs: Sequence[Tensor]) -> Tensor:
        result = functional.conv2d(blobs[0], weight, bias, padding=padding)
        return result if slope == 1 else functional.leaky_relu(result, slope)

    return convolve


def _prelu(layer: Layer, stored: _Weights) -> Operation:
    slopes = stored.take(int(layer.settings[0]))
    return lambda blobs: functional.prelu(blobs[0], slopes)


def _concat(_layer: Layer, _stored: _Weights) -> Operation:
    return lambda blobs: torch.cat(list(blobs), dim=1)


def _weighted_sum(layer: Layer, _stored: _Weights) -> Operation:
    layer.check(is_sum=layer.settings.get(0) == 1)
    factors = layer.arrays.get(1, [1.0] * len(layer.inputs))

    def add(blobs: Sequence[Tensor]) -> Tensor:
        first, *others = (blob * factor for blob, factor in zip(blobs, factors, strict=True))
        return sum(others, first)

    return add


def _add(layer: Layer, _stored: _Weights) -> Operation:
    layer.check(is_sum=layer.settings.get(0, 0) == 0, of_two=len(layer.inputs) == 2)
    return lambda blobs: blobs[0] + blobs[1]


def _enlarge(layer: Layer, _stored: _Weights) -> Operation:
    factor = layer.settings.get(1, 0.0)
    layer.check(nearest=layer.settings.get(0) == 1, square=layer.settings.get(2) == factor)
    return lambda blobs: functional.interpolate(blobs[0], scale_factor=factor, mode="nearest")


def _shuffle(layer: Layer, _stored: _Weights) -> Operation:
    layer.check(channels_first=layer.settings.get(1, 0) == 0)
    return lambda blobs: functional.pixel_shuffle(blobs[0], int(layer.settings[0]))


_KINDS: dict[str, Callable[[Layer, _Weights], Operation]] = {
    "BinaryOp": _add,
    "Concat": _concat,
    "Convolution": _convolution,
    "Eltwise": _weighted_sum,
    "Input": _first,
    "Interp": _enlarge,
    "PReLU": _prelu,
    "PixelShuffle": _shuffle,
    "Split": _first,
}
