"""The three shapes of a multi-task problem on which a training step is timed: real networks, images of noise.

A step takes as long on noise as on images, so no data set is needed. "office" has an input for each of four tasks,
"nyuv2" one input and three dense tasks, "celeba" one input and forty tasks; networks, heads and losses are those of
the data set. B batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Generator, Tensor
from torch.nn import functional

from bench.engine.seeds import generator_for
from bench.spec.resolve import RunSpec, resolve
from datasets import DATASETS
from datasets.contract import Batch, Group, Task
from datasets.losses import binary_cross_entropy, cross_entropy, depth_loss, normal_loss
from methods.architectures.backbones import BACKBONES

Size = Literal["cpu", "paper"]

_SEED = 0


@dataclass(frozen=True)
class Shape:
    """Batches of `batch_size` images, per input, of image_size (height, width) pixels.

    data: whose network, losses and recipe these are. n_tasks: of its tasks, repeated from the first where there are
    more. settings: of the run, dotted.
    """

    key: str
    label: str
    data: str
    batch_size: int
    image_size: tuple[int, int]
    n_tasks: int
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def tasks(self) -> list[Task]:
        own = DATASETS[self.data].tasks
        return [own[task % len(own)] for task in range(self.n_tasks)]

    def spec(
        self, method: str | None, architecture: str | None = None, weighting: str | None = None, **settings: Any
    ) -> RunSpec:
        """The run whose steps are timed, from random first weights; `settings` go on top of the shape's own.

        Raises:
            UnknownName, SpecError: a name or a setting is not known.
        """
        always = {"backbone.weights": "none", "train.batch_size": self.batch_size}
        chosen = {**always, **self.settings, **settings}
        return resolve(
            self.data, method, architecture=architecture, weighting=weighting, seed=_SEED, assignments=chosen
        )

    def noise(self, device: torch.device) -> Batch:
        """A batch as training has it, of normalised noise, with targets by chance."""
        tasks = dict(enumerate(self.tasks))
        several = DATASETS[self.data].kind == "multi-input"
        readers = [{task: what} for task, what in tasks.items()] if several else [tasks]
        return [self._group(index, some, device) for index, some in enumerate(readers)]

    def _group(self, index: int, tasks: Mapping[int, Task], device: torch.device) -> Group:
        generator = generator_for(_SEED, "noise", index)
        inputs = torch.randn((self.batch_size, 3, *self.image_size), generator=generator)
        dense = BACKBONES[DATASETS[self.data].backbone].features.dense
        places = (self.batch_size, *(self.image_size if dense else ()))
        targets = {index: _TARGETS[task.loss](task, places, generator) for index, task in tasks.items()}
        return Group(inputs.to(device), {index: target.to(device) for index, target in targets.items()})


def _labels(task: Task, places: Sequence[int], generator: Generator) -> Tensor:
    return torch.randint(task.outputs, tuple(places), generator=generator)


def _answers(task: Task, places: Sequence[int], generator: Generator) -> Tensor:
    return torch.randint(2, tuple(places), generator=generator).float()


def _depths(task: Task, places: Sequence[int], generator: Generator) -> Tensor:
    """(B, 1, H, W), in metres as rooms have them."""
    return 0.5 + 9 * torch.rand(tuple(places), generator=generator).unsqueeze(1)


def _normals(task: Task, places: Sequence[int], generator: Generator) -> Tensor:
    """(B, 3, H, W), of length one."""
    return functional.normalize(torch.randn((*places, 3), generator=generator), dim=-1).movedim(-1, 1)


# (task, (B, [H, W]), generator) -> a target that the loss can be worked out for.
_TARGETS: Mapping[Callable[[Tensor, Tensor], Tensor], Callable[[Task, Sequence[int], Generator], Tensor]] = {
    cross_entropy: _labels,
    binary_cross_entropy: _answers,
    depth_loss: _depths,
    normal_loss: _normals,
}

# Key: data set, label, batch size, (height, width) at a size that two cores do in about a second.
_ON_CPU: Mapping[str, tuple[str, str, int, tuple[int, int]]] = {
    "office": ("officehome", "four tasks, an input each", 8, (96, 96)),
    "nyuv2": ("nyuv2", "three dense tasks on one input", 2, (72, 96)),
    "celeba": ("celeba", "forty tasks on one input", 8, (64, 64)),
}


def shapes(size: Size) -> dict[str, Shape]:
    """The three shapes by key, at a size for CPUs or as they are trained for the paper's tables."""
    return {key: _shape(key, size) for key in _ON_CPU}


def _shape(key: str, size: Size) -> Shape:
    data, label, batch_size, image_size = _ON_CPU[key]
    info = DATASETS[data]
    if size == "paper":
        assert info.image_size is not None, f"{data} has no image size of its own"
        batch_size, image_size = info.recipe.batch_size, info.image_size
    return Shape(key, label, data, batch_size, image_size, len(info.tasks))
