"""How the time and memory of a step grow with the number of tasks, and with the number of shared parameters.

One input for all tasks, as CelebA has it, but fewer and smaller images, so that a hundred tasks are feasible.
"""

from __future__ import annotations

from collections.abc import Sequence

from bench.profiling.workloads import Shape
from bench.records.speed import Series
from bench.spec.lookup import lookup
from methods.architectures.backbones import BACKBONES

# One whose losses alone are looked at, and one that needs every task's gradient.
METHODS = ("ew", "mgda")
TASKS = (2, 5, 10, 20, 40, 70, 100)
ENCODERS = ("small_face", "resnet18_quarters", "resnet50")
SIZE = "scaling"

_DATA = "celeba"
_BATCH_SIZE = 8
_IMAGE_SIZE = (32, 32)
# How many tasks there are while parameters are varied.
_TASKS_OF_ENCODERS = 10


def scaling_shapes(tasks: Sequence[int], encoders: Sequence[str]) -> list[tuple[Shape, Series]]:
    """A shape for each number of tasks, on CelebA's own network, then one for each encoder.

    Raises:
        UnknownName: an encoder is not known.
    """
    names = [lookup(BACKBONES, "backbone", name) for name in encoders]
    by_tasks = [Shape(f"m = {m}", f"{m} tasks", _DATA, _BATCH_SIZE, _IMAGE_SIZE, m) for m in dict.fromkeys(tasks)]
    by_parameters = [
        Shape(name, name, _DATA, _BATCH_SIZE, _IMAGE_SIZE, _TASKS_OF_ENCODERS, {"backbone.name": name})
        for name in dict.fromkeys(names)
    ]
    return [*((shape, "tasks") for shape in by_tasks), *((shape, "parameters") for shape in by_parameters)]
