"""What a problem consists of: tasks with losses and metrics, and splits of images that the tasks read.

m tasks, B batch. Everywhere, a task is identified by its index in `DatasetInfo.tasks`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datasets.decoding.rows import Attempt, RowSource
from datasets.downloads import Origin
from datasets.errors import DataError as DataError
from datasets.errors import DataMissing as DataMissing
from datasets.errors import NotPrepared as NotPrepared

Direction = Literal["higher", "lower"]
Kind = Literal["multi-input", "single-input"]
Selection = Literal["accuracy", "gain"]
Protocol = Literal["heldout", "published"]
Counts = Mapping[str, tuple[int, ...]]

IMAGES = -1  # the key of a source's images beside task indices, in `Source.digests`


@dataclass(frozen=True)
class Metric:
    """A number reported per task.

    direction: whether "higher" or "lower" is better.
    unit: "%", "m", "°", or "" for a plain ratio.
    """

    key: str
    label: str
    direction: Direction
    unit: str = ""


BatchStatistics = tuple[Tensor, ...]


@dataclass(frozen=True)
class Measure:
    """Metrics over a whole split from statistics of its batches, so that they don't depend on the batch size.

    update(output, target): the statistics of one batch, on any device. It must not wait for an accelerator.
    compute(statistics of all batches, on the CPU): the value of each metric, by its key.
    per_item(output, target): the outcome of each item of a batch, on any device, without waiting: (B,) bool, whether
        the prediction is correct, with the first metric as its mean; or (B, k) float32, the k metrics on each image
        alone, NaN where it has nothing to measure.
    """

    metrics: tuple[Metric, ...]
    update: Callable[[Tensor, Tensor], BatchStatistics]
    compute: Callable[[Sequence[BatchStatistics]], dict[str, float]]
    per_item: Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Task:
    """One task.

    outputs: channels of its head.
    loss(output, target): a scalar, the mean over the batch.
    measure: its metrics.
    constant(batches of training targets): (outputs,) the output of the dummy baseline, which ignores the image.
    batchwise(n): the measure of peers that average their metrics over batches of n images; None if no peer does.
    """

    key: str
    label: str
    outputs: int
    loss: Callable[[Tensor, Tensor], Tensor]
    measure: Measure
    constant: Callable[[Iterable[Tensor]], Tensor]
    batchwise: Callable[[int], Measure] | None = None


@dataclass(frozen=True)
class Source:
    """Images and the tasks that read them.

    images: (M, H, W, 3) uint8, possibly memory-mapped.
    targets: (M, ...) by task index, possibly memory-mapped.
    rows: (N,) which of the M rows belong to this source, in order; None for all. They are read when a batch needs them,
        so that a source takes no memory. N is 0 if a protocol leaves a split empty.
    digests: (M, 16) uint8 for arrays that are too large to be hashed at every start: a hash of the content of each row,
        by IMAGES or task index.

    A multi-input problem has one source per task; a single-input problem has one source with all tasks. A source
    without targets is read by no task. Its length counts: the order of batches is drawn for one source after another.
    """

    images: Tensor
    targets: Mapping[int, Tensor]
    rows: Tensor | None = None
    digests: Mapping[int, NDArray[np.uint8]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.images) if self.rows is None else len(self.rows)

    def rows_at(self, places: Tensor) -> Tensor:
        """The rows of the arrays at these places (B,) of the source, each from 0 to N - 1."""
        return places if self.rows is None else self.rows[places]

    def target_batches(self, task: int, size: int) -> Iterator[Tensor]:
        """The targets of a task in order, `size` at a time."""
        for places in torch.arange(len(self)).split(size) if len(self) else ():
            yield self.targets[task][self.rows_at(places)]


@dataclass(frozen=True)
class Group:
    """The part of a batch from one source: normalised inputs (B, 3, H, W) and targets by task index."""

    inputs: Tensor
    targets: Mapping[int, Tensor]


Batch = Sequence[Group]
Split = tuple[Source, ...]


@dataclass(frozen=True)
class Splits:
    """The three splits of a problem.

    provenance: for the record; the rule of the partition, counts, and a digest of which image is in which split.
    """

    train: Split
    validation: Split
    test: Split
    provenance: Mapping[str, object]


# More is a slip of the keyboard: height or width of an image, epochs of a run, images and micro-batches of a batch.
_MOST_PIXELS, _MOST_EPOCHS, _MOST_IMAGES, _MOST_MICRO_BATCHES = 2**12, 1_000_000, 2**16, 2**10


@dataclass(frozen=True)
class DataSettings:
    """How a data set is read.

    image_size: (height, width) in pixels; None for the size on disk.
    split_seed: seed of the random partition, for data sets without an official one.
    split_per_seed: whether each seed of a study has a partition of its own: `split_seed` plus the run's seed draws it.
        Images of an official test set are then in every part.
    splits: a folder with lists <domain>_<train|val|test>.txt that replace the random partition; "" for none. In the
        settings of a run, a name made from their contents instead. For data sets of the Office kind.
    protocol: "heldout" validates on a part of the training images; "published" trains on all of them and validates on
        none. For data sets of the NYUv2 kind.
    augment: whether training images are augmented at random.
    metrics_batch: 0 for metrics that are exact over a split; n for the legacy metrics of peers that average depth and
        normal errors over batches of n images. For data sets of the NYUv2 kind.
    tasks: keys of those that are trained; () for all tasks of the data set.
    train_share: the share of the training images that is used, of each source.
    """

    image_size: tuple[int, int] | None
    split_seed: int = 0
    split_per_seed: bool = False
    splits: str = ""
    protocol: Protocol = "heldout"
    augment: bool = False
    metrics_batch: int = 0
    tasks: tuple[str, ...] = ()
    train_share: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.train_share <= 1:
            raise ValueError(f"`train_share` must be > 0 and ≤ 1, found {self.train_share}")
        for name in ("metrics_batch", "split_seed"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"`{name}` must be ≥ 0, found {getattr(self, name)}")
        if self.image_size is not None and not all(1 <= extent <= _MOST_PIXELS for extent in self.image_size):
            raise ValueError(f"`image_size` must be from 1 to {_MOST_PIXELS}, found {self.image_size}")


def refuse(settings: DataSettings, names: Sequence[str], where: str) -> None:
    """Rejects settings that have no use there; a setting that is silently ignored mislabels a run.

    Raises:
        DataError: one of them differs from its default.
    """
    default = DataSettings(settings.image_size)
    for name in names:
        expected, found = getattr(default, name), getattr(settings, name)
        if found != expected:
            raise DataError(
                f"data.{name}: expected {expected!r} for {where}, found {found!r}; it has no use there, leave it out."
            )


@dataclass(frozen=True)
class Recipe:
    """How a network is trained on a data set, the same for every method.

    epochs: an epoch has as many batches as the largest source; smaller sources repeat.
    lr_decay_every, lr_decay: step schedule of the network's learning rate; every so many epochs (0: never) it is
        multiplied by lr_decay.
    cosines_every: record the cosines of the tasks' gradients every so many steps (0: never). This costs a backward
        pass per task and doesn't change the training.
    accumulate: number of micro-batches per batch, of equal size, to save memory. The step is that of the whole batch,
        except that BatchNorm sees one micro-batch at a time and masked losses are averaged over micro-batches.
    clip_norm: the maximum norm of the weighted gradient of shared part and heads together (0: no clipping). Positions
        have a step size of their own and aren't clipped.
    """

    epochs: int
    batch_size: int
    lr: float
    weight_decay: float = 0.0
    lr_decay_every: int = 0
    lr_decay: float = 0.5
    cosines_every: int = 0
    accumulate: int = 1
    clip_norm: float = 0.0

    def __post_init__(self) -> None:
        at_least = {"epochs": 1, "batch_size": 1, "lr": 0, "weight_decay": 0, "lr_decay_every": 0, "cosines_every": 0}
        at_least |= {"accumulate": 1, "clip_norm": 0}
        for name, least in at_least.items():
            if not getattr(self, name) >= least:
                raise ValueError(f"`{name}` must be ≥ {least}, found {getattr(self, name)}")
        at_most = {"epochs": _MOST_EPOCHS, "batch_size": _MOST_IMAGES, "accumulate": _MOST_MICRO_BATCHES}
        for name, most in at_most.items():
            if not getattr(self, name) <= most:
                raise ValueError(f"`{name}` must be ≤ {most}, found {getattr(self, name)}")
        if not self.lr_decay > 0:
            raise ValueError(f"`lr_decay` must be > 0, found {self.lr_decay}")


@dataclass(frozen=True)
class FileGroup:
    """Files of one kind, or rows of parquet files, whose contents can be checked.

    key: like "amazon" or "train/depth".
    source: reads them as runs do.
    expected: what each should hold, in words.
    ranged: whether the minimum and maximum are worth showing.
    oddness(attempt): what is unusual about one that can be used; "" for nothing.
    """

    key: str
    source: RowSource
    expected: str
    ranged: bool = False
    oddness: Callable[[Attempt], str] = lambda attempt: ""


@dataclass(frozen=True)
class Inventory:
    """What is in the folder of a data set, before anything is decoded.

    counts: numbers by what they count.
    errors: everything that would stop a run; each sentence begins with the file.
    remarks: everything unusual, likewise.
    classes: names of the labels, if known.
    """

    counts: Counts
    groups: Sequence[FileGroup]
    errors: Sequence[str] = ()
    remarks: Sequence[str] = ()
    classes: Sequence[str] = ()


@dataclass(frozen=True)
class DatasetInfo:
    """A row of the registry of data sets.

    folder: names that its folder may have under the data root, in any case, with or without hyphens and the like.
    markers: paths, or patterns of paths; the folder is recognised by any of them.
    traces: likewise, of an incomplete copy, which the reader describes.
    columns: those that its parquet files must have, if several data sets have such files.
    backbone, head, backbone_weights: names that `methods` knows.
    mean, std: per-channel normalisation of images in [0, 1].
    selection: criterion for the best epoch on validation; "accuracy" is the mean over tasks, "gain" the mean over tasks
        of the log gain over the dummy baseline.
    read(folder, settings): the splits.
    make(folder): writes an embedded data set in the layout of its kind.
    how: where to get it and how to lay it out, in a sentence or two.
    origin: the same in detail.
    inventory(folder, settings): what is there, with every error that would stop `read`.
    published: the counts that the inventory should give.
    if_pooled: for data with an official test set, what a partition of all images means: a sentence without its end.
    control: whether the problem is built so that the answer is known, to check the suite. It is no evidence for or
        against a method: reports leave it out of ranks over problems.
    version: raised by hand with every change of reader, losses, metrics or recipe that changes numbers.
    maker_version: the same for `make`. Both are stored in records.
    """

    label: str
    kind: Kind
    tasks: tuple[Task, ...]
    folder: tuple[str, ...]
    markers: tuple[str, ...]
    backbone: str
    backbone_weights: str
    head: str
    recipe: Recipe
    selection: Selection
    image_size: tuple[int, int] | None
    read: Callable[[Path, DataSettings], Splits]
    how: str
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    make: Callable[[Path], None] | None = None
    source: str = ""
    traces: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    origin: Origin | None = None
    inventory: Callable[[Path, DataSettings], Inventory] | None = None
    published: Counts = field(default_factory=dict)
    if_pooled: str = ""
    control: bool = False
    version: int = 1
    maker_version: int = 1

    def __post_init__(self) -> None:
        if self.selection not in get_args(Selection):
            raise ValueError(f"`selection` must be one of {', '.join(get_args(Selection))}, found {self.selection!r}")

    def scored_by(self, metrics_batch: int) -> DatasetInfo:
        """This row with the measures for this `DataSettings.metrics_batch`."""
        if metrics_batch == 0:
            return self
        tasks = (replace(t, measure=t.batchwise(metrics_batch)) if t.batchwise else t for t in self.tasks)
        return replace(self, tasks=tuple(tasks))
