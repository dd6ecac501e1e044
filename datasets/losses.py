"""Losses, as scalar means over the valid entries of a batch, and the outputs of the dummy baselines."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import functional

from datasets.scenes import UNLABELLED as UNLABELLED


def cross_entropy(output: Tensor, target: Tensor) -> Tensor:
    """Cross entropy of logits (B, C) or (B, C, H, W) over the labelled entries of target (B,) or (B, H, W)."""
    summed = functional.cross_entropy(output, target, ignore_index=UNLABELLED, reduction="sum")
    return summed / (target != UNLABELLED).sum().clamp_min(1)


def binary_cross_entropy(output: Tensor, target: Tensor) -> Tensor:
    """Cross entropy of one logit (B, 1) and a target (B,) of 0 and 1."""
    return functional.binary_cross_entropy_with_logits(output.squeeze(1), target.to(output.dtype))


def has_depth(target: Tensor) -> Tensor:
    """Where depth (B, 1, H, W) was measured: 0 means missing."""
    return target != 0


def has_normal(target: Tensor) -> Tensor:
    """Where a normal (B, 3, H, W) is known, as (B, H, W): an all-zero vector means unknown."""
    return (target != 0).any(dim=1)


def depth_loss(output: Tensor, target: Tensor) -> Tensor:
    """Mean absolute error in metres over measured pixels."""
    valid = has_depth(target)
    return ((output - target).abs() * valid).sum() / valid.sum().clamp_min(1)


def cosines(output: Tensor, target: Tensor) -> Tensor:
    """Cosine (B, H, W) between predicted directions of any length and unit normals (B, 3, H, W)."""
    return (functional.normalize(output, dim=1) * target).sum(dim=1)


def normal_loss(output: Tensor, target: Tensor) -> Tensor:
    """One minus the mean cosine over pixels with a normal."""
    valid = has_normal(target)
    return ((1 - cosines(output, target)) * valid).sum() / valid.sum().clamp_min(1)


def class_prior(batches: Iterable[Tensor], classes: int) -> Tensor:
    """Log frequencies (classes,) of the labelled entries: the output of a classifier's dummy baseline."""
    counts = torch.zeros(classes, dtype=torch.float64)
    for targets in batches:
        counts += torch.bincount(targets[targets != UNLABELLED].long(), minlength=classes)
    return (counts / counts.sum()).clamp_min(1e-12).log().float()


def attribute_prior(batches: Iterable[Tensor]) -> Tensor:
    """The log odds (1,) of a binary target."""
    mean = _mean((targets.double().sum(), targets.numel()) for targets in batches)
    return torch.logit(mean, eps=1e-6).float().reshape(1)


def mean_depth(batches: Iterable[Tensor]) -> Tensor:
    """Mean depth (1,) in metres over measured pixels."""
    measured = (targets[has_depth(targets)] for targets in batches)
    return _mean((depths.double().sum(), depths.numel()) for depths in measured).float().reshape(1)


def mean_normal(batches: Iterable[Tensor]) -> Tensor:
    """Mean normal (3,) over pixels that have one; a pixel without one is zero and adds nothing."""
    parts = ((targets.double().sum(dim=(0, 2, 3)), int(has_normal(targets).sum())) for targets in batches)
    return _mean(parts).float()


def _mean(parts: Iterable[tuple[Tensor, int]]) -> Tensor:
    """From the sum, in double precision, and the count of each part."""
    sums, counts = zip(*parts, strict=True)
    return torch.stack(sums).sum(dim=0) / sum(counts)
