"""The forward pass of the shared part, and forward and backward passes of the task-specific heads.

The graph is split where head i reads its features z_i. Each head runs forward and backward by itself. The shared part
needs only ∂L_i/∂z_i of task i.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.engine.precision import autocast
from bench.spec.settings import Precision
from datasets.contract import Group, Task
from methods.contract import Evaluations, Network


@dataclass(frozen=True)
class HeadInput:
    """What the head of one task reads.

    task: its index.
    z: its features, on the graph of the shared part.
    velocity: dz/dt at the task's position, if it has one.
    target: its targets.
    """

    task: int
    z: Tensor
    velocity: Tensor | None
    target: Tensor


@dataclass(frozen=True)
class SharedForward:
    """A forward pass of the shared part: the inputs of all heads, and the evaluations of a flow."""

    heads: list[HeadInput]
    evaluations: Callable[[], Evaluations] | None


@dataclass(frozen=True)
class HeadGradient:
    """The backward pass of one head.

    task: its index.
    loss: ().
    z: the features that the head read, on the graph of the shared part.
    gradient: ∂L_i/∂z_i, of the shape of z.
    position_gradient: ∂L_i/∂p_i (), if the task has a position on a flow.
    """

    task: int
    loss: Tensor
    z: Tensor
    gradient: Tensor
    position_gradient: Tensor | None


def forward_shared(network: Network, groups: Sequence[Group], precision: Precision = "fp32") -> SharedForward:
    """One forward pass of the shared part, for all tasks of the groups."""
    readers = [list(group.targets) for group in groups]
    inputs = [group.inputs for group in groups]
    with autocast(precision, inputs[0].device):
        features = network.features_of_inputs(inputs, readers)
    heads = [
        HeadInput(task, found.z, found.velocity, group.targets[task])
        for group, tasks, of_tasks in zip(groups, readers, features.by_input, strict=True)
        for task, found in zip(tasks, of_tasks, strict=True)
    ]
    return SharedForward(heads, features.evaluations)


def heads_forward_backward(
    network: Network, tasks: Sequence[Task], heads: Sequence[HeadInput], precision: Precision = "fp32", share: float = 1
) -> list[HeadGradient]:
    """Runs every head forward and backward.

    Gradients of the heads accumulate in the .grad of their parameters. The gradient of a position needs no backward
    pass through the shared part: ∂L_i/∂p_i = ⟨∂L_i/∂z(p_i), dz/dt at p_i⟩ (Ye et al. 2023, Eq. (7)).

    share: the fraction of the batch that these groups are. Losses and gradients are scaled by it.
    """
    found = []
    for head in heads:
        z = head.z.detach().requires_grad_()
        loss = share * _loss(network, tasks, head, z, precision)
        loss.backward()
        gradient = z.grad
        assert gradient is not None
        along = None if head.velocity is None else (gradient * head.velocity).sum()
        found.append(HeadGradient(head.task, loss.detach(), head.z, gradient, along))
    return found


def forward_heads(
    network: Network, tasks: Sequence[Task], heads: Sequence[HeadInput], precision: Precision = "fp32"
) -> dict[int, Tensor]:
    """The loss () of every task, on the graph of heads and shared part."""
    return {head.task: _loss(network, tasks, head, head.z, precision) for head in heads}


def position_gradients(
    network: Network, tasks: Sequence[Task], heads: Sequence[HeadInput], precision: Precision = "fp32"
) -> Tensor:
    """∂L_i/∂p_i (m,); gradients of the heads' parameters don't change."""
    gradients = {}
    for head in heads:
        assert head.velocity is not None, "every task needs a velocity at its position"
        z = head.z.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(_loss(network, tasks, head, z, precision), z)
        gradients[head.task] = (gradient * head.velocity).sum()
    return torch.stack([gradients[task] for task in range(len(tasks))])


def _loss(network: Network, tasks: Sequence[Task], head: HeadInput, z: Tensor, precision: Precision) -> Tensor:
    with autocast(precision, z.device):
        output = network.heads[head.task](z)
    # Losses are computed in the precision of the parameters.
    return tasks[head.task].loss(output if precision == "fp32" else output.float(), head.target)
