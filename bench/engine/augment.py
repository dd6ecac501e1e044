"""Augmentation of training batches on their device: random enlarged crops and horizontal flips.

A crop enlarged by s shows the scene at 1/s of its distance: depth is divided by s, and a normal (x, y, z) becomes
(x, y, s z), normalised. A flip negates x. Images are interpolated bilinearly. Targets use the nearest pixel, so that
values of different surfaces, or of pixels without ground truth, are never mixed. B batch, (H, W) pixels.

Deviations: public code for NYUv2 divides depth by s but leaves normals unchanged, and mixes them with the zeros of
unknown normals.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from datasets.contract import Group, Task
from datasets.losses import binary_cross_entropy, cross_entropy, depth_loss, normal_loss
from methods.transfer import send

SCALES = (1.0, 1.2, 1.5)


@dataclass(frozen=True)
class Views:
    """The random crop and flip of each image of a batch, (B,) each; or of several batches, (batches, B).

    scale: ≥ 1.
    top, left: the offset of the crop, as a fraction in [0, 1] of the largest possible one.
    mirrored: whether the image is flipped, bool.
    """

    scale: Tensor
    top: Tensor
    left: Tensor
    mirrored: Tensor

    def to(self, device: torch.device) -> Views:
        """The same on a device, sent in one copy."""
        if device == self.scale.device:
            return self
        scale, top, left, mirrored = send(torch.stack([self.scale, self.top, self.left, self.mirrored.float()]), device)
        return Views(scale, top, left, mirrored > 0)

    def of(self, batch: int) -> Views:
        """Those of one of several batches."""
        return Views(self.scale[batch], self.top[batch], self.left[batch], self.mirrored[batch])

    def of_images(self, images: slice) -> Views:
        """Those of some images of each of several batches."""
        return Views(*(part[:, images] for part in (self.scale, self.top, self.left, self.mirrored)))


def draw_views(batches: int, count: int, generator: torch.Generator) -> Views:
    """Random views (batches, count): a scale of SCALES, a uniform offset, a flip with probability 1/2.

    Batch after batch draws its numbers, so a batch has the same views whatever the number of batches.
    """
    scales, rest = [], []
    for _ in range(batches):
        scales.append(torch.tensor(SCALES)[torch.randint(len(SCALES), (count,), generator=generator)])
        rest.append(torch.rand((3, count), generator=generator))
    top, left, side = torch.stack(rest).unbind(1)
    return Views(torch.stack(scales), top, left, side < 0.5)


def transform(group: Group, tasks: Mapping[int, Task], views: Views) -> Group:
    """Inputs (B, 3, H, W) and targets under these views. Targets without pixels, such as classes, stay the same.

    views: (B,) each, on the device of the inputs.
    """
    targets = {index: _TARGETS[tasks[index].loss](target, views) for index, target in group.targets.items()}
    return Group(transform_images(group.inputs, views), targets)


def transform_images(images: Tensor, views: Views) -> Tensor:
    """Images (B, C, H, W), interpolated bilinearly."""
    rows, columns = _coordinates(images.shape[-2], images.shape[-1], views)
    above, below, down = _neighbours(rows, images.shape[-2])
    before, after, right = _neighbours(columns, images.shape[-1])
    down, right = down[:, None, :, None], right[:, None, None, :]
    upper = torch.lerp(_gather(images, above, before), _gather(images, above, after), right)
    lower = torch.lerp(_gather(images, below, before), _gather(images, below, after), right)
    return torch.lerp(upper, lower, down)


def transform_labels(labels: Tensor, views: Views) -> Tensor:
    """Labels (B, H, W) of the nearest pixels; labels (B,) of whole images stay the same."""
    return _nearest(labels.unsqueeze(1), views).squeeze(1) if labels.dim() > 1 else labels


def transform_depth(depth: Tensor, views: Views) -> Tensor:
    """Depth (B, 1, H, W) in metres, divided by the scale; 0 (missing) stays 0."""
    return _nearest(depth, views) / views.scale[:, None, None, None]


def transform_normals(normals: Tensor, views: Views) -> Tensor:
    """Unit normals (B, 3, H, W); zeros (unknown) stay zero."""
    side = torch.where(views.mirrored, -1.0, 1.0)
    factors = torch.stack([side, torch.ones_like(side), views.scale], dim=1)[:, :, None, None]
    turned = functional.normalize(_nearest(normals, views) * factors, dim=1)
    # Without scaling the length is 1 already; dividing by it would only add rounding.
    return torch.where((views.scale == 1)[:, None, None, None], _nearest(normals, views) * factors, turned)


def _same(target: Tensor, views: Views) -> Tensor:
    del views
    return target


_TARGETS: Mapping[Callable[[Tensor, Tensor], Tensor], Callable[[Tensor, Views], Tensor]] = {
    cross_entropy: transform_labels,
    binary_cross_entropy: _same,
    depth_loss: transform_depth,
    normal_loss: transform_normals,
}


def _coordinates(height: int, width: int, views: Views) -> tuple[Tensor, Tensor]:
    """Source rows (B, H) and columns (B, W) of each pixel of a view; pixel centres are integers."""
    rows = _along(height, views.scale, views.top)
    columns = _along(width, views.scale, views.left)
    return rows, torch.where(views.mirrored[:, None], columns.flip(1), columns)


def _along(extent: int, scale: Tensor, share: Tensor) -> Tensor:
    centres = torch.arange(extent, device=scale.device) + 0.5
    offset = share * (extent - extent / scale)
    return centres / scale[:, None] + offset[:, None] - 0.5


def _neighbours(coordinates: Tensor, extent: int) -> tuple[Tensor, Tensor, Tensor]:
    """The pixels before and after each coordinate, and its distance from the first, in [0, 1]."""
    inside = coordinates.clamp(0, extent - 1)
    first = inside.floor()
    return first.long(), (first + 1).clamp_max(extent - 1).long(), inside - first


def _nearest(values: Tensor, views: Views) -> Tensor:
    height, width = values.shape[-2:]
    rows, columns = _coordinates(height, width, views)
    return _gather(values, rows.round().clamp(0, height - 1).long(), columns.round().clamp(0, width - 1).long())


def _gather(values: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """values (B, C, H, W) at rows (B, h) and columns (B, w), as (B, C, h, w)."""
    items = torch.arange(len(values), device=values.device)[:, None, None]
    return values[items, :, rows[:, :, None], columns[:, None, :]].movedim(-1, 1)
