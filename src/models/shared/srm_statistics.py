"""Statistics of noise residuals: their co-occurrences, and a radial spectrum.

Source: Fridrich, Kodovský 2012, doi:10.1109/TIFS.2012.2190402 (spatial rich model): residuals of
high-pass filters, quantised, truncated and counted by neighbours; by colours as well, as in Goljan,
Fridrich, Cogranne 2014, doi:10.1109/WIFS.2014.7084325; rings of the spectrum from Durall, Keuper,
Keuper 2020, arXiv:2003.01826. Differs: four filters without minima and maxima of their directions;
three neighbours instead of four; square roots of shares, which a linear layer tells apart better;
a spectrum of blocks, whose rings mean the same at any image size.
"""

from itertools import product
from math import pi

import torch
from torch import Tensor, nn

from src.models.shared.blueprint import full_precision

_ROWS, _COLUMNS = 2, 3  # dimensions of pixels (B, 3, H, W)
# Of differences of neighbouring pixels; as in SRM, order n is counted in steps of n grey levels.
_ORDERS = 1, 2, 3
_SQUARE_STEP = 4  # grey levels, of second differences along rows and columns
_LIMIT = 2  # steps: residuals beyond count as this
_VALUES = 2 * _LIMIT + 1
BLOCK = 32  # pixels a side of a block of the spectrum: the smallest image
_RINGS = 16  # of frequency, to 0.5 cycles per pixel
_LUMA = 0.299, 0.587, 0.114  # ITU-R BT.601, as in JPEG


class CoOccurrences(nn.Module):
    """How often three quantised residuals occur beside each other, and in a pixel's colours."""

    neighbours: Tensor
    colours: Tensor

    def __init__(self) -> None:
        """Prepare the tables of triples that count as one; they are no weights."""
        super().__init__()
        self.register_buffer("neighbours", _symmetric(reversible=True), persistent=False)
        self.register_buffer("colours", _symmetric(reversible=False), persistent=False)
        lines = 2 * len(_ORDERS) + 1  # along and across differences, and of the square
        self.dims = lines * self.neighbours.shape[1] + (len(_ORDERS) + 1) * self.colours.shape[1]

    def forward(self, levels: Tensor) -> Tensor:
        """Return roots of shares (B, dims) for whole grey levels (B, 3, H, W) in 0..255."""
        parts = []
        for order in _ORDERS:
            down, right = (
                _quantised(_differences(levels, dim, order), order) for dim in (_ROWS, _COLUMNS)
            )
            along = [_triples(down, _ROWS), _triples(right, _COLUMNS)]
            across = [_triples(down, _COLUMNS), _triples(right, _ROWS)]
            parts += [_shares(along, self.neighbours), _shares(across, self.neighbours)]
            parts += [_shares([_of_colours(down), _of_colours(right)], self.colours)]
        square = _quantised(_differences(_differences(levels, _ROWS, 2), _COLUMNS, 2), _SQUARE_STEP)
        both = [_triples(square, _ROWS), _triples(square, _COLUMNS)]
        parts += [_shares(both, self.neighbours), _shares([_of_colours(square)], self.colours)]
        return torch.cat(parts, 1).sqrt()


class BlockSpectrum(nn.Module):
    """Power of luma in rings of frequency, the mean over half-overlapping blocks."""

    window: Tensor
    waves: Tensor
    rings: Tensor

    def __init__(self) -> None:
        """Prepare window, Fourier matrix and rings; they are no weights."""
        super().__init__()
        window = torch.hann_window(BLOCK + 2, periodic=False)[1:-1]
        self.register_buffer("window", window.outer(window), persistent=False)
        # Products of matrices, which every device and ONNX have; a block is small.
        steps = torch.arange(BLOCK).float()
        angles = 2 * pi / BLOCK * steps.outer(steps)  # (frequency, position)
        waves = torch.stack([angles.cos(), angles.sin()])
        self.register_buffer("waves", waves, persistent=False)
        self.register_buffer("rings", _rings(), persistent=False)
        self.dims = _RINGS

    def forward(self, levels: Tensor) -> Tensor:
        """Return log power (B, rings) of grey levels (B, 3, H, W), H and W at least a block."""
        luma = torch.einsum("bchw,c->bhw", levels, levels.new_tensor(_LUMA))
        blocks = luma.unfold(1, BLOCK, BLOCK // 2).unfold(2, BLOCK, BLOCK // 2).flatten(1, 2)
        blocks = (blocks - blocks.mean((2, 3), keepdim=True)) * self.window  # (B, blocks, 32, 32)
        cos, sin = self.waves
        over_rows = cos @ blocks, sin @ blocks
        real = over_rows[0] @ cos - over_rows[1] @ sin
        imaginary = over_rows[0] @ sin + over_rows[1] @ cos
        power = (real.square() + imaginary.square()).mean(1) / self.window.sum()
        # A flat image has no power; one grey level squared is below any noise.
        rings: Tensor = power.flatten(1) @ self.rings  # (B, rings)
        return (rings + 1).log()


class Statistics(nn.Module):
    """All that the head sees of an image."""

    def __init__(self) -> None:
        """Put the two kinds of statistics together."""
        super().__init__()
        self.residuals, self.spectrum = CoOccurrences(), BlockSpectrum()
        self.dims = self.residuals.dims + self.spectrum.dims

    def forward(self, pixels: Tensor) -> Tensor:
        """Return statistics (B, dims) of RGB (B, 3, H, W) in 0..255."""
        # Sums of whole numbers are exact on every device; half precision has too few of them.
        with full_precision(pixels):
            levels = pixels.float().round()
            return torch.cat([self.residuals(levels), self.spectrum(levels)], 1)


def _symmetric(reversible: bool) -> Tensor:
    """Return which triples count as which, (_VALUES ** 3, kinds), 1 where they do.

    A triple and its negative are one, and so is what it reads backwards if it is `reversible`:
    a picture has no preferred sign, and no preferred side.
    """
    kinds: dict[tuple[int, ...], int] = {}
    kind_of = []
    for triple in product(range(-_LIMIT, _LIMIT + 1), repeat=3):
        negative = tuple(-value for value in triple)
        alike = [triple, negative]
        if reversible:
            alike += [triple[::-1], negative[::-1]]
        kind_of.append(kinds.setdefault(min(alike), len(kinds)))
    return (torch.tensor(kind_of).unsqueeze(1) == torch.arange(len(kinds))).float()


def _rings() -> Tensor:
    """Return the weight of each frequency in each ring, (BLOCK ** 2, _RINGS)."""
    frequency = torch.fft.fftfreq(BLOCK)
    distance = torch.hypot(frequency.unsqueeze(1), frequency).flatten()
    # The corners beyond 0.5 cycles per pixel are in none.
    ring = (distance * 2 * _RINGS).long().unsqueeze(1) == torch.arange(_RINGS)
    return ring / ring.sum(0)


def _differences(levels: Tensor, dim: int, order: int) -> Tensor:
    """Return the differences of neighbours along `dim`, `order` times; ONNX has no `diff`."""
    for _ in range(order):
        count = levels.shape[dim] - 1
        levels = levels.narrow(dim, 1, count) - levels.narrow(dim, 0, count)
    return levels


def _quantised(residuals: Tensor, step: int) -> Tensor:
    """Return residuals in steps, 0 to _VALUES - 1, int64."""
    return ((residuals / step).round().clamp(-_LIMIT, _LIMIT) + _LIMIT).long()


def _triples(values: Tensor, dim: int) -> Tensor:
    """Return a number for each three neighbours along `dim`, (B, triples)."""
    count = values.shape[dim] - 2
    first, second, third = (values.narrow(dim, start, count) for start in range(3))
    return ((first * _VALUES + second) * _VALUES + third).flatten(1)


def _of_colours(values: Tensor) -> Tensor:
    """Return a number for each three colours of a pixel, (B, pixels)."""
    return _triples(values, 1)


def _shares(triples: list[Tensor], kinds: Tensor) -> Tensor:
    """Return the share of each of `kinds` among triples (B, any), (B, kinds)."""
    numbers = torch.cat(triples, 1)
    counts = numbers.new_zeros(numbers.shape[0], len(kinds), dtype=torch.float32)
    ones = torch.ones_like(numbers, dtype=torch.float32)
    counts = counts.scatter_add(1, numbers, ones)  # exact: whole numbers
    return counts @ kinds / numbers.shape[1]
