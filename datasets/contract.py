"""What a problem is: tasks with their losses and metrics, and splits of images that tasks read.

m tasks, B batch. Task i is known by its index in `DatasetInfo.tasks`, everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from datasets.faults import DataError as DataError
from datasets.faults import DataMissing as DataMissing

Direction = Literal["higher", "lower"]
Kind = Literal["multi-input", "single-input"]
Selection = Literal["accuracy", "gain"]
Protocol = Literal["heldout", "published"]
Counts = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Metric:
    """A number reported per task.

    direction: whether "higher" or "lower" is better. unit: "%", "m", "°" or "" (a plain ratio).
    """

    key: str
    label: str
    direction: Direction
    unit: str = ""


BatchStatistics = tuple[Tensor, ...]


@dataclass(frozen=True)
class Measure:
    """Metrics over a whole split from what each batch contributes, so that they don't depend on the batch size.

    update(output, target) -> tensors of one batch; compute(observations of all batches) -> value per metric key.
    """

    metrics: tuple[Metric, ...]
    update: Callable[[Tensor, Tensor], BatchStatistics]
    compute: Callable[[Sequence[BatchStatistics]], dict[str, float]]


@dataclass(frozen=True)
class Task:
    """One task: `outputs` channels of its head, `loss(output, target)` -> scalar mean, and its metrics.

    constant(training targets) -> (outputs,) the best answer that ignores the image; it is what a method must beat.
    batchwise(n) -> the measure of peers that average their metrics over batches of n images; None where none does.
    """

    key: str
    label: str
    outputs: int
    loss: Callable[[Tensor, Tensor], Tensor]
    measure: Measure
    constant: Callable[[Tensor], Tensor]
    batchwise: Callable[[int], Measure] | None = None


@dataclass(frozen=True)
class Source:
    """Images and the tasks that read them.

    images: (N, H, W, 3) uint8, possibly memory-mapped. targets: task index -> (N, ...).
    A multi-input problem has one source per task; a single-input problem has one source with all tasks.
    N is 0 where a protocol leaves a part of the splits empty.
    """

    images: Tensor
    targets: Mapping[int, Tensor]

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class Group:
    """The part of a batch that comes from one source: normalised inputs (B, 3, H, W) and targets by task index."""

    inputs: Tensor
    targets: Mapping[int, Tensor]


Batch = Sequence[Group]
Split = tuple[Source, ...]


@dataclass(frozen=True)
class Splits:
    """The three parts of a problem, and `provenance`: counts and a digest of who is where, for the record."""

    train: Split
    validation: Split
    test: Split
    provenance: Mapping[str, object]


@dataclass(frozen=True)
class DataSettings:
    """How a data set is read.

    image_size: (height, width) in pixels, None for the size on disk. split_seed: draws the partition where none is
    official. splits: a folder with lists <domain>_<train|val|test>.txt that take the place of the drawn partition
    (data sets of the Office kind); "" for none.
    protocol: "heldout" validates on a part of the training images; "published" trains on all of them and validates on
    none (data sets of the NYUv2 kind). augment: whether training images are varied at random.
    metrics_batch: 0 for metrics that are exact over a split; n for the legacy of peers that average depth and normal
    errors over batches of n images (data sets of the NYUv2 kind).
    """

    image_size: tuple[int, int] | None
    split_seed: int = 0
    splits: str = ""
    protocol: Protocol = "heldout"
    augment: bool = False
    metrics_batch: int = 0

    def __post_init__(self) -> None:
        if not self.metrics_batch >= 0:
            raise ValueError(f"`metrics_batch` must be ≥ 0, found {self.metrics_batch}")


def refuse(settings: DataSettings, names: Sequence[str], kind: str) -> None:
    """Nothing, where these settings have their defaults.

    Raises:
        DataError: one hasn't, though data sets of this kind have no use for it; ignored, it would mislabel a run.
    """
    default = DataSettings(settings.image_size)
    for name in names:
        expected, found = getattr(default, name), getattr(settings, name)
        if found != expected:
            raise DataError(
                f"data.{name}: expected {expected!r} for data sets of the {kind} kind, found {found!r}; "
                "it isn't for them, leave it out."
            )


@dataclass(frozen=True)
class Recipe:
    """How long and with what a network is trained on a data set, the same for every method.

    An epoch is the longest source's number of batches; shorter sources cycle.
    lr_decay_every (epochs; 0: never) and lr_decay: step schedule of the network's learning rate.
    cosines_every: steps between two looks at the cosines of the tasks' gradients (0: never). A look costs a backward
    pass per task and changes nothing.
    accumulate: parts of equal size in which a batch passes, one after another, to save memory: the step is that of the
    whole batch, but for BatchNorm, which sees a part at a time, and masked losses, which are averaged over parts.
    clip_norm: the largest norm of the whole gradient, shared part and heads together, once the method has weighted it
    (0: never clipped). Positions have a step size of their own and aren't clipped.
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
        if not self.lr_decay > 0:
            raise ValueError(f"`lr_decay` must be > 0, found {self.lr_decay}")


@dataclass(frozen=True)
class FileGroup:
    """Files of one kind, for a look at their contents.

    key: like "amazon" or "train/depth". load(path) raises DataError where a file isn't as it should be; expected says
    how that is. ranged: whether the lowest and highest value tell a person something.
    oddness(array) -> what is odd about it, though it can be used; "" for nothing.
    """

    key: str
    paths: Sequence[Path]
    load: Callable[[Path], NDArray[np.generic]]
    expected: str
    ranged: bool = False
    oddness: Callable[[NDArray[np.generic]], str] = lambda array: ""


@dataclass(frozen=True)
class Inventory:
    """What stands in the folder of a data set before anything is decoded.

    counts: numbers by what they count. faults: whatever would stop a run, a sentence each that begins with the file.
    remarks: what is odd, likewise. classes: names of the labels, where they are known.
    """

    counts: Counts
    groups: Sequence[FileGroup]
    faults: Sequence[str] = ()
    remarks: Sequence[str] = ()
    classes: Sequence[str] = ()


@dataclass(frozen=True)
class DatasetInfo:
    """A row of the table of data sets.

    folder: names under the data root where it is looked for; it is there if any of `markers`, paths or patterns of
    paths, is inside.
    backbone, head, backbone_weights: names that `methods` knows. mean, std: per-channel normalisation of images in
    [0, 1]. selection: what picks the epoch on validation, "accuracy" (mean over tasks) or "gain" (mean over tasks of
    the log gain over the constant answer).
    read(folder, settings) -> Splits. make(folder) writes an embedded data set in the layout of its kind.
    how: where to get it and how to lay it out.
    inventory(folder): all that stands there, with every fault. published: the counts that it should give.
    version: raised by hand with every change of reader, losses, metrics or recipe that changes numbers.
    maker_version: the same for `make`. Both are kept in records.
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
    inventory: Callable[[Path], Inventory] | None = None
    published: Counts = field(default_factory=dict)
    version: int = 1
    maker_version: int = 1

    def scored_by(self, metrics_batch: int) -> DatasetInfo:
        """This row with the measures that `DataSettings.metrics_batch` asks for."""
        if metrics_batch == 0:
            return self
        tasks = (replace(t, measure=t.batchwise(metrics_batch)) if t.batchwise else t for t in self.tasks)
        return replace(self, tasks=tuple(tasks))
