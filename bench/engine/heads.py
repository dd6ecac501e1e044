"""Gradients of m tasks at the price of one pass through each head and, per task, one through the shared part.

The graph is cut where head i reads its features z_i. Each head runs forward and backward on its own; what arrives at
the cut, ∂L_i/∂z_i, is all that the shared part needs to know of task i.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.engine.precision import casting
from bench.spec.settings import Precision
from datasets.contract import Group, Task
from methods.contract import Network, TaskFeatures


@dataclass(frozen=True)
class HeadGradient:
    """Task i at the cut: its loss (), its features z_i on the graph of the shared part, and ∂L_i/∂z_i.

    position_gradient: ∂L_i/∂p_i where the task has a position on a flow.
    """

    task: int
    loss: Tensor
    z: Tensor
    gradient: Tensor
    position_gradient: Tensor | None


def cosines(gramian: Tensor) -> Tensor:
    """Cosines (m, m) between the tasks' gradients; NaN beside a gradient of zero."""
    norms = gramian.diagonal().sqrt()
    return gramian / torch.outer(norms, norms)


def position_gradients(
    network: Network, tasks: Sequence[Task], groups: Sequence[Group], precision: Precision = "fp32"
) -> dict[int, Tensor]:
    """∂L_i/∂p_i by task at the network as it is now: no graph but that of the heads."""
    with torch.no_grad():
        crossed = list(crossings(network, groups, precision))
    gradients = {}
    for task, features, target in crossed:
        assert features.velocity is not None, "every task needs a velocity at its position"
        z = features.z.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(_loss(network, tasks, task, z, target, precision), z)
        gradients[task] = (gradient * features.velocity).sum()
    return gradients


def heads_forward_backward(
    network: Network, tasks: Sequence[Task], groups: Sequence[Group], precision: Precision = "fp32", share: float = 1.0
) -> list[HeadGradient]:
    """Runs the shared part forward once, and the head of every task of the groups forward and backward.

    The heads' own gradients add up in their parameters' .grad. The gradient of a position is
    ∂L_i/∂p_i = ⟨∂L_i/∂z(p_i), dz/dt at p_i⟩ (Ye et al. 2023, Eq. (7)): nothing passes back through the model.
    share: of the batch that these groups are; every loss and gradient counts for so much.
    """
    head_gradients = []
    for task, features, target in crossings(network, groups, precision):
        z = features.z.detach().requires_grad_()
        loss = share * _loss(network, tasks, task, z, target, precision)
        loss.backward()
        gradient = z.grad
        assert gradient is not None
        along = None if features.velocity is None else (gradient * features.velocity).sum()
        head_gradients.append(HeadGradient(task, loss.detach(), features.z, gradient, along))
    return head_gradients


def losses_of(
    network: Network, tasks: Sequence[Task], groups: Sequence[Group], precision: Precision = "fp32"
) -> dict[int, Tensor]:
    """Every task's loss () in the groups; without gradients where none are recorded."""
    return {
        task: _loss(network, tasks, task, features.z, target, precision)
        for task, features, target in crossings(network, groups, precision)
    }


def _loss(
    network: Network, tasks: Sequence[Task], task: int, z: Tensor, target: Tensor, precision: Precision
) -> Tensor:
    with casting(precision, z.device):
        output = network.heads[task](z)
    # Losses are worked out as precisely as the parameters are.
    return tasks[task].loss(output if precision == "fp32" else output.float(), target)


def crossings(
    network: Network, groups: Sequence[Group], precision: Precision = "fp32"
) -> Iterator[tuple[int, TaskFeatures, Tensor]]:
    """Every task of the groups with what its head reads and its targets, after one pass through the shared part."""
    readers = [list(group.targets) for group in groups]
    inputs = [group.inputs for group in groups]
    with casting(precision, inputs[0].device):
        found = network.features_of_inputs(inputs, readers)
    for group, tasks, read in zip(groups, readers, found, strict=True):
        for task, features in zip(tasks, read, strict=True):
            yield task, features, group.targets[task]
