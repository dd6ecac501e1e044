"""Outcomes per test item, beside the record of a run: what a bootstrap over items reads.

For each task, in the order of the run's test split: (N,) whether each prediction of the selected epoch is correct; or,
for tasks that are scored per pixel, (N, k) every metric of the record on each image alone, NaN where an image has
nothing to measure. The file is in safetensors format, with correctness packed eight items to a byte. Its only metadata,
"items", says how many items are packed, or which metrics the columns are.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from bench.records.files import Guard, atomic_write, storage_error
from bench.records.reading import Damaged, read_bytes
from bench.records.record import Record, TaskRecord
from bench.records.store import RecordError, read_run

ITEMS = "items.safetensors"
LARGEST = 256 * 2**20  # bytes; 40 attributes of the 19,962 test images of CelebA take 100,000

Items = Mapping[str, NDArray[Any]]  # by task key: bool (N,) or float32 (N, k)

_ADVICE = "restore it, or move the folder of the run away and train it again."


class ItemsError(RecordError):
    """Outcomes per item that can't be used. The message names the file, the error and what to do."""


def write_items(folder: Path, items: Items, columns: Mapping[str, Sequence[str]], guard: Guard = nullcontext) -> str:
    """Writes items.safetensors atomically, and returns the digest that the record keeps: 16 hexadecimal digits.

    Without items, removes a file that an earlier attempt has left, and returns "".
    columns: by task key, the metrics of the columns; of (N,) correctness, the metric that is its mean.
    guard: as in `atomic_write`.

    Raises:
        StorageError: the file can't be written.
    """
    path = folder / ITEMS
    if not items:
        try:
            with guard():
                path.unlink(missing_ok=True)
        except OSError as error:
            raise storage_error(path, error) from error
        return ""
    about = {task: _described(values, columns[task]) for task, values in items.items()}
    arrays = {task: np.packbits(v) if v.dtype == bool else np.ascontiguousarray(v) for task, v in items.items()}
    content = save(arrays, {"items": json.dumps(about)})
    atomic_write(path, lambda temporary: temporary.write_bytes(content), guard)
    return _digest(content)


def _described(values: NDArray[Any], columns: Sequence[str]) -> dict[str, Any]:
    """What the metadata say of a task."""
    if values.dtype == bool:
        return {"columns": [columns[0]], "bits": len(values)}
    assert values.dtype == np.float32 and values.shape[1:] == (len(columns),), "expected a float32 column per metric"
    return {"columns": list(columns)}


def read_items(folder: Path, record: Record | None = None) -> Items:
    """The outcomes per item of the run in a folder, by task in the order of its record.

    Empty for runs that have none: those that are not done, that report the mean of several epochs, or that were made
    before outcomes were kept.
    record: that of the run; by default it is read.

    Raises:
        ItemsError: the file is missing, damaged, or not the one that the run has written.
        RecordError: the record can't be read.
    """
    record = read_run(folder) if record is None else record
    if record is None or not record.items:
        return {}
    path = folder / ITEMS
    try:
        content = read_bytes(path, LARGEST)
        if _digest(content) != record.items:
            raise Damaged(f"expected the file with the digest {record.items} of its record, found {_digest(content)}")
        items = _unpacked(content, record.tasks)
        for error in _contradictions(items, record):
            raise Damaged(error)
    except Damaged as error:
        raise ItemsError(f"{path}: {error}; {_ADVICE}") from error
    except OSError as error:
        raise ItemsError(str(storage_error(path, error))) from error
    return items


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _unpacked(content: bytes, tasks: Sequence[TaskRecord]) -> Items:
    """Raises Damaged for what `write_items` does not write for these tasks."""
    try:
        arrays = load(content)
        length = int.from_bytes(content[:8], "little")
        about = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["items"])
        found = {task: (about[task]["columns"], about[task].get("bits")) for task in arrays}
    except (SafetensorError, KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise Damaged(f"expected outcomes per item in safetensors, found other content ({error!s:.80})") from error
    if set(arrays) != {task.key for task in tasks}:
        raise Damaged("expected the tasks of its record, found others")
    return {task.key: _of_task(arrays[task.key], *found[task.key], task) for task in tasks}


def _of_task(values: NDArray[Any], columns: object, bits: Any, task: TaskRecord) -> NDArray[Any]:
    """Raises Damaged if these aren't correctness or a column per metric."""
    metrics = [metric.key for metric in task.metrics]
    packed = type(bits) is int and bits >= 0 and columns == metrics[:1]
    if packed and values.dtype == np.uint8 and values.shape == (math.ceil(bits / 8),):
        return np.unpackbits(values, count=bits).astype(bool)
    dense = bits is None and columns == metrics
    if dense and values.dtype == np.float32 and values.ndim == 2 and values.shape[1] == len(metrics):
        return values
    raise Damaged(f"expected packed bits or a float32 column per metric for {task.key}, found others")


def _contradictions(items: Items, record: Record) -> Iterator[str]:
    """Sentences on what doesn't fit to the record."""
    for task in record.tasks:
        values, count = items[task.key], _count(record, task.key)
        if count is not None and len(values) != count:
            yield f"expected {count} items of {task.key}, found {len(values)}"
        if values.dtype == bool and len(values):
            score = record.test.get(task.key, {}).get(task.metrics[0].key, math.nan)
            # Not an equality of floats: 1 - wrong / N may differ from right / N by rounding.
            if not abs(values.mean() - score) * len(values) < 0.5:
                yield f"expected items of {task.key} with the mean {score:.6g} of its record, found {values.mean():.6g}"


def _count(record: Record, task: str) -> int | None:
    """How many test items the record says a task has; None if it doesn't say."""
    counts = record.splits.get("counts")
    found = counts.get("test") if isinstance(counts, dict) else None
    found = found.get(task) if isinstance(found, dict) else found
    return found if isinstance(found, int) else None
