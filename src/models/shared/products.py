"""Products of matrices on a CPU by oneDNN instead of MKL.

MKL has one set of kernels that give the same bits on every vendor's processors, and it is the
oldest: 4 numbers at a time. oneDNN, held to AVX2 (see core.processor), gives the same bits on all
that have it, 2.5 times as fast. PyTorch offers no switch between them, so its two products of
float32 matrices are registered anew; gradients, which are such products too, follow.
"""

from functools import cache
from typing import Any

import torch
from torch import Tensor

_LARGE = 2**20  # numbers in a matrix that is cheaper to copy than to read column by column


@cache
def use_onednn() -> torch.library.Library:
    """Make oneDNN multiply float32 matrices on the CPU for the rest of the process."""
    library = torch.library.Library("aten", "IMPL")  # type: ignore[no-untyped-call]
    default_mm = torch.library.get_kernel("aten::mm", "CPU")
    default_addmm = torch.library.get_kernel("aten::addmm", "CPU")

    def mm(keys: Any, left: Tensor, right: Tensor) -> Tensor:
        if _suits(left, right):
            return _product(left, right, None)
        product: Tensor = default_mm.call_boxed(keys, left, right)
        return product

    def addmm(
        keys: Any, bias: Tensor, left: Tensor, right: Tensor, *, beta: float = 1, alpha: float = 1
    ) -> Tensor:
        plain = beta == alpha == 1 and bias.dim() == 1 and len(bias) == right.shape[1]
        if plain and _suits(left, right, bias):
            return _product(left, right, bias)
        product: Tensor = default_addmm.call_boxed(keys, bias, left, right, beta=beta, alpha=alpha)
        return product

    library.impl("mm", mm, "CPU", with_keyset=True)  # type: ignore[no-untyped-call]
    library.impl("addmm", addmm, "CPU", with_keyset=True)  # type: ignore[no-untyped-call]
    return library


def _suits(*matrices: Tensor) -> bool:
    return all(matrix.dtype == torch.float32 and matrix.numel() for matrix in matrices)


def _product(left: Tensor, right: Tensor, bias: Tensor | None) -> Tensor:
    rows = right.T  # (n, k): a layer's weights, as oneDNN sees it
    if rows.numel() >= _LARGE:
        rows = rows.contiguous()
    product: Tensor = torch.ops.mkldnn._linear_pointwise(left, rows, bias, "none", [], "")
    return product
