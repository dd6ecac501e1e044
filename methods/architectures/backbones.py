"""Encoders f_θ: images (B, 3, H, W) to features, each with the shape of what it puts out.

torchvision is imported where it is used: it takes as long to import as torch itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from methods.contract import Features


class WeightsUnavailable(Exception):
    """Pretrained weights that can't be had; the message says where they were looked for and what to do."""


@dataclass(frozen=True)
class Backbone:
    """A row of the table of encoders: how one is made, what it puts out, torchvision's name of its ImageNet weights."""

    make: Callable[[], nn.Module]
    features: Features
    imagenet: str = ""


def _block(channels_in: int, channels_out: int, stride: int) -> nn.Sequential:
    # GroupNorm, not BatchNorm: in a multi-input problem each task's images pass alone in training, while BatchNorm's
    # running statistics, used in evaluation, would mix all tasks.
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, kernel_size=3, stride=stride, padding=1, bias=False),
        nn.GroupNorm(4, channels_out),
        nn.ReLU(),
    )


def small_encoder() -> nn.Module:
    """(B, 3, H, W) -> (B, 64): three strided convolutions and a mean over places."""
    return nn.Sequential(_block(3, 16, 1), _block(16, 32, 2), _block(32, 64, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def small_face_encoder() -> nn.Module:
    """(B, 3, H, W) -> (B, 256): four strided convolutions, then a mean over the quarters of the image.

    Quarters, as in the published CelebA networks: where in the face something is tells the attributes apart.
    """
    return nn.Sequential(
        _block(3, 16, 2), _block(16, 32, 2), _block(32, 64, 2), _block(64, 64, 2), nn.AdaptiveAvgPool2d(2), nn.Flatten()
    )


def small_dense_encoder() -> nn.Module:
    """(B, 3, H, W) -> (B, 64, H/4, W/4)."""
    return nn.Sequential(_block(3, 32, 2), _block(32, 64, 2), _block(64, 64, 1), _block(64, 64, 1))


def resnet18_encoder() -> nn.Module:
    """(B, 3, H, W) -> (B, 512)."""
    from torchvision.models import resnet18

    network: nn.Module = resnet18()
    network.fc = nn.Identity()
    return network


def resnet18_quarters_encoder() -> nn.Module:
    """(B, 3, H, W) -> (B, 2048): the mean over each quarter of the last map, 4 · 512 features."""
    network = resnet18_encoder()
    network.avgpool = nn.AdaptiveAvgPool2d(2)
    return network


def dilate(stage: nn.Module, dilation: int) -> None:
    """Turns a ResNet stage's stride into dilation, so that its maps keep their size.

    torchvision's BasicBlock refuses dilation when built, but its convolutions carry it well.
    Source: Yu, Koltun, Funkhouser, "Dilated residual networks" (CVPR 2017).
    """
    for module in stage.modules():
        if not isinstance(module, nn.Conv2d):
            continue
        strided = module.stride == (2, 2)
        module.stride = (1, 1)
        if module.kernel_size == (3, 3):
            # The convolution that used to stride still sees undilated neighbours.
            spread = dilation // 2 if strided else dilation
            module.dilation, module.padding = (spread, spread), (spread, spread)


def resnet18_dilated_encoder() -> nn.Module:
    """(B, 3, H, W) -> (B, 512, H/8, W/8)."""
    from torchvision.models import resnet18

    network = resnet18()
    dilate(network.layer3, 2)
    dilate(network.layer4, 4)
    stem = [network.conv1, network.bn1, network.relu, network.maxpool]
    return nn.Sequential(*stem, network.layer1, network.layer2, network.layer3, network.layer4)


BACKBONES: Mapping[str, Backbone] = {
    "small": Backbone(small_encoder, Features(channels=64, dense=False, stride=1)),
    "small_face": Backbone(small_face_encoder, Features(channels=256, dense=False, stride=1)),
    "small_dense": Backbone(small_dense_encoder, Features(channels=64, dense=True, stride=4)),
    "resnet18": Backbone(
        resnet18_encoder, Features(channels=512, dense=False, stride=1), "ResNet18_Weights.IMAGENET1K_V1"
    ),
    "resnet18_quarters": Backbone(
        resnet18_quarters_encoder, Features(channels=2048, dense=False, stride=1), "ResNet18_Weights.IMAGENET1K_V1"
    ),
    "resnet18_dilated": Backbone(
        resnet18_dilated_encoder, Features(channels=512, dense=True, stride=8), "ResNet18_Weights.IMAGENET1K_V1"
    ),
}

# torchvision's names for the parts that `resnet18_dilated_encoder` puts in a row.
_STEM_ORDER = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")


def load_weights(encoder: nn.Module, backbone: Backbone, weights: str) -> None:
    """Loads "imagenet" weights (torchvision's, fetched once into its cache), those of a state-dict file, or "none".

    Raises:
        WeightsUnavailable: they can't be fetched, read, or don't fit.
    """
    if weights == "none":
        return
    if weights == "imagenet":
        state = _imagenet_state(backbone)
    else:
        path = Path(weights).expanduser()
        if not path.is_file():
            raise WeightsUnavailable(
                f"Expected `backbone.weights` to be none, imagenet or a file with a state dict, found {weights!r}."
            )
        state = torch.load(path, map_location="cpu", weights_only=True)
    state = {key: value for key, value in state.items() if not key.startswith("fc.")}
    if isinstance(encoder, nn.Sequential):
        state = {_renamed(key): value for key, value in state.items()}
    try:
        encoder.load_state_dict(state)
    except RuntimeError as error:
        fault = str(error).splitlines()[-1].strip()
        raise WeightsUnavailable(f"The weights {weights!r} don't fit the encoder: {fault}") from error


def _imagenet_state(backbone: Backbone) -> Mapping[str, Tensor]:
    from torchvision.models import get_weight

    if not backbone.imagenet:
        raise WeightsUnavailable("This backbone has no ImageNet weights: use --set backbone.weights=none.")
    weights = get_weight(backbone.imagenet)
    try:
        state: Mapping[str, Tensor] = weights.get_state_dict(progress=False, check_hash=True)
    except OSError as error:
        raise WeightsUnavailable(
            f"Expected to fetch ImageNet weights from {weights.url}, found no way ({error}); give a local "
            "file with --set backbone.weights=PATH, or train from scratch with --set backbone.weights=none."
        ) from error
    return state


def _renamed(key: str) -> str:
    part, _, rest = key.partition(".")
    return f"{_STEM_ORDER.index(part)}.{rest}" if part in _STEM_ORDER else key
