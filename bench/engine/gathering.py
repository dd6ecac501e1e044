"""Gathering: the rows of a batch, from arrays in main memory or on an accelerator, as groups that networks read.

B batch, k tasks whose targets are gathered together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from datasets.contract import DatasetInfo, Group, Source
from methods.transfer import send

# Values normalised at a time: a block that fits into a core's cache.
_VALUES_AT_ONCE = 2**17
# With fewer blocks per thread than this, starting the thread takes longer than its work.
_BLOCKS_PER_THREAD = 16


@dataclass(frozen=True)
class Rows:
    """Rows of a source on an accelerator, as they are stored.

    images: (B, H, W, 3) uint8.
    targets: (k, B, ...) by their tasks, as `alike` has them.
    """

    images: Tensor
    targets: Mapping[tuple[int, ...], Tensor]


@dataclass(frozen=True)
class Normalisation:
    """Mean and standard deviation of pixel values in [0, 255], (3, 1, 1) each."""

    mean: Tensor
    std: Tensor


def normalisation(info: DatasetInfo, device: torch.device) -> Normalisation:
    """That of a data set, on the device."""
    mean, std = send(255 * torch.tensor([info.mean, info.std]), device)[:, :, None, None]
    return Normalisation(mean, std)


def alike(targets: Mapping[int, Tensor]) -> list[tuple[int, ...]]:
    """The tasks whose targets are gathered by one operation: those of one number per image and of one dtype.

    A target with pixels is alone: there are few of them, and bringing large ones together takes memory.
    """
    together: dict[object, list[int]] = {}
    for task, target in targets.items():
        together.setdefault(target.dtype if target.dim() == 1 else task, []).append(task)
    return [tuple(tasks) for tasks in together.values()]


def gather_on_cpu(source: Source, places: Tensor, info: DatasetInfo) -> Group:
    """The images at these places, normalised as (B, 3, H, W), and their targets; byte labels become integers.

    places: (B,) from 0 to len(source) - 1.
    """
    rows = source.rows_at(places)
    targets = {task: _as_integers(target[rows]) for task, target in source.targets.items()}
    return Group(_normalised_on_cpu(source.images, rows, info), targets)


def gather_resident(
    sources: Sequence[Source], orders: Sequence[Tensor], size: int, device: torch.device
) -> Iterator[list[Rows]]:
    """The rows of sources that are on the device, `size` at a time, in the order (N,) of each.

    All orders are sent in one copy at the start, so a step copies nothing to the device.
    """
    stacks = [
        {tasks: torch.stack([source.targets[task] for task in tasks]) for tasks in alike(source.targets)}
        for source in sources
    ]
    sent = send(torch.cat([*orders]), device).split([len(order) for order in orders])
    for parts in zip(*(order.split(size) for order in sent), strict=True):
        yield [
            Rows(
                torch.index_select(source.images, 0, part),
                {tasks: torch.index_select(values, 1, part) for tasks, values in stacked.items()},
            )
            for source, stacked, part in zip(sources, stacks, parts, strict=True)
        ]


def group_of(rows: Rows, tasks: Sequence[int], pixels: Normalisation) -> Group:
    """Normalised images (B, 3, H, W) and targets in the order of `tasks`; byte labels become integers."""
    inputs = (rows.images.movedim(-1, 1).contiguous() - pixels.mean) / pixels.std
    by_task = {
        task: target
        for together, targets in rows.targets.items()
        for task, target in zip(together, _as_integers(targets).unbind(), strict=True)
    }
    return Group(inputs, {task: by_task[task] for task in tasks})


def _as_integers(target: Tensor) -> Tensor:
    """Labels stored in a byte (-1 for none) as the integers that losses expect."""
    return target.long() if target.dtype == torch.int8 else target


def _normalised_on_cpu(images: Tensor, indices: Tensor, info: DatasetInfo) -> Tensor:
    """Rows of images (N, H, W, 3) as (B, 3, H, W), block by block, on as many threads as torch has."""
    count, pixels, rows = len(indices), images.numpy(), indices.numpy()
    # Allocated by numpy, which asks for large pages; otherwise half of the time would go into page faults.
    normalised = np.empty((count, 3, *images.shape[1:3]), dtype=np.float32)
    scale = normalisation(info, images.device)
    mean, std = scale.mean.numpy(), scale.std.numpy()
    several = max(1, _VALUES_AT_ONCE // pixels[0].size)

    def fill(starts: range) -> None:
        for start in starts:
            block = normalised[start : start + several]
            block[...] = np.ascontiguousarray(pixels[rows[start : start + several]].transpose(0, 3, 1, 2))
            np.subtract(block, mean, out=block)
            np.divide(block, std, out=block)

    starts = range(0, count, several)
    threads = min(torch.get_num_threads(), len(starts) // _BLOCKS_PER_THREAD)
    if threads < 2:
        fill(starts)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(fill, [starts[first::threads] for first in range(threads)]))
    return torch.from_numpy(normalised)
