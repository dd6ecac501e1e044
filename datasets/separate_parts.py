"""Every part needs images, and validation and test must be different ones: else the epoch is selected on test."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from datasets.contract import DataError, DataSettings, Source, Splits


def refuse_empty_parts(splits: Splits, settings: DataSettings, place: object) -> None:
    """Checks that each task has images in each part; in validation, unless the protocol has no validation set.

    Without validation no epoch is selected: the mean of the last ones on test is reported, which only the protocol may
    ask for.

    place: where the splits were read, for the message.

    Raises:
        DataError: a part is empty.
    """
    needed = ("train", "test") if settings.protocol == "published" else ("train", "validation", "test")
    for part in needed:
        sources = getattr(splits, part)
        empty = [number for number, source in enumerate(sources, 1) if source.targets and not len(source)]
        if empty:
            where = f" of source {empty[0]} of {len(sources)}" if len(sources) > 1 else ""
            raise DataError(f"{place}: expected images in the part {part}{where}, found none; add more images.")


def refuse_test_as_validation(splits: Splits, fingerprint: Mapping[str, str], place: object) -> None:
    """Checks that a reader has not given test images as validation images.

    They are told by their rows in one array, and by the content of both parts as a whole. Single images with the same
    content are allowed: data sets have duplicates.

    fingerprint: of the splits. place: where they were read, for the message.

    Raises:
        DataError: it has.
    """
    held_out = [(v, t) for v, t in zip(splits.validation, splits.test, strict=True) if v.targets]
    shared = sum(_shared_rows(validation, test) for validation, test in held_out)
    if fingerprint["validation"] == fingerprint["test"] and any(len(test) for _, test in held_out):
        shared = sum(len(test) for _, test in held_out)
    if shared:
        raise DataError(
            f"{place}: expected other images for validation than for test, found {shared} in both; epochs would be "
            "selected on test. Correct the reader of this data set."
        )


def _shared_rows(one: Source, other: Source) -> int:
    """How many rows of one array are in both sources."""
    if one.images.device != other.images.device or one.images.data_ptr() != other.images.data_ptr():
        return 0
    return int(torch.isin(_rows(one), _rows(other)).sum())


def _rows(source: Source) -> Tensor:
    return source.rows_at(torch.arange(len(source)))
