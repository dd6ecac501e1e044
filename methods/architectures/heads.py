"""Task-specific heads h_i: features to outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import nn

from methods.contract import Features


def linear_head(features: Features, outputs: int) -> nn.Module:
    """(B, channels) -> (B, outputs)."""
    return nn.Linear(features.channels, outputs)


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
    "conv": conv_head,
    "aspp": aspp_head,
}
DENSE_HEADS = frozenset({"conv", "aspp"})  # they read feature maps; the others read vectors
