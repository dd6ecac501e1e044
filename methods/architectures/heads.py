"""Task-specific heads h_i: features to outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from methods.contract import Features


def linear_head(features: Features, outputs: int) -> nn.Module:
    """(B, channels) -> (B, outputs)."""
    return nn.Linear(features.channels, outputs)


class FrozenReadout(nn.Module):
    """C z with C (outputs, channels) fixed: no parameters, the same C for every task with as many outputs.

    Row k of C is (cos kθ, sin kθ, cos 2kθ, sin 2kθ, …) with θ = 2π / outputs.
    """

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        harmonics = torch.arange(channels, dtype=torch.float64) // 2 + 1
        angles = 2 * torch.pi / outputs * torch.arange(outputs, dtype=torch.float64).outer(harmonics)
        even = torch.arange(channels) % 2 == 0
        self.readout: Tensor
        self.register_buffer("readout", torch.where(even, angles.cos(), angles.sin()).float(), persistent=False)

    def forward(self, z: Tensor) -> Tensor:
        return nn.functional.linear(z, self.readout)


def frozen_readout(features: Features, outputs: int) -> nn.Module:
    """(B, channels) -> (B, outputs), not trained: what differs between tasks must be in the features."""
    return FrozenReadout(features.channels, outputs)


def conv_head(features: Features, outputs: int) -> nn.Module:
    """(B, channels, h, w) -> (B, outputs, H, W): one 3×3 convolution, a 1×1 one, and bilinear enlargement."""
    width = features.channels // 2
    return nn.Sequential(
        nn.Conv2d(features.channels, width, kernel_size=3, padding=1, bias=False),
        nn.GroupNorm(4, width),
        nn.ReLU(),
        nn.Conv2d(width, outputs, kernel_size=1),
        _enlarge(features),
    )


def aspp_head(features: Features, outputs: int) -> nn.Module:
    """(B, channels, h, w) -> (B, outputs, H, W): atrous spatial pyramid pooling, as in DeepLabV3."""
    from torchvision.models.segmentation.deeplabv3 import DeepLabHead  # slow to import

    return nn.Sequential(DeepLabHead(features.channels, outputs), _enlarge(features))


def _enlarge(features: Features) -> nn.Module:
    return nn.Upsample(scale_factor=features.stride, mode="bilinear", align_corners=False)


HEADS: Mapping[str, Callable[[Features, int], nn.Module]] = {
    "linear": linear_head,
    "frozen_readout": frozen_readout,
    "conv": conv_head,
    "aspp": aspp_head,
}
DENSE_HEADS = frozenset({"conv", "aspp"})  # they read feature maps; the others read vectors
