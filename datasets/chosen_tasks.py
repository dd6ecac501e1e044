"""A problem with some of its tasks only: the setting `data.tasks`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from datasets.contract import IMAGES, DatasetInfo, DataSettings, Source, Splits


def with_tasks(info: DatasetInfo, keys: Sequence[str]) -> DatasetInfo:
    """The problem with the tasks of these keys, in the order of the data set; unchanged without keys.

    Its tasks are numbered from 0. They see the batches, and the number of steps, that they see in a run of all tasks.
    """
    if not keys:
        return info
    places = [place for place, task in enumerate(info.tasks) if task.key in keys]

    def read(folder: Path, settings: DataSettings) -> Splits:
        return _chosen(info.read(folder, settings), info, places)

    return replace(info, tasks=tuple(info.tasks[place] for place in places), read=read)


def _chosen(splits: Splits, info: DatasetInfo, places: Sequence[int]) -> Splits:
    """The splits with the targets of the tasks at these places."""
    numbers = {place: number for number, place in enumerate(places)}
    parts = {
        part: tuple(_source(source, numbers) for source in getattr(splits, part))
        for part in ("train", "validation", "test")
    }
    kept = {info.tasks[place].key for place in places}
    return Splits(**parts, provenance={**splits.provenance, **_counts(splits.provenance, kept)})


def _source(source: Source, numbers: Mapping[int, int]) -> Source:
    """The source with the targets of the chosen tasks. Of one that none of them reads, nothing but its length stays."""
    targets = {numbers[task]: target for task, target in source.targets.items() if task in numbers}
    if not targets:
        return Source(torch.zeros(1, 1, 1, 3, dtype=torch.uint8).expand(len(source), 1, 1, 3), {})
    digests = {numbers.get(key, IMAGES): rows for key, rows in source.digests.items() if key in {IMAGES, *numbers}}
    return replace(source, targets=targets, digests=digests)


def _counts(provenance: Mapping[str, object], kept: set[str]) -> dict[str, object]:
    """The counts of a problem with a source for each task, without the tasks that were left out."""
    counts = provenance.get("counts")
    if not isinstance(counts, Mapping) or not all(isinstance(of_part, Mapping) for of_part in counts.values()):
        return {}
    by_part = {part: {key: n for key, n in of_part.items() if key in kept} for part, of_part in counts.items()}
    return {"counts": by_part}
