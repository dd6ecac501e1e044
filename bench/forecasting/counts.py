"""What follows from the sizes of a data set without any measurement: steps, images to evaluate, bytes on disk."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from bench.engine.batches import steps_per_epoch
from bench.engine.loop import AVERAGED_EPOCHS
from bench.spec.planning import PlanError
from bench.spec.resolve import RunSpec
from datasets import DATASETS, find
from datasets.contract import Counts, DatasetInfo, DataSettings, Source
from datasets.embedded import digits
from datasets.inventory import PARTS, SCENE_PARTS
from datasets.losses import cross_entropy
from datasets.nyuv2 import VALIDATION_SHARE
from methods.architectures.backbones import BACKBONES

# Of data sets that are made here at a size that their row doesn't give.
_AS_MADE = {"digits": (digits.SIDE, digits.SIDE)}
# Bytes of a prepared row's stamp, and of a number in a table of comma-separated values at full precision.
_STAMP, _WRITTEN_NUMBER = 16, 20


@dataclass(frozen=True)
class Sizes:
    """Images by part and source: a source per task of a multi-input problem, else one."""

    train: tuple[int, ...]
    validation: tuple[int, ...]
    test: tuple[int, ...]

    @property
    def images(self) -> int:
        return sum((*self.train, *self.validation, *self.test))


@dataclass(frozen=True)
class Stock:
    """A data set before a run. here: whether runs find it, or make it. image_size: (height, width) in pixels.

    remarks: for the user, where sizes are not those of the files that will be read.
    """

    name: str
    here: bool
    sizes: Sizes
    image_size: tuple[int, int]
    remarks: tuple[str, ...] = ()


def take_stock(name: str, settings: DataSettings, data_root: Path) -> Stock:
    """Counts the files of a data set, or takes the published counts where it isn't here; decodes nothing.

    Raises:
        PlanError: nothing tells how large it is. DataError: its folder can't be listed.
    """
    info, folder = DATASETS[name], find(name, data_root)
    counts: Counts = info.published
    remarks = []
    # What is made here always has the counts of its row.
    if folder is not None and info.make is None and info.inventory is not None:
        found = info.inventory(folder)
        if not found.errors:
            counts = found.counts
        else:
            remarks.append(
                f"{name}: not whole, so its published sizes are taken; python -m bench.data check {name} tells why."
            )
    if settings.splits:
        remarks.append(f"{name}: the sizes of the drawn partition stand for those of the lists in {settings.splits}.")
    sizes = sizes_of(counts, info, settings)
    if sizes is None:
        raise PlanError(
            f"{name}: expected the sizes of its parts, found none; give its row in datasets/__init__.py `published` "
            "counts or an `inventory`."
        )
    here = folder is not None or info.make is not None
    return Stock(name, here, sizes, _image_size(name, settings, counts), tuple(remarks))


def sizes_of(counts: Counts, info: DatasetInfo, settings: DataSettings) -> Sizes | None:
    """The sizes that these counts of an inventory mean; None where they don't tell."""
    own = [f"{task.key}: {PARTS}" for task in info.tasks]
    if all(key in counts for key in own):
        train, validation, test = zip(*(counts[key] for key in own), strict=True)
        return Sizes(train, validation, test)
    if PARTS in counts:
        first, second, third = counts[PARTS]
        return Sizes((first,), (second,), (third,))
    scenes = [f"{part}: images" for part in SCENE_PARTS]
    if all(key in counts for key in scenes):
        (everything,), (tested,) = (counts[key] for key in scenes)
        held_out = round(VALIDATION_SHARE * everything) if settings.protocol == "heldout" else 0
        return Sizes((everything - held_out,), (held_out,), (tested,))
    return None


def _image_size(name: str, settings: DataSettings, counts: Counts) -> tuple[int, int]:
    if settings.image_size is not None:
        return settings.image_size
    if "height / width" in counts:
        height, width = counts["height / width"]
        return height, width
    if name in _AS_MADE:
        return _AS_MADE[name]
    raise PlanError(f"{name}: expected data.image_size=[height, width], found none to plan with.")


def steps_in_epoch(sizes: Sizes, batch_size: int) -> int:
    """Training steps of an epoch, by the engine's own rule."""
    return steps_per_epoch(tuple(Source(torch.empty(size, 0), {}) for size in sizes.train), batch_size)


def evaluated_images(sizes: Sizes, epochs: int) -> int:
    """Images that a run passes ahead outside training: validation every epoch and test twice.

    Without validation, test in each of the last epochs, of which the mean is reported.
    """
    if all(sizes.validation):
        return epochs * sum(sizes.validation) + 2 * sum(sizes.test)
    return min(AVERAGED_EPOCHS, epochs) * sum(sizes.test)


def prepared_bytes(stock: Stock, info: DatasetInfo) -> int:
    """Bytes of the arrays into which files are decoded: images in bytes and, of dense problems, targets by pixel."""
    pixels = math.prod(stock.image_size)
    rows = [3 * pixels]
    if BACKBONES[info.backbone].features.dense:
        # Labels are kept in bytes, all else in float32.
        rows += [pixels if task.loss is cross_entropy else 4 * task.outputs * pixels for task in info.tasks]
    return stock.sizes.images * sum(row + _STAMP for row in rows)


def table_bytes(spec: RunSpec, steps: int) -> int:
    """About as many bytes as the tables of a run take: curve.csv, positions.csv, cosines.csv."""
    tasks = len(spec.info.tasks)
    measured = sum(len(task.measure.metrics) for task in spec.info.tasks)
    numbers = spec.settings.train.epochs * (4 + 2 * tasks + measured)
    if spec.settings.arch.position_rule is not None:
        numbers += steps * (1 + tasks)
    if spec.settings.train.cosines_every:
        numbers += steps // spec.settings.train.cosines_every * (1 + math.comb(tasks, 2))
    return _WRITTEN_NUMBER * numbers


def makespan(seconds: Sequence[float], jobs: int) -> float:
    """Seconds until all runs are done, when `jobs` workers take one after another in this order."""
    free_at = [0.0] * jobs
    for run in seconds:
        first = free_at.index(min(free_at))
        free_at[first] += run
    return max(free_at)
