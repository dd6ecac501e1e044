"""Small random splits for every problem, without files: the same numbers everywhere."""

from __future__ import annotations

import zlib

import numpy as np
import torch
from torch import Tensor

from datasets.contract import DatasetInfo, Source, Split, Splits, Task

SIZES = {"train": 24, "validation": 8, "test": 8}


def random_targets(task: Task, count: int, side: int, rng: np.random.Generator) -> Tensor:
    """Targets as the readers give them: classes (N,), attributes (N,), or maps (N, [C,] H, W) with gaps."""
    if task.key == "segmentation":
        return torch.from_numpy(rng.integers(-1, task.outputs, (count, side, side), dtype=np.int8))
    if task.key == "depth":
        depth = rng.uniform(0.5, 4, (count, 1, side, side)).astype(np.float32)
        return torch.from_numpy(np.where(rng.random(depth.shape) < 0.1, np.float32(0), depth))
    if task.key == "normal":
        normals = rng.normal(size=(count, 3, side, side)).astype(np.float32)
        normals /= np.linalg.norm(normals, axis=1, keepdims=True)
        return torch.from_numpy(normals * (rng.random((count, 1, side, side)) > 0.1))
    if task.outputs == 1:
        return torch.from_numpy(rng.integers(0, 2, count, dtype=np.uint8))
    return torch.from_numpy(rng.integers(0, task.outputs, count))


def extreme_case(task: Task) -> tuple[Tensor, Tensor]:
    """Outputs and targets of two images, of four pixels each: the first is right, the second as wrong as can be."""
    signs = torch.tensor([1.0, -1.0])
    if task.key == "depth":
        target = torch.full((2, 1, 2, 2), 0.5)
        return target * torch.tensor([1.0, 1e3])[:, None, None, None], target
    if task.key == "normal":  # along the axes, so that the cosines are exactly 1 and -1
        target = torch.eye(3)[[0, 1, 2, 0]].T.reshape(1, 3, 2, 2).repeat(2, 1, 1, 1)
        return 2 * target * signs[:, None, None, None], target
    if task.outputs == 1:
        return 40 * signs[:, None], torch.ones(2, dtype=torch.uint8)
    pixels = (2, 2) if task.key == "segmentation" else ()
    target = torch.full((2, *pixels), 1)
    right = torch.zeros(2, task.outputs, *pixels)
    right[:, 1] = 40
    return right * signs.reshape(2, *(1 for _ in right.shape[1:])), target


def random_splits(info: DatasetInfo, side: int = 16, validation: bool = True) -> Splits:
    """Images (N, side, side, 3) and targets of every task.

    validation: False for a protocol without a validation set.
    """
    rng = np.random.default_rng(zlib.crc32(info.label.encode()))
    everyone = range(len(info.tasks))
    readers = [[task] for task in everyone] if info.kind == "multi-input" else [list(everyone)]

    def split(count: int) -> Split:
        return tuple(
            Source(
                torch.from_numpy(rng.integers(0, 256, (count, side, side, 3), dtype=np.uint8)),
                {task: random_targets(info.tasks[task], count, side, rng) for task in tasks},
            )
            for tasks in readers
        )

    sizes = SIZES if validation else {**SIZES, "validation": 0}
    return Splits(**{part: split(count) for part, count in sizes.items()}, provenance={"rule": "random"})
