"""Fingerprints: the same for the same data wherever it lies, another for every change of its content."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import torch
from cases import for_every
from synthetic_splits import random_splits

from datasets import DATASETS
from datasets.contract import IMAGES, Source, Splits
from datasets.fingerprint import PARTS, WHOLE, fingerprint

SPLITS = random_splits(DATASETS["rooms"], side=4)
BEFORE = fingerprint(SPLITS)


def changed(part: str, change: Callable[[Source], Source]) -> Splits:
    (source,) = getattr(SPLITS, part)
    return replace(SPLITS, **{part: (change(source),)})


def one_pixel(source: Source) -> Source:
    images = source.images.clone()
    images[-1, -1, -1, -1] ^= 1
    return replace(source, images=images)


def one_target(task: int) -> Callable[[Source], Source]:
    def change(source: Source) -> Source:
        target = source.targets[task].clone()
        target.view(-1)[-1] += 1
        return replace(source, targets={**source.targets, task: target})

    return change


def swapped_rows(source: Source) -> Source:
    return replace(source, rows=torch.tensor([1, 0, *range(2, len(source))]))


def without_the_last(source: Source) -> Source:
    return replace(source, rows=torch.arange(len(source) - 1))


def in_float64(source: Source) -> Source:
    return replace(source, targets={**source.targets, 1: source.targets[1].double()})


CHANGES: Mapping[str, Callable[[Source], Source]] = {
    "pixel": one_pixel,
    "label": one_target(0),
    "depth": one_target(1),
    "normal": one_target(2),
    "order": swapped_rows,
    "fewer images": without_the_last,
    "type": in_float64,
}


@for_every("change", list(CHANGES))
@for_every("part", PARTS)
def test_every_change_changes_its_part_alone(part: str, change: str) -> None:
    after = fingerprint(changed(part, CHANGES[change]))
    also = [] if change == "order" else [WHOLE]
    assert [name for name in BEFORE if after[name] != BEFORE[name]] == [part, *also]


@for_every("digests", [False, True])
def test_the_whole_is_the_same_for_every_partition(digests: bool) -> None:
    (source,) = SPLITS.train
    source = with_digests(source) if digests else source

    def partition(*rows: int) -> Splits:
        """The first two of these rows train, the next validates, the others test."""
        parts = rows[:2], rows[2:3], rows[3:]
        return Splits(*((replace(source, rows=torch.tensor(chosen)),) for chosen in parts), provenance={})

    first, second, other = (fingerprint(partition(*rows)) for rows in ((0, 1, 2, 3), (3, 0, 1, 2), (0, 1, 2, 2)))
    assert first[WHOLE] == second[WHOLE] != other[WHOLE]
    assert all(first[part] != second[part] for part in PARTS)


def test_a_copy_is_the_same_data() -> None:
    copies = {
        part: tuple(
            replace(source, images=source.images.clone(), rows=torch.arange(len(source)))
            for source in getattr(SPLITS, part)
        )
        for part in PARTS
    }
    assert fingerprint(replace(SPLITS, **copies)) == BEFORE


def with_digests(source: Source) -> Source:
    arrays = {IMAGES: source.images, **source.targets}
    digests = {
        key: np.array([[*hashlib.blake2b(row.numpy().tobytes(), digest_size=16).digest()] for row in array], np.uint8)
        for key, array in arrays.items()
    }
    return replace(source, digests=digests)


def test_rows_that_no_part_uses_do_not_count() -> None:
    """An image that no list names may come or go, and the order on disk may be another."""
    before = fingerprint(changed("train", lambda source: with_digests(without_the_last(source))))
    order = torch.randperm(len(SPLITS.train[0]), generator=torch.Generator().manual_seed(0))

    def shuffled(source: Source) -> Source:
        places = torch.argsort(order)[:-1]
        targets = {task: target[order] for task, target in source.targets.items()}
        return with_digests(Source(source.images[order], targets, places))

    assert fingerprint(changed("train", shuffled)) == before
    assert fingerprint(changed("train", with_digests))["train"] != before["train"]
