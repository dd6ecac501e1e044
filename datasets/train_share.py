"""A problem with a part of its training images: the setting `data.train_share`, for training-size curves."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from datasets.contract import DatasetInfo, DataSettings, Source, Splits


def with_train_share(info: DatasetInfo, share: float) -> DatasetInfo:
    """The problem with this share of each training source; unchanged with a share of 1.

    Images are taken in a random order that depends on `data.split_seed` only: a smaller share is part of a larger one,
    and every method gets the same. Validation and test stay as they are. An epoch has fewer steps.
    """
    if share == 1:
        return info

    def read(folder: Path, settings: DataSettings) -> Splits:
        splits = info.read(folder, settings)
        train = tuple(_first(source, share, [settings.split_seed, place]) for place, source in enumerate(splits.train))
        kept = [len(source) for source in train]
        return replace(splits, train=train, provenance={**splits.provenance, "training images kept": kept})

    return replace(info, read=read)


def _first(source: Source, share: float, seed: list[int]) -> Source:
    """The source with the first images of a random order, at least one, in their own order."""
    order = np.random.default_rng(seed).permutation(len(source))[: kept_of(len(source), share)]
    return replace(source, rows=source.rows_at(torch.from_numpy(np.sort(order))))


def kept_of(images: int, share: float) -> int:
    """How many of a source's training images a share keeps."""
    return min(images, max(1, math.floor(images * share)))
