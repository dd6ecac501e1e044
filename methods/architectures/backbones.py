"""Encoders f_θ: images (B, 3, H, W) to features, each with the shape of its output.

torchvision is imported where it is used: it takes as long to import as torch itself.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from pickle import UnpicklingError

import torch
from torch import Tensor, nn

from methods.contract import Features


class WeightsUnavailable(Exception):
    """Pretrained weights that are not available; the message says where they were expected and what to do."""


@dataclass(frozen=True)
class Backbone:
    """A row of the registry of encoders: how to make one, its output, torchvision's name of its ImageNet weights."""

    make: Callable[[], nn.Module]
    features: Features
    imagenet: str = ""


def _block(channels_in: int, channels_out: int, stride: int, *, patches: bool = False) -> nn.Sequential:
    """A convolution over 3 × 3 pixels, or over patches that don't overlap; GroupNorm; ReLU."""
    size, padding = (stride, 0) if patches else (3, 1)
    # GroupNorm, not BatchNorm: in a multi-input problem each task's images form separate batches in training, while
    # BatchNorm's running statistics, used in evaluation, would mix all tasks.
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, size, stride, padding, bias=False),
        nn.GroupNorm(4, channels_out),
        nn.ReLU(),
    )


def small_encoder() -> nn.Module:
    """(B, 3, H, W) -> (B, 32): two strided convolutions, and a mean over positions."""
    return nn.Sequential(_block(3, 16, 2), _block(16, 32, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def small_face_encoder() -> nn.Module:
    """(B, 3, H, W) -> (B, 256): patches of 4 × 4, a strided convolution, and a mean over the quarters of the image.

    Quarters, as in the published CelebA networks: the position in the face distinguishes attributes. Patches, because
    gradients of forty tasks are forty backward passes, which take 2.5 times as long through three strided convolutions.
    """
    return nn.Sequential(_block(3, 32, 4, patches=True), _block(32, 64, 2), nn.AdaptiveAvgPool2d(2), nn.Flatten())


def small_dense_encoder() -> nn.Module:
    """(B, 3, H, W) -> (B, 32, H/4, W/4)."""
    return nn.Sequential(_block(3, 32, 2), _block(32, 32, 2))


def linear_encoder() -> nn.Module:
    """(B, 3, H, W) -> (B, 8): one linear map of the image, averaged to 3×3 pixels if it is larger."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(27, 8))


def resnet18_encoder() -> nn.Module:
    """(B, 3, H, W) -> (B, 512)."""
    from torchvision.models import resnet18

    network: nn.Module = resnet18()
    network.fc = nn.Identity()
    return network


def resnet18_quarters_encoder() -> nn.Module:
    """(B, 3, H, W) -> (B, 2048): the mean over each quarter of the last map, 4 · 512 features.

    For ImageNet weights on faces; with images of 64 × 64 the last map has one place per quarter.
    """
    network = resnet18_encoder()
    network.avgpool = nn.AdaptiveAvgPool2d(2)
    return network


def resnet18_64_encoder() -> nn.Module:
    """(B, 3, 64, 64) -> (B, 2048): ResNet-18 for small images, and the mean over each quarter of its 8 × 8 map.

    The stem is a 3 × 3 convolution with stride 1, without max-pooling. With torchvision's stem, which reduces images
    four times, the last map of a 64 × 64 image is 2 × 2 already.
    Source: the CelebA network of Sener & Koltun, "Multi-task learning as multi-objective optimization" (NeurIPS 2018).
    """
    network = resnet18_quarters_encoder()
    network.conv1 = nn.Conv2d(3, 64, kernel_size=3, stride=1, padding=1, bias=False)
    nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
    network.maxpool = nn.Identity()
    return network


def dilate(stage: nn.Module, dilation: int) -> None:
    """Turns a ResNet stage's stride into dilation, so that its maps keep their size.

    torchvision's BasicBlock refuses dilation when built, but its convolutions support it.
    Source: Yu, Koltun, Funkhouser, "Dilated residual networks" (CVPR 2017).
    """
    for module in stage.modules():
        if not isinstance(module, nn.Conv2d):
            continue
        strided = module.stride == (2, 2)
        module.stride = (1, 1)
        if module.kernel_size == (3, 3):
            # The convolution that was strided keeps the dilation of the stage before it.
            spread = dilation // 2 if strided else dilation
            module.dilation, module.padding = (spread, spread), (spread, spread)


def resnet18_dilated_encoder() -> nn.Module:
    """(B, 3, H, W) -> (B, 512, H/8, W/8)."""
    from torchvision.models import resnet18

    return _dilated(resnet18())


def resnet50_encoder() -> nn.Module:
    """(B, 3, H, W) -> (B, 2048)."""
    from torchvision.models import resnet50

    network: nn.Module = resnet50()
    network.fc = nn.Identity()
    return network


def resnet50_dilated_encoder() -> nn.Module:
    """(B, 3, H, W) -> (B, 2048, H/8, W/8)."""
    from torchvision.models import resnet50

    return _dilated(resnet50())


def _dilated(network: nn.Module) -> nn.Sequential:
    """A ResNet up to its last map, with dilation instead of stride in the last two stages."""
    dilate(network.get_submodule("layer3"), 2)
    dilate(network.get_submodule("layer4"), 4)
    return nn.Sequential(*(network.get_submodule(name) for name in _STEM_ORDER))


def last_block(encoder: nn.Module) -> nn.Module:
    """The last residual block, or the last convolution or pair of layers with what goes with it."""
    parts = [part for part in encoder.children() if any(True for _ in part.parameters())]
    if not any(any(True for _ in inner.parameters()) for part in parts for inner in part.children()):
        return encoder
    return last_block(parts[-1])


BACKBONES: Mapping[str, Backbone] = {
    "small": Backbone(small_encoder, Features(channels=32, dense=False, stride=1)),
    "small_face": Backbone(small_face_encoder, Features(channels=256, dense=False, stride=1)),
    "small_dense": Backbone(small_dense_encoder, Features(channels=32, dense=True, stride=4)),
    "linear": Backbone(linear_encoder, Features(channels=8, dense=False, stride=1)),
    "resnet18": Backbone(
        resnet18_encoder, Features(channels=512, dense=False, stride=1), "ResNet18_Weights.IMAGENET1K_V1"
    ),
    "resnet18_quarters": Backbone(
        resnet18_quarters_encoder, Features(channels=2048, dense=False, stride=1), "ResNet18_Weights.IMAGENET1K_V1"
    ),
    "resnet18_64": Backbone(resnet18_64_encoder, Features(channels=2048, dense=False, stride=1)),
    "resnet18_dilated": Backbone(
        resnet18_dilated_encoder, Features(channels=512, dense=True, stride=8), "ResNet18_Weights.IMAGENET1K_V1"
    ),
    "resnet50": Backbone(
        resnet50_encoder, Features(channels=2048, dense=False, stride=1), "ResNet50_Weights.IMAGENET1K_V1"
    ),
    "resnet50_dilated": Backbone(
        resnet50_dilated_encoder, Features(channels=2048, dense=True, stride=8), "ResNet50_Weights.IMAGENET1K_V1"
    ),
}

BOTTLENECK_CHANNELS = 512

# torchvision's names for the parts that `_dilated` puts in a row.
_STEM_ORDER = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")

# How other code wraps the weights of a ResNet: keys that hold the state dict, and prefixes of all names.
_WRAPPINGS = ("state_dict", "model_state_dict", "model")
_PREFIXES = ("module.", "model.", "backbone.", "encoder.", "_orig_mod.")

_PATIENCE = 20.0  # seconds without an answer from the server


def make_encoder(name: str, weights: str, bottleneck: bool) -> tuple[nn.Module, Features]:
    """An encoder with its initial weights, and the shape of its output.

    Raises:
        WeightsUnavailable: the weights can't be fetched, read, or don't fit.
    """
    backbone = BACKBONES[name]
    encoder = backbone.make()
    load_weights(encoder, backbone, weights)
    return with_bottleneck(encoder, backbone.features) if bottleneck else (encoder, backbone.features)


def with_bottleneck(encoder: nn.Module, features: Features) -> tuple[nn.Module, Features]:
    """The encoder followed by the layer that LibMTL shares on Office: (B, channels) -> (B, 512).

    It has BatchNorm: in a multi-input problem each task's images form separate batches in training, and the running
    statistics mix all tasks. It is available because published results use it.

    Raises:
        ValueError: the features are maps.
    Source: LibMTL, examples/office, Lin & Zhang (JMLR 2023).
    """
    if features.dense:
        raise ValueError("`backbone.bottleneck` must be false for an encoder whose features are maps")
    narrow = nn.Linear(features.channels, BOTTLENECK_CHANNELS)
    nn.init.normal_(narrow.weight, std=0.005)
    nn.init.constant_(narrow.bias, 0.1)
    layer = nn.Sequential(narrow, nn.BatchNorm1d(BOTTLENECK_CHANNELS), nn.ReLU(), nn.Dropout(0.5))
    return nn.Sequential(encoder, layer), Features(channels=BOTTLENECK_CHANNELS, dense=False, stride=1)


def load_weights(encoder: nn.Module, backbone: Backbone, weights: str) -> None:
    """Loads "imagenet" weights (torchvision's, downloaded once into its cache), those of a file, or "none".

    A file holds a state dict, as torch saves it or as safetensors. A classifier `fc` in it is ignored, and so are
    prefixes of all names such as `module.`.

    Raises:
        WeightsUnavailable: they can't be fetched, read, or don't fit.
    """
    if weights == "none":
        return
    state = _imagenet_state(backbone) if weights == "imagenet" else _unwrapped(_read_state(weights), weights)
    state = {key: value for key, value in state.items() if not key.startswith("fc.")}
    if isinstance(encoder, nn.Sequential):
        state = {_renamed(key): value for key, value in state.items()}
    try:
        encoder.load_state_dict(state)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise WeightsUnavailable(f"The weights {weights!r} don't fit the encoder: {reason}") from error


def _imagenet_state(backbone: Backbone) -> Mapping[str, Tensor]:
    from torchvision.models import get_weight

    if not backbone.imagenet:
        raise WeightsUnavailable("This backbone has no ImageNet weights: use --set backbone.weights=none.")
    weights = get_weight(backbone.imagenet)
    try:
        with _patience():
            state: Mapping[str, Tensor] = weights.get_state_dict(progress=False, check_hash=True)
    # RuntimeError, EOFError, UnpicklingError: the downloaded file, new or cached, is damaged.
    except (OSError, HTTPException, RuntimeError, EOFError, UnpicklingError) as error:
        raise WeightsUnavailable(
            f"Could not download ImageNet weights from {weights.url} ({error}). Give a local file with "
            "--set backbone.weights=PATH, or train from scratch with --set backbone.weights=none."
        ) from error
    return state


@contextmanager
def _patience() -> Iterator[None]:
    """A context in which a download that gets no answer fails instead of waiting forever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_PATIENCE)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _read_state(weights: str) -> object:
    """What is in a file of weights."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = Path(weights).expanduser()
    if not path.is_file():
        raise WeightsUnavailable(
            f"Expected `backbone.weights` to be none, imagenet or a file with a state dict, found {weights!r}."
        )
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, UnpicklingError, SafetensorError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsUnavailable(
            f"{path}: expected a state dict saved by torch, or a .safetensors file, found neither ({reason})."
        ) from error


def _unwrapped(content: object, weights: str) -> dict[str, Tensor]:
    """The weights by name, without what training scripts wrap around them."""
    for wrapping in _WRAPPINGS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapping), Mapping):
            content = content[wrapping]
    if not isinstance(content, Mapping) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        raise WeightsUnavailable(
            f"{weights}: expected a state dict (tensors by name), found {type(content).__name__}; save "
            "`model.state_dict()`."
        )
    state: dict[str, Tensor] = dict(content)
    while prefix := next((p for p in _PREFIXES if all(key.startswith(p) for key in state)), None):
        state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def _renamed(key: str) -> str:
    part, _, rest = key.partition(".")
    return f"{_STEM_ORDER.index(part)}.{rest}" if part in _STEM_ORDER else key
