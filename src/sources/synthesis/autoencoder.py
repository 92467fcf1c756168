"""A small variational autoencoder, trained on the sample's photographs when the sample is built.

What it gives back of a photograph is what latent-diffusion generators leave in every picture: the
marks of a decoder that invents what its latent code left out.
"""

from collections.abc import Sequence

import numpy as np
import torch
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.nn import functional

from src.core.arrays import UInt8Array

STRIDE = 4  # pixels per latent position
LATENT_CHANNELS = 4
WIDTH = 48
BATCH = 16
CROP = 48  # pixels
LEARNING_RATE = 2e-3
KL_WEIGHT = 1e-4
EDGE_WEIGHT = 1.0
THREADS = 1  # fixed: another number of threads sums in another order, and the last bits differ


class Residual(nn.Module):
    """Two convolutions beside an identity."""

    def __init__(self) -> None:
        """Keep width and size."""
        super().__init__()
        self.first = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
        self.second = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the same shape, (B, WIDTH, H, W)."""
        change: Tensor = self.second(functional.silu(self.first(functional.silu(x))))
        return x + change


class Autoencoder(nn.Module):
    """Images (B, 3, H, W) in [-1, 1] to a code (B, 2 * LATENT_CHANNELS, H / 4, W / 4) and back."""

    def __init__(self) -> None:
        """Draw the weights from torch's global generator."""
        super().__init__()
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(STRIDE),
            nn.Conv2d(3 * STRIDE**2, WIDTH, 3, padding=1),
            Residual(),
            Residual(),
            nn.Conv2d(WIDTH, 2 * LATENT_CHANNELS, 1),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(LATENT_CHANNELS, WIDTH, 3, padding=1),
            Residual(),
            Residual(),
            Residual(),
            nn.Conv2d(WIDTH, 3 * STRIDE**2, 3, padding=1),
            nn.PixelShuffle(STRIDE),
        )

    def forward(self, images: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Return the images after the round trip and the code's divergence from a unit Gaussian."""
        mean, log_variance = self.encoder(images).chunk(2, dim=1)
        log_variance = log_variance.clamp(-20, 10)
        code = mean + noise * torch.exp(log_variance / 2)
        divergence = (mean.square() + log_variance.exp() - 1 - log_variance).mean() / 2
        return self.decoder(code), divergence


def train(images: Sequence[UInt8Array], steps: int) -> bytes:
    """Return the weights, as safetensors, of an autoencoder trained on `images` (H, W, 3), RGB.

    The same images give the same bytes (see core.processor).
    """
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    model = Autoencoder()
    # Fused: other square roots come from MKL, which takes others on each vendor's processors.
    optimiser = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, steps)
    for _ in range(steps):
        batch = _batch(images, random)
        noise = torch.randn(BATCH, LATENT_CHANNELS, CROP // STRIDE, CROP // STRIDE)
        restored, divergence = model(batch, noise)
        loss = _difference(restored, batch) + KL_WEIGHT * divergence
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return save(model.state_dict())


class RoundTrip:
    """A photograph encoded and decoded again by a trained autoencoder."""

    def __init__(self, weights: bytes) -> None:
        """Load the safetensors that `train` returned."""
        torch.set_num_threads(1)
        self.model = Autoencoder().eval()
        self.model.load_state_dict(load(weights))

    def __call__(self, image: UInt8Array) -> UInt8Array:
        """Return `image` (H, W, 3), sides divisible by the stride, after the round trip."""
        with torch.inference_mode():
            restored, _ = self.model(_tensor(image[np.newaxis]), torch.zeros(()))
        pixels = (restored[0].permute(1, 2, 0).numpy() + 1) * 127.5  # (H, W, 3)
        result: UInt8Array = np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
        return result


def _batch(images: Sequence[UInt8Array], random: np.random.Generator) -> Tensor:
    crops = []
    for index in random.integers(len(images), size=BATCH):
        height, width, _ = images[index].shape
        top, left = random.integers(height - CROP + 1), random.integers(width - CROP + 1)
        crops.append(images[index][top : top + CROP, left : left + CROP])
    return _tensor(np.stack(crops))


def _tensor(images: UInt8Array) -> Tensor:
    return torch.tensor(images).permute(0, 3, 1, 2).float() / 127.5 - 1  # (B, 3, H, W)


def _difference(restored: Tensor, images: Tensor) -> Tensor:
    # Colours and the steps between neighbours: the steps alone keep edges from washing out.
    error = restored - images
    edges = error.diff(dim=2).abs().mean() + error.diff(dim=3).abs().mean()
    return error.abs().mean() + EDGE_WEIGHT * edges
