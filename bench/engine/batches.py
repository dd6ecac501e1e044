"""Batches: which images stand in which step, and their way to the device."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from datasets.contract import Batch, DatasetInfo, Group, Source, Split


def steps_per_epoch(split: Split, batch_size: int) -> int:
    """Full batches of the longest source, at least one."""
    return max(1, max(len(source) // batch_size for source in split))


def epoch_order(size: int, needed: int, generator: torch.Generator) -> Tensor:
    """`needed` indices into a source of `size`, shuffled; one that is too short goes round again, shuffled anew."""
    rounds = [torch.randperm(size, generator=generator) for _ in range(-(-needed // size))]
    return torch.cat(rounds)[:needed]


def training_batches(
    split: Split, info: DatasetInfo, batch_size: int, generator: torch.Generator, device: torch.device
) -> Iterator[Batch]:
    """One epoch: in every step, one group of `batch_size` images from every source."""
    steps = steps_per_epoch(split, batch_size)
    orders = [epoch_order(len(source), steps * batch_size, generator) for source in split]
    for step in range(steps):
        window = slice(step * batch_size, (step + 1) * batch_size)
        yield [gather(source, order[window], info, device) for source, order in zip(split, orders, strict=True)]


def evaluation_batches(source: Source, info: DatasetInfo, batch_size: int, device: torch.device) -> Iterator[Group]:
    """The whole source, in order."""
    for indices in torch.arange(len(source)).split(batch_size):
        yield gather(source, indices, info, device)


def gather(source: Source, indices: Tensor, info: DatasetInfo, device: torch.device) -> Group:
    """The chosen images, normalised on the device as (B, 3, H, W), and their targets."""
    images = source.images[indices].to(device, non_blocking=True)
    mean = torch.tensor(info.mean, device=device) * 255
    scale = torch.tensor(info.std, device=device) * 255
    inputs = ((images - mean) / scale).movedim(-1, 1).contiguous()
    targets = {task: target[indices].to(device, non_blocking=True) for task, target in source.targets.items()}
    return Group(inputs, targets)
