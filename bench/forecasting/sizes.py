"""What follows from the size of a data set without measuring: length of an epoch and bytes on disk."""

from __future__ import annotations

import math
from dataclasses import dataclass

from bench.spec.request import PlanError
from datasets import DATASETS
from datasets.contract import DataSettings
from datasets.embedded import digits
from datasets.inventory import PARTS
from datasets.losses import cross_entropy
from datasets.nyuv2 import VALIDATION_SHARE
from datasets.scene_parts import PART_NAMES
from datasets.train_share import kept_of
from methods.architectures.backbones import BACKBONES


@dataclass(frozen=True)
class DatasetSize:
    """Size of a data set.

    training: images of the largest training source, which sets the length of an epoch.
    validation, test: images of these parts, of all sources that are read.
    images: of all parts and sources.
    image_size: (height, width) in pixels.
    """

    training: int
    validation: int
    test: int
    images: int
    image_size: tuple[int, int]


def dataset_size(name: str, settings: DataSettings) -> DatasetSize:
    """From the published counts, whether or not the data set is here.

    Raises:
        PlanError: they don't give the size.
    """
    counts = DATASETS[name].published
    sources = {key.removesuffix(PARTS): sizes for key, sizes in counts.items() if key.endswith(PARTS)}
    if sources:
        training, images = max(sizes[0] for sizes in sources.values()), sum(map(sum, sources.values()))
        unread = {f"{task.key}: " for task in DATASETS[name].tasks if settings.tasks and task.key not in settings.tasks}
        read = [sizes for key, sizes in sources.items() if key not in unread]
        validation, test = (sum(sizes[part] for sizes in read) for part in (1, 2))
    elif all(f"{part}: images" in counts for part in PART_NAMES):
        (training,), (test,) = (counts[f"{part}: images"] for part in PART_NAMES)
        images = training + test
        validation = round(VALIDATION_SHARE * training) if settings.protocol == "heldout" else 0
        training -= validation
    else:
        raise PlanError(f"{name}: unknown size; give its row in datasets/__init__.py `published` counts.")
    side = (digits.SIDE, digits.SIDE) if name == "digits" else ()
    image_size = settings.image_size or counts.get("height / width", side)
    if not image_size:
        raise PlanError(f"{name}: unknown image size; set data.image_size=[height, width].")
    height, width = image_size
    return DatasetSize(kept_of(training, settings.train_share), validation, test, images, (height, width))


def prepared_bytes(name: str, size: DatasetSize) -> int:
    """Bytes of the decoded files: images, and for dense problems also targets."""
    info, pixels = DATASETS[name], math.prod(size.image_size)
    row = 3 * pixels
    if BACKBONES[info.backbone].features.dense:
        # Class labels are stored in bytes, all else in float32.
        row += sum(pixels if task.loss is cross_entropy else 4 * task.outputs * pixels for task in info.tasks)
    return size.images * row
