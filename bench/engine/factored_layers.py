"""Gradients of layers in two factors, so that inner products between tasks need no gradient of a weight.

For a convolution or a linear layer, the gradient of task i in the weight (C, F) is D_iᵀ A: A (R, F) is what went in, a
row for each place where the weight was applied, and D_i (R, C) is the gradient of the task's loss at what came out.
Tasks that read one input share A, so

    ⟨D_iᵀ A, D_jᵀ A⟩ = ⟨A Aᵀ D_i, D_j⟩    and    Σ w_i D_iᵀ A = (Σ w_i D_i)ᵀ A,

both exact. Where a layer has fewer places than inputs and outputs, as the last and largest ones have, this spares each
task the half of its backward pass that makes the weight's gradient, and a copy of the weight to keep it in.
m tasks, R places over all uses in a step, F inputs and C outputs of a place.
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
class Use:
    """One application of a layer: what went in, and where the gradient of what came out passes."""

    inputs: Tensor
    edge: GradientEdge
    places: int


@dataclass
class Uses:
    """All applications of layers in a pass ahead. hidden: layers that were also used where no gradient can be seen."""

    of: dict[Layer, list[Use]] = field(default_factory=dict)
    hidden: set[Layer] = field(default_factory=set)


def factorable(network: Network, parameters: Sequence[nn.Parameter]) -> list[Layer]:
    """The layers whose weight, one of `parameters`, belongs to them alone and enters by one plain product."""
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
    # Subclasses may do anything with their weight.
    if type(module) is nn.Linear:
        return True
    return (
        type(module) is nn.Conv2d
        and module.groups == 1
        and module.padding_mode == "zeros"
        and not isinstance(module.padding, str)
    )


@contextmanager
def watching(layers: Sequence[Layer]) -> Iterator[Uses]:
    """Notes every use of the layers within."""
    uses = Uses()

    def note(layer: Layer, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if output.requires_grad:
            # The edge, not the output: an operation in place may put something else there.
            places = output.numel() // len(layer.weight)
            uses.of.setdefault(layer, []).append(Use(inputs[0].detach(), get_gradient_edge(output), places))
        else:
            uses.hidden.add(layer)

    hooks = [layer.register_forward_hook(note) for layer in layers]
    try:
        yield uses
    finally:
        for hook in hooks:
            hook.remove()


def worth_factoring(uses: Uses, m: int) -> dict[Layer, list[Use]]:
    """The layers for which factors take fewer multiplications than gradients of the weight, with their uses."""
    return {
        layer: found
        for layer, found in uses.of.items()
        if layer not in uses.hidden and _is_cheaper(m, sum(use.places for use in found), layer.weight)
    }


def _is_cheaper(m: int, places: int, weight: Tensor) -> bool:
    c, f = len(weight), weight[0].numel()
    whole = m * places * f * c + m**2 * f * c
    factors = places**2 * (f + m * c) + m**2 * places * c + places * f * c
    return factors < whole


class Factors:
    """A layer's A (R, F), and D (m, R, C) as tasks pass back."""

    def __init__(self, layer: Layer, uses: Sequence[Use], m: int) -> None:
        self.weight = layer.weight
        self.edges = [use.edge for use in uses]
        self._places = [use.places for use in uses]
        self._inputs = torch.cat([_places_of(layer, use.inputs) for use in uses]).to(self.weight.dtype)
        self._outputs = self.weight.new_empty(m, sum(self._places), len(self.weight))

    def put(self, task: int, gradients: Sequence[Tensor | None]) -> None:
        """The gradients (B, C, H, W) or (..., C) of a task at the edges; None where it doesn't pass there."""
        rows = self._outputs[task].split(self._places)
        for own, gradient in zip(rows, gradients, strict=True):
            if gradient is None:
                own.zero_()
            else:
                last = gradient.movedim(1, -1) if self.weight.dim() == 4 else gradient
                own.copy_(last.reshape(own.shape))

    def gramian(self) -> Tensor:
        """⟨∂L_i/∂W, ∂L_j/∂W⟩ (m, m)."""
        m = len(self._outputs)
        products = torch.matmul(self._inputs @ self._inputs.T, self._outputs)
        return self._outputs.reshape(m, -1) @ products.reshape(m, -1).T

    def combined(self, weights: Tensor) -> Tensor:
        """Σ w_i ∂L_i/∂W, laid out in memory as the weight is."""
        whole = torch.tensordot(weights, self._outputs, dims=1).T @ self._inputs
        shaped = whole.view(self.weight.shape)
        return shaped if self.weight.is_contiguous() else torch.empty_like(self.weight).copy_(shaped)


def _places_of(layer: Layer, inputs: Tensor) -> Tensor:
    """(R, F): what the weight met at each place, in the order in which `put` has the places."""
    if isinstance(layer, nn.Linear):
        return inputs.reshape(-1, inputs.shape[-1])
    patches = functional.unfold(inputs, layer.kernel_size, layer.dilation, layer.padding, layer.stride)  # type: ignore[arg-type]
    return patches.transpose(1, 2).reshape(-1, patches.shape[1])


def factors_of(worth: Mapping[Layer, Sequence[Use]], m: int) -> list[Factors]:
    """Factors of every layer that is worth it, for m tasks."""
    return [Factors(layer, uses, m) for layer, uses in worth.items()]
