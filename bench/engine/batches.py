"""Batches: which images each step trains on, gathered and moved to the device."""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from bench.engine.augment import draw_views, transform
from bench.engine.device import free_memory
from datasets.contract import Batch, DatasetInfo, Group, Source, Split, Splits

# The fraction of an accelerator's free memory for data. Networks, per-task gradients and other runs need the rest.
DATA_SHARE = 0.25
_ROWS_MOVED_AT_ONCE = 256
# Values normalised at a time: a block that fits into a core's cache.
_VALUES_AT_ONCE = 2**17
# With fewer blocks per thread than this, starting the thread takes longer than its work.
_BLOCKS_PER_THREAD = 16


def steps_per_epoch(split: Split, batch_size: int) -> int:
    """Full batches of the longest source, at least one."""
    return max(1, max(len(source) // batch_size for source in split))


def epoch_order(size: int, needed: int, generator: torch.Generator) -> Tensor:
    """`needed` shuffled indices into a source of `size`. A source that is too short repeats, shuffled again."""
    rounds = [torch.randperm(size, generator=generator) for _ in range(-(-needed // size))]
    return torch.cat(rounds)[:needed]


def training_batches(
    split: Split,
    info: DatasetInfo,
    batch_size: int,
    generator: torch.Generator,
    device: torch.device,
    augment: bool = False,
    part: slice = slice(None),
) -> Iterator[Batch]:
    """One epoch. Each step has one group of `batch_size` images from every source, augmented if asked for.

    part: the images of each group that this process trains on, if several train together.
    """
    steps = steps_per_epoch(split, batch_size)
    orders = [epoch_order(len(source), steps * batch_size, generator) for source in split]
    tasks = dict(enumerate(info.tasks))
    for step in range(steps):
        window = slice(step * batch_size, (step + 1) * batch_size)
        groups = [
            gather(source, order[window][part], info, device) for source, order in zip(split, orders, strict=True)
        ]
        if augment:
            groups = [transform(group, tasks, draw_views(batch_size, generator).of(part)) for group in groups]
        yield groups


def evaluation_batches(source: Source, info: DatasetInfo, batch_size: int, device: torch.device) -> Iterator[Group]:
    """The whole source, in order."""
    for indices in torch.arange(len(source)).split(batch_size) if len(source) else ():
        yield gather(source, indices, info, device)


def on_device(splits: Splits, device: torch.device) -> Splits:
    """The splits with whole sources moved to an accelerator, as far as they fit; unchanged on a CPU.

    Training data goes first. All sources together take at most DATA_SHARE of the free memory. The others are moved
    batch by batch, which changes no number.
    """
    if device.type == "cpu":
        return splits
    parts = (splits.train, splits.validation, splits.test)
    sizes = [_bytes(source) for part in parts for source in part]
    fits = iter(fitting(sizes, int(DATA_SHARE * free_memory(device))))
    moved = [tuple(_moved(source, device) if next(fits) else source for source in part) for part in parts]
    return replace(splits, train=moved[0], validation=moved[1], test=moved[2])


def fitting(sizes: list[int], room: int) -> list[bool]:
    """Which of several sizes fit into `room` together, chosen in order, skipping those that no longer fit."""
    chosen = []
    for size in sizes:
        chosen.append(size <= room)
        room -= size if chosen[-1] else 0
    return chosen


def _bytes(source: Source) -> int:
    arrays = (source.images, *source.targets.values())
    return sum(len(source) * array.dtype.itemsize * math.prod(array.shape[1:]) for array in arrays)


def _moved(source: Source, device: torch.device) -> Source:
    """The source's own rows on the device."""
    rows = source.rows_at(torch.arange(len(source)))
    targets = {task: _rows_moved(target, rows, device) for task, target in source.targets.items()}
    return Source(_rows_moved(source.images, rows, device), targets)


def _rows_moved(values: Tensor, rows: Tensor, device: torch.device) -> Tensor:
    """The chosen rows on the device, moved in parts: they may be larger than this machine's memory."""
    moved = torch.empty((len(rows), *values.shape[1:]), dtype=values.dtype, device=device)
    for places in torch.arange(len(rows)).split(_ROWS_MOVED_AT_ONCE):
        moved[places[0] : places[-1] + 1] = values[rows[places]].to(device)
    return moved


def gather(source: Source, indices: Tensor, info: DatasetInfo, device: torch.device) -> Group:
    """The chosen images, normalised on the device as (B, 3, H, W), and their targets; byte labels become integers.

    indices: (B,) from 0 to len(source) - 1.
    """
    rows = source.rows_at(indices)
    if device.type == "cpu":
        inputs = _normalised_on_cpu(source.images, rows, info)
    else:
        images = _rows_on(source.images, rows, device).movedim(-1, 1).contiguous()
        shift, scale = _shift_and_scale(info)
        inputs = (images - shift.to(device)) / scale.to(device)
    targets = {task: _as_integers(_rows_on(target, rows, device)) for task, target in source.targets.items()}
    return Group(inputs, targets)


def _shift_and_scale(info: DatasetInfo) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of pixel values in [0, 255], (3, 1, 1) each."""
    return (torch.tensor(info.mean) * 255)[:, None, None], (torch.tensor(info.std) * 255)[:, None, None]


def _rows_on(values: Tensor, indices: Tensor, device: torch.device) -> Tensor:
    """The chosen rows, on the device."""
    if values.device.type != "cpu" or device.type != "cuda":
        return values[indices.to(values.device)].to(device)
    # Pinned memory makes the copy asynchronous.
    rows = torch.empty((len(indices), *values.shape[1:]), dtype=values.dtype, pin_memory=True)
    return torch.index_select(values, 0, indices, out=rows).to(device, non_blocking=True)


def _as_integers(target: Tensor) -> Tensor:
    """Labels stored in a byte (-1 for none) as the integers that losses expect."""
    return target.long() if target.dtype == torch.int8 else target


def _normalised_on_cpu(images: Tensor, indices: Tensor, info: DatasetInfo) -> Tensor:
    """Rows of images (N, H, W, 3) as (B, 3, H, W), block by block, on as many threads as torch has."""
    count, pixels, rows = len(indices), images.numpy(), indices.numpy()
    # Allocated by numpy, which asks for large pages; otherwise half of the time would go into page faults.
    normalised = np.empty((count, 3, *images.shape[1:3]), dtype=np.float32)
    shift, scale = (part.numpy() for part in _shift_and_scale(info))
    several = max(1, _VALUES_AT_ONCE // pixels[0].size)

    def fill(starts: range) -> None:
        for start in starts:
            block = normalised[start : start + several]
            block[...] = np.ascontiguousarray(pixels[rows[start : start + several]].transpose(0, 3, 1, 2))
            np.subtract(block, shift, out=block)
            np.divide(block, scale, out=block)

    starts = range(0, count, several)
    threads = min(torch.get_num_threads(), len(starts) // _BLOCKS_PER_THREAD)
    if threads < 2:
        fill(starts)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(fill, [starts[first::threads] for first in range(threads)]))
    return torch.from_numpy(normalised)
