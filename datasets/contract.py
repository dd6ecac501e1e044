"""What a problem is: tasks with their losses and metrics, and splits of images that tasks read.

m tasks, B batch. Task i is known by its index in `DatasetInfo.tasks`, everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torch import Tensor

Direction = Literal["higher", "lower"]
Kind = Literal["multi-input", "single-input"]
Selection = Literal["accuracy", "gain"]


class DataError(Exception):
    """Data that is absent or not as it should be; the message says what was expected, found, and what to do."""


class DataMissing(DataError):
    """The data set is not where it was looked for."""


@dataclass(frozen=True)
class Metric:
    """A number reported per task.

    direction: whether "higher" or "lower" is better. unit: "%", "m", "°" or "" (a plain ratio).
    """

    key: str
    label: str
    direction: Direction
    unit: str = ""


Observation = tuple[Tensor, ...]


@dataclass(frozen=True)
class Measure:
    """Metrics over a whole split from what each batch contributes, so that they don't depend on the batch size.

    observe(output, target) -> tensors of one batch; summarise(observations of all batches) -> value per metric key.
    """

    metrics: tuple[Metric, ...]
    observe: Callable[[Tensor, Tensor], Observation]
    summarise: Callable[[Sequence[Observation]], dict[str, float]]


@dataclass(frozen=True)
class Task:
    """One task: `outputs` channels of its head, `loss(output, target)` -> scalar mean, and its metrics.

    constant(training targets) -> (outputs,) the best answer that ignores the image; it is what a method must beat.
    """

    key: str
    label: str
    outputs: int
    loss: Callable[[Tensor, Tensor], Tensor]
    measure: Measure
    constant: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Source:
    """Images and the tasks that read them.

    images: (N, H, W, 3) uint8, possibly memory-mapped. targets: task index -> (N, ...).
    A multi-input problem has one source per task; a single-input problem has one source with all tasks.
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
    official.
    """

    image_size: tuple[int, int] | None
    split_seed: int = 0


@dataclass(frozen=True)
class Recipe:
    """How long and with what a network is trained on a data set, the same for every method.

    An epoch is the longest source's number of batches; shorter sources cycle.
    lr_decay_every (epochs; 0: never) and lr_decay: step schedule of the network's learning rate.
    cosines_every: steps between two looks at the cosines of the tasks' gradients (0: never). A look costs a backward
    pass per task and changes nothing.
    """

    epochs: int
    batch_size: int
    lr: float
    weight_decay: float = 0.0
    lr_decay_every: int = 0
    lr_decay: float = 0.5
    cosines_every: int = 0

    def __post_init__(self) -> None:
        at_least = {"epochs": 1, "batch_size": 1, "lr": 0, "weight_decay": 0, "lr_decay_every": 0, "cosines_every": 0}
        for name, least in at_least.items():
            if not getattr(self, name) >= least:
                raise ValueError(f"`{name}` must be ≥ {least}, found {getattr(self, name)}")
        if not self.lr_decay > 0:
            raise ValueError(f"`lr_decay` must be > 0, found {self.lr_decay}")


@dataclass(frozen=True)
class DatasetInfo:
    """A row of the table of data sets.

    folder: names under the data root where it is looked for; it is there if any of `markers` is inside.
    backbone, head, backbone_weights: names that `methods` knows. mean, std: per-channel normalisation of images in
    [0, 1]. selection: what picks the epoch on validation, "accuracy" (mean over tasks) or "gain" (mean over tasks of
    the log gain over the constant answer).
    read(folder, settings) -> Splits. make(folder) writes an embedded data set in the layout of its kind.
    how: where to get it and how to lay it out.
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
