"""From the encoder's output to what the decoder gets: scaled, rounded, partly missing; and the bits that this takes."""

from __future__ import annotations

import torch
from torch import Tensor

LEAST_SCALE = 0.04
PACKET_BITS = 3.0  # to say which table codes a packet


def rounded(levels: Tensor) -> Tensor:
    """Round; gradients pass as if it did not."""
    return levels + (levels.round() - levels).detach()


def in_strips(levels: Tensor, strips: int) -> Tensor:
    """Return (N, C, H, W) as packets (N, C, strips, elements)."""
    images, channels = levels.shape[:2]
    return levels.reshape(images, channels, strips, -1)


def bits(levels: Tensor, noise: Tensor, strips: int) -> Tensor:
    """Return the bits (N, C, strips) of packets of levels: Laplace, each with its own scale; noise for rounding."""
    packets = in_strips(levels, strips)
    scale = packets.abs().mean(-1, keepdim=True).clamp(min=LEAST_SCALE)
    size = (packets + in_strips(noise, strips)).abs()
    inside = 1 - 0.5 * (torch.exp(-(size + 0.5) / scale) + torch.exp(-(0.5 - size).clamp(min=0) / scale))
    outside = 0.5 * torch.exp(-(size - 0.5).clamp(min=0) / scale) * (1 - torch.exp(-1 / scale))
    chance = torch.where(size < 0.5, inside, outside)
    return PACKET_BITS - torch.log2(chance.clamp(min=1e-7)).sum(-1)


def as_seen(levels: Tensor, steps: Tensor, there: Tensor) -> Tensor:
    """Return the decoder's input (N, 2C, H, W) from whole levels, steps (N,) and packets (N, C, strips), 1 or 0.

    Packets of zeros are not sent, so they look as if they were missing.
    """
    there = there * (in_strips(levels, there.shape[2]) != 0).any(-1)
    height = levels.shape[2]
    present = there.repeat_interleave(height // there.shape[2], 2)[..., None].expand_as(levels)
    mask = present * (1 / (1 + steps.detach()))[:, None, None, None]
    return torch.cat([levels * steps[:, None, None, None] * present, mask], 1)
