"""What training steps are timed on: real networks, heads and losses, images of noise.

A step takes as long on noise as on images, so no data set is needed. "office" has an input for each of four tasks,
"nyuv2" one input and three dense tasks, "celeba" one input and forty tasks. B batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Generator, Tensor
from torch.nn import functional

from bench.engine.seeds import generator_for
from bench.records.speed import Series
from bench.spec.lookup import lookup
from bench.spec.resolve import RunSpec, resolve
from datasets import DATASETS
from datasets.chosen_tasks import with_tasks
from datasets.contract import Batch, Group, Task
from datasets.losses import binary_cross_entropy, cross_entropy, depth_loss, normal_loss
from methods.architectures.backbones import BACKBONES

Size = Literal["cpu", "paper"]

_SEED = 0


@dataclass(frozen=True)
class Workload:
    """What a step is timed on: a network, its tasks and the size of a batch.

    batch_size: images per input.
    image_size: (height, width) in pixels.
    data: the data set whose network, losses and recipe are used.
    n_tasks: the number of tasks; if the data set has fewer, they are repeated.
    settings: of the run, by dotted key.
    series: what varies in the series of workloads that this one belongs to; "" if it belongs to none.
    """

    key: str
    label: str
    data: str
    batch_size: int
    image_size: tuple[int, int]
    n_tasks: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    series: Series = ""

    @property
    def tasks(self) -> list[Task]:
        own = with_tasks(DATASETS[self.data], self.settings.get("data.tasks", ())).tasks
        return [own[task % len(own)] for task in range(self.n_tasks)]

    def spec(self, method: str, **settings: Any) -> RunSpec:
        """The run whose steps are timed, from random weights; `settings` override the workload's own.

        Raises:
            UnknownName, SpecError: a name or a setting is not known.
        """
        always = {"backbone.weights": "none", "train.batch_size": self.batch_size}
        return resolve(self.data, method, seed=_SEED, assignments={**always, **self.settings, **settings})

    def noise(self, device: torch.device) -> Batch:
        """A training batch of normalised noise with random targets."""
        tasks = dict(enumerate(self.tasks))
        multi_input = DATASETS[self.data].kind == "multi-input"
        groups = [{index: task} for index, task in tasks.items()] if multi_input else [tasks]
        return [self._group(index, group, device) for index, group in enumerate(groups)]

    def _group(self, index: int, tasks: Mapping[int, Task], device: torch.device) -> Group:
        generator = generator_for(_SEED, "noise", index)
        inputs = torch.randn((self.batch_size, 3, *self.image_size), generator=generator)
        dense = BACKBONES[DATASETS[self.data].backbone].features.dense
        shape = (self.batch_size, *(self.image_size if dense else ()))
        targets = {index: _TARGETS[task.loss](task, shape, generator) for index, task in tasks.items()}
        return Group(inputs.to(device), {index: target.to(device) for index, target in targets.items()})


# Valid targets for each loss, from the task, the shape (B,) or (B, H, W), and a generator.
_TARGETS: Mapping[Callable[[Tensor, Tensor], Tensor], Callable[[Task, tuple[int, ...], Generator], Tensor]] = {
    cross_entropy: lambda task, shape, draw: torch.randint(task.outputs, shape, generator=draw),
    binary_cross_entropy: lambda task, shape, draw: torch.randint(2, shape, generator=draw).float(),
    # (B, 1, H, W), in metres, as in rooms.
    depth_loss: lambda task, shape, draw: 0.5 + 9 * torch.rand(shape, generator=draw).unsqueeze(1),
    # (B, 3, H, W), unit vectors.
    normal_loss: lambda task, shape, draw: functional.normalize(
        torch.randn((*shape, 3), generator=draw), dim=-1
    ).movedim(-1, 1),
}

# Small enough for a step of about a second on two cores.
_ON_CPU = (
    Workload("office", "four tasks, an input each", "officehome", 8, (96, 96), 4),
    Workload("nyuv2", "three dense tasks on one input", "nyuv2", 2, (72, 96), 3),
    Workload("celeba", "forty tasks on one input", "celeba", 8, (64, 64), 40),
)


def workloads(size: Size) -> dict[str, Workload]:
    """The three workloads by key: small ones for CPUs, or batches and images of the sizes that the paper trains on."""
    return {workload.key: workload if size == "cpu" else _as_trained(workload) for workload in _ON_CPU}


def _as_trained(workload: Workload) -> Workload:
    info = DATASETS[workload.data]
    assert info.image_size is not None, f"{workload.data} has no image size of its own"
    return replace(workload, batch_size=info.recipe.batch_size, image_size=info.image_size)


# Growth: one input for all tasks, as in CelebA, but fewer and smaller images, so that a hundred tasks are feasible.
SCALING_TASKS = (2, 5, 10, 20, 40, 70, 100)
SCALING_BACKBONES = ("small_face", "resnet18_quarters", "resnet50")
_SMALL: Mapping[str, Any] = {"data": "celeba", "batch_size": 8, "image_size": (32, 32)}
# Number of tasks in the series of backbones.
_TASKS_OF_BACKBONES = 10


def scaling_workloads(tasks: Sequence[int], backbones: Sequence[str]) -> list[Workload]:
    """A workload for each number of tasks, on CelebA's own network, then one for each backbone.

    Raises:
        UnknownName: a backbone is not known.
    """
    names = dict.fromkeys(lookup(BACKBONES, "backbone", name) for name in backbones)
    by_tasks = [Workload(f"m = {m}", f"{m} tasks", n_tasks=m, series="tasks", **_SMALL) for m in dict.fromkeys(tasks)]
    small: Mapping[str, Any] = {**_SMALL, "n_tasks": _TASKS_OF_BACKBONES, "series": "parameters"}
    return by_tasks + [Workload(name, name, settings={"backbone.name": name}, **small) for name in names]
