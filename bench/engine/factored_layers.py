"""Factored gradients of layers: inner products between tasks without a weight gradient per task.

For a convolution or a linear layer, the gradient of task i in the weight (C, F) is D_iᵀ A. A (R, F) holds the inputs of
the layer, one row for each position where the weight is applied. D_i (R, C) is the gradient of the task's loss in the
outputs. Tasks that read one input share A, so

    ⟨D_iᵀ A, D_jᵀ A⟩ = ⟨A Aᵀ D_i, D_j⟩    and    Σ w_i D_iᵀ A = (Σ w_i D_i)ᵀ A,

both exact. This is the ghost norm of per-example clipping (Goodfellow: Efficient per-example gradient computations,
arXiv:1510.01799; Li et al.: Large language models can be strong differentially private learners, ICLR 2022), with tasks
in place of examples. It pays off for layers with fewer positions than inputs and outputs, such as the last and largest
ones: each task saves the half of the layer's backward pass that computes the weight gradient, and the memory for it.

m tasks, R positions over all uses of a layer in a step, F inputs and C outputs of a position.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeAlias, TypeGuard

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.nn import functional

from methods.contract import Network

Layer: TypeAlias = nn.Conv2d | nn.Linear


@dataclass(frozen=True)
class LayerUse:
    """One application of a layer in a forward pass.

    inputs: what it was applied to.
    edge: where the gradient of its output arrives in the backward pass.
    positions: how many rows of A it contributes.
    """

    inputs: Tensor
    edge: GradientEdge
    positions: int


@dataclass(frozen=True)
class LayerUses:
    """All applications of some layers in a forward pass.

    by_layer: those that are part of the graph.
    outside: layers that were also applied without a graph, where no gradient can be observed.
    """

    by_layer: dict[Layer, list[LayerUse]] = field(default_factory=dict)
    outside: set[Layer] = field(default_factory=set)


def factorable_layers(network: Network, parameters: Sequence[nn.Parameter]) -> list[Layer]:
    """The layers with a weight among `parameters` that no other module uses, applied by one plain product."""
    wanted = {id(parameter) for parameter in parameters}
    owners: dict[int, list[nn.Module]] = {}
    for module in network.modules():
        for parameter in module.parameters(recurse=False):
            owners.setdefault(id(parameter), []).append(module)
    return [
        module
        for module in network.modules()
        if _is_plain(module) and id(module.weight) in wanted and len(owners[id(module.weight)]) == 1
    ]


def _is_plain(module: nn.Module) -> TypeGuard[Layer]:
    # Subclasses may use their weight in any other way.
    if type(module) is nn.Linear:
        return True
    return (
        type(module) is nn.Conv2d
        and module.groups == 1
        and module.padding_mode == "zeros"
        and not isinstance(module.padding, str)
    )


@contextmanager
def recorded_uses(layers: Sequence[Layer]) -> Iterator[LayerUses]:
    """Records every use of the layers inside the context."""
    uses = LayerUses()

    def record(layer: Layer, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if output.requires_grad:
            # The edge instead of the output, which an in-place operation may overwrite.
            positions = output.numel() // len(layer.weight)
            use = LayerUse(inputs[0].detach(), get_gradient_edge(output), positions)
            uses.by_layer.setdefault(layer, []).append(use)
        else:
            uses.outside.add(layer)

    hooks = [layer.register_forward_hook(record) for layer in layers]
    try:
        yield uses
    finally:
        for hook in hooks:
            hook.remove()


def worth_factoring(uses: LayerUses, m: int) -> dict[Layer, list[LayerUse]]:
    """The layers for which factors need fewer multiplications than weight gradients, with their uses."""
    return {
        layer: found
        for layer, found in uses.by_layer.items()
        if layer not in uses.outside and _is_cheaper(m, sum(use.positions for use in found), layer.weight)
    }


def _is_cheaper(m: int, positions: int, weight: Tensor) -> bool:
    c, f = len(weight), weight[0].numel()
    explicit = m * positions * f * c + m**2 * f * c
    factored = positions**2 * (f + m * c) + m**2 * positions * c + positions * f * c
    return factored < explicit


class FactoredGradient:
    """The gradients of m tasks in the weight of one layer: A (R, F), and D (m, R, C)."""

    def __init__(self, layer: Layer, uses: Sequence[LayerUse], m: int) -> None:
        self.weight = layer.weight
        self.edges = [use.edge for use in uses]
        self._positions = [use.positions for use in uses]
        self._inputs = torch.cat([_patches(layer, use.inputs) for use in uses]).to(self.weight.dtype)
        self._outputs = self.weight.new_empty(m, sum(self._positions), len(self.weight))

    def write(self, task: int, gradients: Sequence[Tensor | None]) -> None:
        """Fills D_i with the task's gradients (B, C, H, W) or (..., C) at the edges; None counts as zero."""
        rows = self._outputs[task].split(self._positions)
        for row, gradient in zip(rows, gradients, strict=True):
            if gradient is None:
                row.zero_()
            else:
                channels_last = gradient.movedim(1, -1) if self.weight.dim() == 4 else gradient
                row.copy_(channels_last.reshape(row.shape))

    def gramian(self) -> Tensor:
        """⟨∂L_i/∂W, ∂L_j/∂W⟩ (m, m)."""
        m = len(self._outputs)
        products = torch.matmul(self._inputs @ self._inputs.T, self._outputs)
        return self._outputs.reshape(m, -1) @ products.reshape(m, -1).T

    def combined(self, weights: Tensor) -> Tensor:
        """Σ w_i ∂L_i/∂W, in the memory layout of the weight."""
        whole = torch.tensordot(weights, self._outputs, dims=1).T @ self._inputs
        shaped = whole.view(self.weight.shape)
        return shaped if self.weight.is_contiguous() else torch.empty_like(self.weight).copy_(shaped)


def _patches(layer: Layer, inputs: Tensor) -> Tensor:
    """A (R, F): the input of the weight at each position, in the order of `write`."""
    if isinstance(layer, nn.Linear):
        return inputs.reshape(-1, inputs.shape[-1])
    patches = functional.unfold(inputs, layer.kernel_size, layer.dilation, layer.padding, layer.stride)  # type: ignore[arg-type]
    return patches.transpose(1, 2).reshape(-1, patches.shape[1])


def factored_gradients(layers: Mapping[Layer, Sequence[LayerUse]], m: int) -> list[FactoredGradient]:
    """Unfilled factored gradients of each layer, for m tasks."""
    return [FactoredGradient(layer, uses, m) for layer, uses in layers.items()]
