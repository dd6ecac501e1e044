"""Placement: which data is moved to an accelerator before training."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from bench.engine.device import free_memory
from datasets.contract import Source, Splits
from methods.transfer import send

# The fraction of an accelerator's free memory for data. Networks, per-task gradients and other runs need the rest.
DATA_SHARE = 0.25
# Bytes moved at a time.
_MOVED_AT_ONCE = 2**26


def on_device(splits: Splits, device: torch.device) -> Splits:
    """The splits with whole sources moved to an accelerator, as far as they fit; unchanged on a CPU.

    Training data goes first. All sources together take at most DATA_SHARE of the free memory. The others are sent
    batch by batch (`streaming`), which changes no number.
    """
    if device.type == "cpu":
        return splits
    parts = (splits.train, splits.validation, splits.test)
    sizes = [_bytes(source) for part in parts for source in part]
    fits = iter(fitting(sizes, int(DATA_SHARE * free_memory(device))))
    moved = [tuple(_moved(source, device) if next(fits) else source for source in part) for part in parts]
    return replace(splits, train=moved[0], validation=moved[1], test=moved[2])


def is_resident(source: Source, device: torch.device) -> bool:
    """Whether the source is on this accelerator."""
    return source.images.device.type == device.type


def fitting(sizes: list[int], room: int) -> list[bool]:
    """Which of several sizes fit into `room` together, chosen in order, skipping those that no longer fit."""
    chosen = []
    for size in sizes:
        chosen.append(size <= room)
        room -= size if chosen[-1] else 0
    return chosen


def _bytes(source: Source) -> int:
    return sum(len(source) * _row_bytes(array) for array in (source.images, *source.targets.values()))


def _row_bytes(array: Tensor) -> int:
    return array.dtype.itemsize * math.prod(array.shape[1:])


def _moved(source: Source, device: torch.device) -> Source:
    """The source's own rows on the device."""
    rows = source.rows_at(torch.arange(len(source)))
    targets = {task: _rows_moved(target, rows, device) for task, target in source.targets.items()}
    return Source(_rows_moved(source.images, rows, device), targets)


def _rows_moved(values: Tensor, rows: Tensor, device: torch.device) -> Tensor:
    """The chosen rows on the device, moved in parts: they may be larger than this machine's memory."""
    moved = torch.empty((len(rows), *values.shape[1:]), dtype=values.dtype, device=device)
    if len(rows):
        at_once = max(1, _MOVED_AT_ONCE // _row_bytes(values))
        for part, places in zip(moved.split(at_once), rows.split(at_once), strict=True):
            part.copy_(send(values[places], device))
    return moved
