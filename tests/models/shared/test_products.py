import pytest
import torch
from torch import Tensor, nn

from src.models.shared import products
from src.models.shared.products import use_onednn


@pytest.fixture(autouse=True)
def onednn() -> None:
    use_onednn()


def random(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0)) - 0.5


def test_products_agree_with_those_in_double_precision() -> None:
    left, right, bias = random(5, 70), random(70, 9), random(9)
    for a, b in ((left, right), (left.T.contiguous().T, right.T.contiguous().T)):
        torch.testing.assert_close(a @ b, (a.double() @ b.double()).float())
        expected = (a.double() @ b.double() + bias).float()
        torch.testing.assert_close(torch.addmm(bias, a, b), expected)


def test_a_large_matrix_gives_the_same_bits_copied_or_not(monkeypatch: pytest.MonkeyPatch) -> None:
    left, right = random(5, 70), random(70, 9)
    product = left @ right
    monkeypatch.setattr(products, "_LARGE", 1)
    assert torch.equal(left @ right, product)


def test_gradients_agree_with_those_in_double_precision() -> None:
    layer = nn.Linear(70, 9)
    exact = nn.Linear(70, 9, dtype=torch.float64)
    exact.load_state_dict(layer.state_dict())
    pixels = random(4, 5, 70).requires_grad_()
    layer(pixels).square().sum().backward()
    copy = pixels.detach().double().requires_grad_()
    exact(copy).square().sum().backward()
    assert pixels.grad is not None
    assert copy.grad is not None
    torch.testing.assert_close(pixels.grad, copy.grad.float(), atol=1e-5, rtol=1e-4)
    for mine, other in zip(layer.parameters(), exact.parameters(), strict=True):
        assert mine.grad is not None
        assert other.grad is not None
        torch.testing.assert_close(mine.grad, other.grad.float(), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.int64])
def test_other_numbers_are_multiplied_as_before(dtype: torch.dtype) -> None:
    ones = torch.ones(3, 3, dtype=dtype)
    assert torch.equal(ones @ ones, 3 * ones)


def test_unusual_sums_are_added_as_before() -> None:
    ones = torch.ones(3, 3)
    assert torch.equal(torch.addmm(ones, ones, ones, beta=2, alpha=3), 11 * ones)
    assert torch.equal(torch.addmm(ones, ones, ones), 4 * ones)
    assert (torch.ones(3, 0) @ torch.ones(0, 3) == 0).all()
