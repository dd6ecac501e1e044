"""Batches: which images each step trains on, in which order.

The rows of a batch are gathered where the data is: on a CPU, on an accelerator (`gathering`), or in main memory for an
accelerator (`streaming`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from bench.engine.augment import draw_views, transform
from bench.engine.gathering import Rows, gather_on_cpu, gather_resident, group_of, normalisation
from bench.engine.placement import is_resident
from bench.engine.streaming import stream
from datasets.contract import Batch, DatasetInfo, Group, Source, Split

T = TypeVar("T")
Reader = Callable[[Sequence[Source], Sequence[Tensor], int, torch.device], Iterator[list[Rows]]]


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
    first: int = 0,
) -> Iterator[Batch]:
    """One epoch. Each step has one group of `batch_size` images from every source that a task reads.

    They are augmented if asked for. Other sources count for the random draws only.

    part: the images of each group that this process trains on, if several train together.
    first: the step to begin with. Those before it are not gathered, and change no later one.
    """
    steps = steps_per_epoch(split, batch_size)
    if first == steps:
        return
    orders = [epoch_order(len(source), steps * batch_size, generator) for source in split]
    orders = [order.view(steps, batch_size)[first:, part].reshape(-1) for order in orders]
    read = [place for place, source in enumerate(split) if source.targets]
    sources, chosen = tuple(split[place] for place in read), [orders[place] for place in read]
    batches = _batches(sources, chosen, len(range(batch_size)[part]), info, device)
    if not augment:
        yield from batches
        return
    views = draw_views(steps * len(split), batch_size, generator).of_images(part).to(device)
    tasks = dict(enumerate(info.tasks))
    for step, batch in enumerate(batches, first):
        yield [
            transform(group, tasks, views.of(step * len(split) + place))
            for place, group in zip(read, batch, strict=True)
        ]


def evaluation_batches(source: Source, info: DatasetInfo, batch_size: int, device: torch.device) -> Iterator[Group]:
    """The whole source, in order."""
    if len(source):
        for (group,) in _batches((source,), [torch.arange(len(source))], batch_size, info, device):
            yield group


def _batches(
    split: Split, orders: Sequence[Tensor], size: int, info: DatasetInfo, device: torch.device
) -> Iterator[list[Group]]:
    """A group of every source per step: `size` images at a time, in the order (N,) of each; the last may be smaller."""
    if device.type != "cpu":
        yield from _batches_on(split, orders, size, info, device)
        return
    for parts in zip(*(order.split(size) for order in orders), strict=True):
        yield [gather_on_cpu(source, part, info) for source, part in zip(split, parts, strict=True)]


def _batches_on(
    split: Split, orders: Sequence[Tensor], size: int, info: DatasetInfo, device: torch.device
) -> Iterator[list[Group]]:
    """The same on an accelerator, from sources that are there and sources in main memory."""
    pixels = normalisation(info, device)
    resident = [is_resident(source, device) for source in split]
    kinds: list[tuple[bool, Reader]] = [(True, gather_resident), (False, stream)]
    readers = {
        there: read(_where(split, resident, there), _where(orders, resident, there), size, device)
        for there, read in kinds
        if there in resident
    }
    for found in zip(*readers.values(), strict=True):
        rows = {there: iter(of_kind) for there, of_kind in zip(readers, found, strict=True)}
        yield [
            group_of(next(rows[there]), list(source.targets), pixels)
            for source, there in zip(split, resident, strict=True)
        ]


def _where(values: Sequence[T], resident: Sequence[bool], there: bool) -> list[T]:
    return [value for value, of_value in zip(values, resident, strict=True) if of_value == there]
