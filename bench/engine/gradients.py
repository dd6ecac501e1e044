"""Gradients of m tasks at the price of one pass through each head and, per task, one through the shared part.

The graph is cut where head i reads its features z_i. Each head runs forward and backward on its own; what arrives at
the cut, ∂L_i/∂z_i, is all that the shared part needs to know of task i.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from datasets.contract import Group, Task
from methods.contract import Network, TaskFeatures


@dataclass(frozen=True)
class Boundary:
    """Task i at the cut: its loss (), its features z_i on the graph of the shared part, and ∂L_i/∂z_i.

    position_gradient: ∂L_i/∂p_i where the task has a position on a flow.
    """

    task: int
    loss: Tensor
    z: Tensor
    gradient: Tensor
    position_gradient: Tensor | None


class SharedGradients:
    """The gradients of the shared parameters, in buffers that are made once.

    flat: (P,), of which every parameter's .grad is a view. jacobian: (m, P), row i the gradient of task i's loss;
    without rows for a weighting that needs none.
    """

    def __init__(self, parameters: Sequence[torch.nn.Parameter], n_rows: int) -> None:
        self.parameters = list(parameters)
        first = self.parameters[0]
        size = sum(p.numel() for p in self.parameters)
        self.flat = torch.zeros(size, dtype=first.dtype, device=first.device)
        self.jacobian = torch.zeros(n_rows, size, dtype=first.dtype, device=first.device)
        for parameter, piece in zip(
            self.parameters, self.flat.split([p.numel() for p in self.parameters]), strict=True
        ):
            parameter.grad = piece.view_as(parameter)

    def fill_rows(self, boundaries: Sequence[Boundary]) -> None:
        """One backward pass per task; the graph is freed with the last of the tasks that share it."""
        for index, boundary in enumerate(boundaries):
            self.write_row(boundary, self.jacobian[boundary.task], keep_graph=index + 1 < len(boundaries))

    def write_row(self, boundary: Boundary, row: Tensor, keep_graph: bool) -> None:
        """Writes ∂L_i/∂θ into `row` (P,)."""
        pieces = torch.autograd.grad(
            boundary.z,
            self.parameters,
            boundary.gradient,
            retain_graph=keep_graph,
            allow_unused=True,
            materialize_grads=True,
        )
        torch.cat([piece.reshape(-1) for piece in pieces], out=row)

    def combine_rows(self, weights: Tensor) -> None:
        """Places weights @ jacobian."""
        torch.mv(self.jacobian.T, weights.to(self.flat), out=self.flat)

    def backward_once(self, boundaries: Sequence[Boundary], weights: Tensor) -> None:
        """Places Σ w_i ∂L_i/∂θ with one backward pass, for weights that are known without the rows."""
        self.flat.zero_()
        scales = weights.tolist()
        torch.autograd.backward(
            [boundary.z for boundary in boundaries],
            [boundary.gradient * scales[boundary.task] for boundary in boundaries],
        )

    def gramian(self) -> Tensor:
        """J Jᵀ (m, m), float64 on the CPU: the one transfer that a step needs."""
        return _gramian(self.jacobian)

    def observed_gramian(self, boundaries: Sequence[Boundary]) -> Tensor:
        """The same for a weighting that has no rows: from rows made for it alone, with every graph kept."""
        rows = self.flat.new_empty(len(boundaries), len(self.flat))
        for boundary in boundaries:
            self.write_row(boundary, rows[boundary.task], keep_graph=True)
        return _gramian(rows)


def _gramian(jacobian: Tensor) -> Tensor:
    return (jacobian @ jacobian.T).double().cpu()


def cosines(gramian: Tensor) -> Tensor:
    """Cosines (m, m) between the tasks' gradients; NaN beside a gradient of zero."""
    norms = gramian.diagonal().sqrt()
    return gramian / torch.outer(norms, norms)


def position_gradients(network: Network, tasks: Sequence[Task], groups: Sequence[Group]) -> dict[int, Tensor]:
    """∂L_i/∂p_i by task at the network as it is now: no graph but that of the heads."""
    with torch.no_grad():
        crossed = list(crossings(network, groups))
    gradients = {}
    for task, features, target in crossed:
        assert features.velocity is not None, "every task needs a velocity at its position"
        z = features.z.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(tasks[task].loss(network.heads[task](z), target), z)
        gradients[task] = (gradient * features.velocity).sum()
    return gradients


def cross_heads(network: Network, tasks: Sequence[Task], groups: Sequence[Group]) -> list[Boundary]:
    """Runs the shared part forward once, and the head of every task of the groups forward and backward.

    The heads' own gradients add up in their parameters' .grad. The gradient of a position is
    ∂L_i/∂p_i = ⟨∂L_i/∂z(p_i), dz/dt at p_i⟩ (Ye et al. 2023, Eq. (7)): nothing passes back through the model.
    """
    boundaries = []
    for task, features, target in crossings(network, groups):
        z = features.z.detach().requires_grad_()
        loss = tasks[task].loss(network.heads[task](z), target)
        loss.backward()
        gradient = z.grad
        assert gradient is not None
        along = None if features.velocity is None else (gradient * features.velocity).sum()
        boundaries.append(Boundary(task, loss.detach(), features.z, gradient, along))
    return boundaries


def crossings(network: Network, groups: Sequence[Group]) -> Iterator[tuple[int, TaskFeatures, Tensor]]:
    """Every task of the groups with what its head reads and its targets, after one pass through the shared part."""
    readers = [list(group.targets) for group in groups]
    found = network.features_of_inputs([group.inputs for group in groups], readers)
    for group, tasks, read in zip(groups, readers, found, strict=True):
        for task, features in zip(tasks, read, strict=True):
            yield task, features, group.targets[task]
