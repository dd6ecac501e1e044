"""Streaming: data that stays in main memory, read ahead by a thread and sent to an accelerator in one copy per step.

The images (bytes) and all targets of a step lie in one pinned buffer. The copy is queued in the stream of the trainer,
so no step starts before its data is there, and the host doesn't wait. Over the bus goes what is stored: one byte per
pixel value and label, and four per value of depth and normals.

Every step gets a buffer of its own from torch's allocator of pinned memory. It notes each copy that a block is used by,
and hands a block out again only after these copies have finished. A buffer is thus never filled while it is sent.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from bench.engine.gathering import Rows, alike
from datasets.contract import Source
from methods.transfer import send

# Batches that wait in main memory for the trainer. One would do if all took the same time to read.
AHEAD = 2
# Bytes; a multiple of the size of every dtype, and of a cache line.
_ALIGNMENT = 64

T = TypeVar("T")
Form = tuple[torch.dtype, tuple[int, ...]]  # dtype and shape of a tensor in a buffer


def stream(
    sources: Sequence[Source], orders: Sequence[Tensor], size: int, device: torch.device
) -> Iterator[list[Rows]]:
    """The rows of sources in main memory on the device, `size` at a time, in the order (N,) of each."""
    together = [alike(source.targets) for source in sources]
    for buffer, forms in read_ahead(_reads(sources, orders, size)):
        views = iter(tensors_in(send(buffer, device), forms))
        yield [Rows(next(views), {tasks: next(views) for tasks in of_source}) for of_source in together]


def read_ahead(reads: Iterable[Callable[[], T]], count: int = AHEAD) -> Iterator[T]:
    """The results of the calls, in their order, from a thread that is at most `count` results ahead of its reader.

    `reads` itself is iterated by the reader. An error of a call is raised in place of its result. The thread ends with
    the iterator: after the last call, or when the iterator is closed or dropped, once the current call returns.
    """
    pool = ThreadPoolExecutor(1, thread_name_prefix="read-ahead")
    try:
        pending: deque[Future[T]] = deque()
        for read in reads:
            pending.append(pool.submit(read))
            if len(pending) > count:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        # Without waiting: the collector of cyclic garbage may close the iterator, and may do so in this very thread.
        pool.shutdown(wait=False, cancel_futures=True)


def tensors_in(buffer: Tensor, forms: Sequence[Form]) -> list[Tensor]:
    """Tensors of these forms, one after the other in a buffer (bytes,), as views."""
    views, start = [], 0
    for form in forms:
        dtype, shape = form
        views.append(buffer[start : start + _bytes(form)].view(dtype).view(shape))
        start += _aligned(_bytes(form))
    return views


def bytes_of(forms: Sequence[Form]) -> int:
    """The size of a buffer for these tensors."""
    return sum(_aligned(_bytes(form)) for form in forms)


def _reads(
    sources: Sequence[Source], orders: Sequence[Tensor], size: int
) -> Iterator[Callable[[], tuple[Tensor, list[Form]]]]:
    """For each step a call that fills its buffer."""
    for parts in zip(*(order.split(size) for order in orders), strict=True):
        forms = [form for source, part in zip(sources, parts, strict=True) for form in _forms(source, len(part))]
        # Allocated here, not in the call: pinned memory belongs to the current device of the trainer's thread.
        buffer = torch.empty(bytes_of(forms), dtype=torch.uint8, pin_memory=True)
        yield partial(_filled, buffer, forms, sources, parts)


def _forms(source: Source, count: int) -> list[Form]:
    """Those of the images and the targets of `count` rows."""
    targets = [(tasks, source.targets[tasks[0]]) for tasks in alike(source.targets)]
    return [
        (source.images.dtype, (count, *source.images.shape[1:])),
        *((target.dtype, (len(tasks), count, *target.shape[1:])) for tasks, target in targets),
    ]


def _filled(
    buffer: Tensor, forms: list[Form], sources: Sequence[Source], parts: Sequence[Tensor]
) -> tuple[Tensor, list[Form]]:
    """The buffer with the sources' rows at the places (B,) of each part."""
    views = iter(tensors_in(buffer, forms))
    for source, part in zip(sources, parts, strict=True):
        rows = source.rows_at(part)
        torch.index_select(source.images, 0, rows, out=next(views))
        for tasks in alike(source.targets):
            for task, target in zip(tasks, next(views), strict=True):
                torch.index_select(source.targets[task], 0, rows, out=target)
    return buffer, forms


def _bytes(form: Form) -> int:
    dtype, shape = form
    return math.prod(shape) * dtype.itemsize


def _aligned(count: int) -> int:
    return -(-count // _ALIGNMENT) * _ALIGNMENT
