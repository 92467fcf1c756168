import numpy as np
import pytest
import torch

from src.sources.synthesis.ncnn_model import Network

HALF, FULL = np.uint32(0x01306B47).tobytes(), np.uint32(0).tobytes()


def structure(*layers: str) -> bytes:
    return "\n".join(["7767517", f"{len(layers)} {len(layers)}", *layers, ""]).encode()


def run(layers: list[str], weights: bytes, image: torch.Tensor) -> torch.Tensor:
    return Network(structure("Input in 0 1 data", *layers), weights)(image)


@pytest.mark.parametrize(("tag", "dtype"), [(HALF, "<f2"), (FULL, "<f4")])
def test_a_convolution_against_a_hand_computed_one(tag: bytes, dtype: str) -> None:
    layer = "Convolution c 1 1 data output 0=1 1=1 4=0 5=1 6=3 9=2 -23310=1,2.500000e-01"
    # Three weights of 16 bits leave a gap before the bias.
    stored = np.array([1.0, -2.0, 0.5], dtype).tobytes()
    stored += b"\0" * (-len(stored) % 4) + np.array([0.25], "<f4").tobytes()
    image = torch.tensor([[4.0, 1.0], [1.0, 3.0], [2.0, 2.0]]).view(1, 3, 1, 2)
    # 4 - 2 + 1 + 0.25 = 3.25; 1 - 6 + 1 + 0.25 = -3.75, a quarter of which passes
    assert run([layer], tag + stored, image).flatten().tolist() == [3.25, -0.9375]


def test_a_padded_convolution_keeps_the_size() -> None:
    layer = "Convolution c 1 1 data output 0=1 1=3 4=1 5=1 6=9"
    stored = FULL + np.array([*[1.0] * 9, 0.0], "<f4").tobytes()
    result = run([layer], stored, torch.ones(1, 1, 3, 3))
    assert result[0, 0].tolist() == [[4, 6, 4], [6, 9, 6], [4, 6, 4]]


def test_the_layers_without_weights() -> None:
    layers = [
        "Split s 1 2 data a b",
        "Concat c 2 1 a b both",
        "Eltwise e 2 1 both both sum 0=1 -23301=2,2.000000e-01,1.000000e+00",
        "BinaryOp add 2 1 sum both more",
        "PixelShuffle p 1 1 more shuffled 0=2",
        "Interp i 1 1 shuffled output 0=1 1=2.0 2=2.0",
    ]
    result = run(layers, b"", torch.tensor([10.0, 20.0]).view(1, 2, 1, 1))
    torch.testing.assert_close(result[0, 0, ::2, ::2], torch.tensor([[22.0, 44.0], [22.0, 44.0]]))
    assert result.shape == (1, 1, 4, 4)


def test_a_prelu_has_a_slope_for_each_channel() -> None:
    slopes = np.array([0.5, 0.25], "<f4").tobytes()
    image = torch.tensor([-4.0, -4.0]).view(1, 2, 1, 1)
    assert run(["PReLU p 1 1 data output 0=2"], slopes, image).flatten().tolist() == [-2.0, -1.0]


@pytest.mark.parametrize(
    ("layers", "weights", "message"),
    [
        (["LSTM l 1 1 data output"], b"", "layer LSTM is not known here"),
        (["PReLU p 1 1 data output 0=2"], b"\0" * 4, "end 4 bytes too early"),
        (["PReLU p 1 1 data output 0=1"], b"\0" * 8, "4 bytes of the weights are of no layer"),
        (["Convolution c 1 1 data output 0=1 1=1 5=1 6=1"], b"", "end too early"),
        (["Convolution c 1 1 data output 0=1 1=1 3=2 5=1 6=1"], FULL, "stride_1"),
        (
            ["Convolution c 1 1 data output 0=1 1=1 5=1 6=4"],
            np.uint32(0x000D4B38).tobytes(),
            "weights stored as 0xd4b38",
        ),
    ],
)
def test_what_is_not_known_is_refused(layers: list[str], weights: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Network(structure("Input in 0 1 data", *layers), weights)


def test_another_kind_of_file_is_refused() -> None:
    with pytest.raises(ValueError, match="not an ncnn model"):
        Network(b"PK\n3 3\n", b"")
