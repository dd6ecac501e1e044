"""The outcome of every item of a batch: what a bootstrap over test items draws from.

Classification says whether each prediction is correct. Tasks with an output per pixel have every metric on each image
alone, NaN if the image has nothing to measure. Like `update` of a measure, none of these functions waits for an
accelerator, so valid pixels are marked, not selected.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from datasets.losses import UNLABELLED, cosines, has_depth, has_normal

WITHIN_DEGREES = (11.25, 22.5, 30.0)
_PIXELS = (1, 2, 3)


def correct_classes(output: Tensor, target: Tensor) -> Tensor:
    """(B,) whether the largest of logits (B, C) is that of the true class."""
    return output.argmax(dim=1) == target


def correct_attributes(output: Tensor, target: Tensor) -> Tensor:
    """(B,) whether one logit (B, 1) is on the right side of 0."""
    return (output.squeeze(1) > 0) == (target > 0)


def confusions(output: Tensor, target: Tensor) -> Tensor:
    """Confusion matrices (B, C, C), rows true and columns predicted, over labelled pixels of logits (B, C, H, W)."""
    images, classes = output.shape[:2]
    pairs = target.long() * classes + output.argmax(dim=1)
    # The last count of an image is of its unlabelled pixels. torch.bincount would wait for the largest of the pairs.
    cells = classes**2 + 1
    first = torch.arange(images, device=output.device).reshape(-1, 1, 1) * cells
    places = (first + torch.where(target != UNLABELLED, pairs, classes**2)).flatten()
    counts = torch.zeros(images * cells, dtype=torch.int64, device=output.device)
    counts.scatter_add_(0, places, torch.ones_like(places))
    return counts.reshape(images, cells)[:, :-1].reshape(images, classes, classes)


def segmentation_scores(output: Tensor, target: Tensor) -> Tensor:
    """(B, 2): mean intersection over union of the classes that occur or are predicted, and pixel accuracy."""
    confusion = confusions(output, target).double()
    hits = confusion.diagonal(dim1=1, dim2=2)
    union = confusion.sum(dim=1) + confusion.sum(dim=2) - hits
    shares = torch.where(union > 0, hits / union.clamp_min(1), 0.0)
    miou = shares.sum(dim=1) / (union > 0).sum(dim=1)
    return torch.stack([miou, hits.sum(dim=1) / confusion.sum(dim=(1, 2))], dim=1).float()


def depth_scores(output: Tensor, target: Tensor) -> Tensor:
    """(B, 2): mean absolute (m) and relative error over the measured pixels."""
    valid = has_depth(target)
    error = torch.where(valid, output - target, 0.0).abs().double()
    relative = error / torch.where(valid, target, 1.0).double()
    return torch.stack([part.sum(dim=_PIXELS) / valid.sum(dim=_PIXELS) for part in (error, relative)], dim=1).float()


def normal_scores(output: Tensor, target: Tensor) -> Tensor:
    """(B, 5): mean and median angle in degrees over the pixels with a normal, and shares within 11.25°, 22.5°, 30°."""
    valid, angle = has_normal(target).flatten(1), angles(cosines(output, target)).flatten(1)
    count = valid.sum(dim=1)
    mean = torch.where(valid, angle, 0.0).double().sum(dim=1) / count
    shares = [(valid & (angle < limit)).sum(dim=1).double() / count for limit in WITHIN_DEGREES]
    return torch.stack([mean, _medians(angle, valid, count).double(), *shares], dim=1).float()


def angles(cosine: Tensor) -> Tensor:
    """Angles in degrees."""
    return torch.rad2deg(torch.acos(cosine.clamp(-1, 1)))


def _medians(values: Tensor, valid: Tensor, count: Tensor) -> Tensor:
    """The median (B,) of the valid ones of values (B, n): the middle value, or the mean of the middle two."""
    ordered = torch.where(valid, values, math.inf).sort(dim=1).values
    middle = torch.stack([(count - 1).clamp_min(0) // 2, count // 2], dim=1)
    return torch.where(count > 0, ordered.gather(1, middle).mean(dim=1), math.nan)
