"""Per-task gradients of the shared parameters, their Gramian, and their weighted sum.

m tasks, P shared parameters, Q ≤ P parameters with columns in a Jacobian.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bench.engine.factored_layers import FactoredGradient, Layer, LayerUse, factored_gradients
from bench.engine.heads import HeadGradient
from methods.rows import gramian_of
from methods.transfer import send


class GradientBuffer:
    """Memory for a Jacobian (m, Q) and a gradient (Q,), allocated once and reused by every step."""

    def __init__(self, n_tasks: int) -> None:
        self.n_tasks = n_tasks
        self._jacobian: Tensor | None = None
        self._gradient: Tensor | None = None

    def take(self, size: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """A Jacobian (m, size) and a gradient (size,). They hold what the last step wrote."""
        if self._jacobian is None or self._gradient is None or self._jacobian.shape[1] != size:
            self._gradient = torch.zeros(size, dtype=like.dtype, device=like.device)
            self._jacobian = self._gradient.new_zeros(self.n_tasks, size)
        return self._jacobian, self._gradient


@dataclass(frozen=True)
class TaskGradients:
    """The gradients of all tasks' losses in some parameters. The next step reuses the memory.

    parameters: those with columns in the Jacobian, in order.
    jacobian: (m, Q), row i the gradient of task i.
    combined: (Q,), memory for a combination of the rows.
    factored: gradients of layers whose weight has no columns.
    """

    parameters: Sequence[nn.Parameter]
    jacobian: Tensor
    combined: Tensor
    factored: Sequence[FactoredGradient]

    def gramian(self) -> Tensor:
        """J Jᵀ (m, m) over all these parameters, float64, on the device."""
        whole = gramian_of(self.jacobian)
        return sum((layer.gramian().double() for layer in self.factored), start=whole)

    def apply_weights(self, weights: Tensor) -> None:
        """Sets .grad of the parameters to weights @ J."""
        weights = send(weights, self.jacobian.device).to(self.jacobian.dtype)
        torch.mv(self.jacobian.T, weights, out=self.combined)
        self._set_gradients()
        for layer in self.factored:
            layer.weight.grad = layer.combined(weights)

    def apply_direction(self, direction: Tensor) -> None:
        """Sets .grad of the parameters to a gradient (Q,) in the order of the Jacobian's columns."""
        self.combined.copy_(send(direction, self.combined.device))
        self._set_gradients()

    def _set_gradients(self) -> None:
        """Makes every .grad a view of `combined`."""
        sizes = [parameter.numel() for parameter in self.parameters]
        for parameter, piece in zip(self.parameters, self.combined.split(sizes), strict=True):
            parameter.grad = piece.as_strided(parameter.shape, parameter.stride(), piece.storage_offset())


def unfilled(
    parameters: Sequence[nn.Parameter], factored_layers: Mapping[Layer, Sequence[LayerUse]], buffer: GradientBuffer
) -> TaskGradients:
    """Task gradients to be filled by `write_rows`.

    factored_layers: those to keep factored, with their uses in the forward pass of all tasks.
    """
    factored = factored_gradients(factored_layers, buffer.n_tasks)
    without_columns = {id(layer.weight) for layer in factored}
    explicit = [parameter for parameter in parameters if id(parameter) not in without_columns]
    size = sum(parameter.numel() for parameter in explicit)
    jacobian, combined = buffer.take(size, like=parameters[0])
    return TaskGradients(explicit, jacobian, combined, factored)


def write_rows(
    gradients: TaskGradients,
    heads: Sequence[HeadGradient],
    *,
    add: bool = False,
    retain_graph: bool = False,
    batched: bool = False,
) -> None:
    """Runs one backward pass per head gradient through the shared part and fills the rows of their tasks.

    add: adds to the rows instead of replacing them.
    retain_graph: keeps the graph; otherwise it is freed after the last task that uses it.
    batched: one batched backward pass for tasks that read the same features.
    """
    edges = [edge for layer in gradients.factored for edge in layer.edges]
    wanted: list[Any] = [*edges, *gradients.parameters]
    backward = _batched if batched and all(head.z is heads[0].z for head in heads) else _looped
    for head, found in zip(heads, backward(heads, wanted, retain_graph), strict=True):
        _write_row(gradients, head.task, found[len(edges) :], add)
        at_edges = iter(found)
        for layer in gradients.factored:
            layer.write(head.task, [next(at_edges) for _ in layer.edges])


def weighted_backward(
    heads: Sequence[HeadGradient], weights: Tensor, parameters: Sequence[nn.Parameter], *, add: bool = False
) -> None:
    """Sets .grad of the shared parameters to Σ w_i ∂L_i/∂θ by one backward pass.

    add: adds to .grad instead.
    """
    scales = factors(weights)
    gradients = [scaled(head.gradient, scales[head.task]) for head in heads]
    backward_to(parameters, [head.z for head in heads], gradients, add=add)


def scaled(gradient: Tensor, scale: float | Tensor) -> Tensor:
    """The gradient times a number, in its own dtype. The number is not rounded to bfloat16.

    An accelerator would round a tensor () to the dtype of the gradient before it multiplies; a CPU does not.
    """
    exact = torch.promote_types(gradient.dtype, torch.float32)
    return (gradient.to(exact) * scale).to(gradient.dtype)


def factors(weights: Tensor) -> Sequence[float | Tensor]:
    """The weights (m,) one by one: as numbers, or as tensors () where reading them would wait for the device."""
    return weights.tolist() if weights.device.type == "cpu" else weights.unbind()


def clip_gradients(parameters: Sequence[nn.Parameter], max_norm: float, followers: Sequence[nn.Parameter]) -> Tensor:
    """Scales .grad of the parameters down to a norm of at most max_norm. The factor (), at most 1, on the device.

    followers: other parameters, whose .grad is scaled by the same factor.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    factor = (max_norm / norm).clamp_max(1.0)
    torch._foreach_mul_([*gradients, *(p.grad for p in followers if p.grad is not None)], factor)
    return factor


def backward_to(
    parameters: Sequence[nn.Parameter], outputs: Sequence[Tensor], gradients: Sequence[Tensor], *, add: bool = False
) -> None:
    """One backward pass from `outputs`; parameters they don't depend on get zeros, so that weight decay applies."""
    if not add:
        # A gradient is moved into an empty .grad, but added to one that is set, which costs a pass over memory.
        for parameter in parameters:
            parameter.grad = None
    torch.autograd.backward(outputs, gradients)
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)


def _looped(
    heads: Sequence[HeadGradient], wanted: Sequence[Any], retain_graph: bool
) -> Iterator[tuple[Tensor | None, ...]]:
    """The gradients of each head's loss in `wanted`, by one backward pass after another."""
    for index, head in enumerate(heads):
        retain = retain_graph or index + 1 < len(heads)
        yield torch.autograd.grad(head.z, wanted, head.gradient, retain_graph=retain, allow_unused=True)


def _batched(
    heads: Sequence[HeadGradient], wanted: Sequence[Any], retain_graph: bool
) -> Iterator[tuple[Tensor | None, ...]]:
    """The same by one batched backward pass, for heads that read the same features."""
    stacked = torch.stack([head.gradient for head in heads])
    found = torch.autograd.grad(
        heads[0].z, wanted, stacked, retain_graph=retain_graph, allow_unused=True, is_grads_batched=True
    )
    for index in range(len(heads)):
        yield tuple(None if gradient is None else gradient[index] for gradient in found)


def _write_row(gradients: TaskGradients, task: int, found: Sequence[Tensor | None], add: bool) -> None:
    pieces = [_in_memory_order(p, gradient) for p, gradient in zip(gradients.parameters, found, strict=True)]
    if not pieces:
        return
    row = gradients.jacobian[task]
    if add:
        row += torch.cat(pieces)
    else:
        torch.cat(pieces, out=row)


def _in_memory_order(parameter: nn.Parameter, gradient: Tensor | None) -> Tensor:
    """The gradient (P_i,) in the memory order of its parameter; zeros where there is none."""
    if gradient is None:
        return parameter.new_zeros(parameter.numel())
    if parameter.is_contiguous():
        return gradient.reshape(-1)
    outermost_first = sorted(range(parameter.dim()), key=parameter.stride, reverse=True)
    return gradient.permute(outermost_first).reshape(-1)
