"""Microsoft's vision branch of BEiT-3, written down from its publication for a comparison.

Source: microsoft/torchscale (MIT), `BEiT3` with `multiway` and `subln`, and microsoft/unilm's
`BEiT3ForImageClassification`: the names and shapes of its parameters, and what they are used for.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, linear


class Pair(nn.Module):
    """Branch A sees images, branch B texts; only A is used here."""

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.A, self.B = first, second

    def forward(self, tokens: Tensor) -> Tensor:
        result: Tensor = self.A(tokens)
        return result


def pair_of_linear(inputs: int, outputs: int) -> Pair:
    return Pair(nn.Linear(inputs, outputs), nn.Linear(inputs, outputs))


def pair_of_norms(width: int) -> Pair:
    return Pair(nn.LayerNorm(width, eps=1e-5), nn.LayerNorm(width, eps=1e-5))


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.k_proj = pair_of_linear(width, width)
        self.v_proj = pair_of_linear(width, width)
        self.q_proj = pair_of_linear(width, width)
        self.out_proj = pair_of_linear(width, width)
        self.inner_attn_ln = pair_of_norms(width)

    def forward(self, tokens: Tensor) -> Tensor:
        images, length, width = tokens.shape
        shape = images, length, self.heads, width // self.heads
        query, key, value = (
            project(tokens).view(shape).transpose(1, 2)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        weights = (query * shape[3] ** -0.5) @ key.transpose(2, 3)
        mixed = weights.softmax(3) @ value
        result: Tensor = self.out_proj(self.inner_attn_ln(mixed.transpose(1, 2).flatten(2)))
        return result


class FeedForward(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.ffn_layernorm = nn.LayerNorm(hidden, eps=1e-5)

    def forward(self, tokens: Tensor) -> Tensor:
        result: Tensor = self.fc2(self.ffn_layernorm(gelu(self.fc1(tokens))))
        return result


class Layer(nn.Module):
    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.self_attn = Attention(width, heads)
        self.self_attn_layer_norm = pair_of_norms(width)
        self.ffn = Pair(FeedForward(width, hidden), FeedForward(width, hidden))
        self.final_layer_norm = pair_of_norms(width)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.self_attn(self.self_attn_layer_norm(tokens))
        changed: Tensor = self.ffn(self.final_layer_norm(tokens))
        return tokens + changed


class OfficialBeit3(nn.Module):
    """The classifier; its state dict has the layout of the official checkpoints."""

    def __init__(self, size: int, patch: int, width: int, depth: int, heads: int) -> None:
        super().__init__()
        tokens = (size // patch) ** 2 + 1
        embed, encoder = nn.Module(), nn.Module()
        embed.proj = nn.Conv2d(3, width, patch, patch)
        embed.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        embed.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        # Counting starts at two, as in fairseq.
        encoder.embed_positions = Pair(nn.Embedding(tokens + 2, width), nn.Embedding(9, width))
        encoder.layers = nn.ModuleList(Layer(width, heads, 4 * width) for _ in range(depth))
        self.beit3 = nn.Module()
        self.beit3.text_embed = nn.Embedding(7, width)
        self.beit3.vision_embed, self.beit3.encoder = embed, encoder
        self.fc_norm = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Linear(width, 2)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return logits (B, 2) of normalised pixels (B, 3, size, size)."""
        embed = self.beit3.get_submodule("vision_embed")
        encoder = self.beit3.get_submodule("encoder")
        patches = embed.get_submodule("proj")(pixels).flatten(2).transpose(1, 2)
        start = embed.get_parameter("cls_token").expand(len(pixels), -1, -1)
        tokens = torch.cat([start, patches], 1)
        positions = encoder.get_parameter("embed_positions.A.weight")
        tokens = tokens + positions[2 : 2 + tokens.shape[1]]
        layers = encoder.get_submodule("layers")
        assert isinstance(layers, nn.ModuleList)
        for layer in layers:
            tokens = layer(tokens)
        pooled = self.fc_norm(tokens[:, 1:].mean(1))
        return linear(pooled, self.head.weight, self.head.bias)
