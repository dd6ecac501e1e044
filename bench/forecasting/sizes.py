"""What follows from the size of a data set without measuring: steps, images to evaluate, bytes on disk."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch

from bench.engine.batches import steps_per_epoch
from bench.engine.loop import AVERAGED_EPOCHS
from bench.spec.planning import PlanError
from datasets import DATASETS, find
from datasets.contract import Counts, DatasetInfo, DataSettings, Source
from datasets.embedded import digits
from datasets.inventory import PARTS, SCENE_PARTS
from datasets.losses import cross_entropy
from datasets.nyuv2 import VALIDATION_SHARE
from methods.architectures.backbones import BACKBONES

# Number of images by part (training, validation, test) and source: one source per task of a multi-input problem.
Parts = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]


@dataclass(frozen=True)
class DatasetSize:
    """Size of a data set.

    available: whether it was found, or is made when needed.
    image_size: (height, width) in pixels.
    note: for the user, if these are not the sizes of the files found.
    """

    name: str
    available: bool
    parts: Parts
    image_size: tuple[int, int]
    note: str = ""


def dataset_size(name: str, settings: DataSettings, data_root: Path) -> DatasetSize:
    """Counts files without decoding any; published counts for a data set that is missing or incomplete.

    Raises:
        PlanError: the size is not known.
        DataError: the folder can't be listed.
    """
    info, folder = DATASETS[name], find(name, data_root)
    counts: Counts = info.published
    note = ""
    # Data that is made here always has the counts of its row.
    if folder is not None and info.make is None and info.inventory is not None:
        found = info.inventory(folder)
        if found.errors:
            note = f"{name}: incomplete, planned with its published size; see python -m bench.data check {name}."
        else:
            counts = found.counts
    if settings.splits:
        note = f"{name}: planned with the sizes of the default split, not of {settings.splits}."
    parts = parts_of(counts, info, settings)
    if parts is None:
        raise PlanError(
            f"{name}: unknown size; give its row in datasets/__init__.py `published` counts or an `inventory`."
        )
    available = folder is not None or info.make is not None
    return DatasetSize(name, available, parts, _image_size(name, settings, counts), note)


def parts_of(counts: Counts, info: DatasetInfo, settings: DataSettings) -> Parts | None:
    """The sizes of the parts in the counts of an inventory; None if they are not among them."""
    by_task = [f"{task.key}: {PARTS}" for task in info.tasks]
    if all(key in counts for key in by_task):
        train, validation, test = zip(*(counts[key] for key in by_task), strict=True)
        return train, validation, test
    if PARTS in counts:
        first, second, third = counts[PARTS]
        return (first,), (second,), (third,)
    scenes = [f"{part}: images" for part in SCENE_PARTS]
    if all(key in counts for key in scenes):
        (trained,), (tested,) = (counts[key] for key in scenes)
        held_out = round(VALIDATION_SHARE * trained) if settings.protocol == "heldout" else 0
        return (trained - held_out,), (held_out,), (tested,)
    return None


def _image_size(name: str, settings: DataSettings, counts: Counts) -> tuple[int, int]:
    if settings.image_size is not None:
        return settings.image_size
    if "height / width" in counts:
        height, width = counts["height / width"]
        return height, width
    if name == "digits":
        return digits.SIDE, digits.SIDE
    raise PlanError(f"{name}: unknown image size; set data.image_size=[height, width].")


def steps_in_epoch(parts: Parts, batch_size: int) -> int:
    """Training steps of an epoch, by the engine's own rule."""
    return steps_per_epoch(tuple(Source(torch.empty(size, 0), {}) for size in parts[0]), batch_size)


def evaluated_images(parts: Parts, epochs: int) -> int:
    """Forward passes of single images outside training: validation every epoch, and the test set twice.

    Without a validation set: the test set in each of the last epochs, whose mean is reported.
    """
    _, validation, test = parts
    if all(validation):
        return epochs * sum(validation) + 2 * sum(test)
    return min(AVERAGED_EPOCHS, epochs) * sum(test)


def prepared_bytes(size: DatasetSize) -> int:
    """Bytes of the decoded files: images, and for dense problems also targets."""
    info, pixels = DATASETS[size.name], math.prod(size.image_size)
    row = 3 * pixels
    if BACKBONES[info.backbone].features.dense:
        # Class labels are stored in bytes, all else in float32.
        row += sum(pixels if task.loss is cross_entropy else 4 * task.outputs * pixels for task in info.tasks)
    return sum(map(sum, size.parts)) * row
