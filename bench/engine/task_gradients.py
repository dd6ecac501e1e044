"""The gradients of the shared parameters: a row per task, their Gramian, and one combination of them.

m tasks, P shared parameters, Q ≤ P of them that make up the rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge

from bench.engine.factored_layers import Factors, Layer, Use, factors_of
from bench.engine.heads import HeadGradient
from methods.rows import gramian_of

_NOT_FACTORED: Mapping[Layer, list[Use]] = {}


class SharedGradients:
    """Places the gradients of `parameters`, in buffers that are kept from step to step.

    observed: the parameters whose gradients make up a task's row; by default all. batched: whether tasks that read
    the same features pass back together. What belongs to a layer in `Factors` isn't in the Jacobian.
    """

    def __init__(
        self,
        parameters: Sequence[nn.Parameter],
        n_tasks: int,
        observed: Sequence[nn.Parameter] | None = None,
        batched: bool = False,
    ) -> None:
        self.parameters = list(parameters)
        self.observed = list(parameters if observed is None else observed)
        self.n_tasks = n_tasks
        self.batched = batched
        self._explicit: list[nn.Parameter] = []
        self._jacobian = self._flat = self.parameters[0].new_empty(0)
        self._factors: list[Factors] = []

    @property
    def jacobian(self) -> Tensor:
        """(m, Q) after `fill_rows` without factors: row i the gradient of task i's loss."""
        assert not self._factors, "rows that are in factors can't be read"
        return self._jacobian

    def fill_rows(
        self,
        head_gradients: Sequence[HeadGradient],
        worth: Mapping[Layer, Sequence[Use]] = _NOT_FACTORED,
        keep_graph: bool = False,
        add: bool = False,
    ) -> None:
        """One backward pass per task; the graph is freed with the last of the tasks that share it.

        worth: layers to keep in factors, for head_gradients of all tasks. add: to what the rows hold already.
        """
        self._factors = factors_of(worth, self.n_tasks)
        factored = {id(factors.weight) for factors in self._factors}
        self._arrange([p for p in self.observed if id(p) not in factored])
        edges = [edge for factors in self._factors for edge in factors.edges]
        for head_gradient, found in zip(
            head_gradients, self._gradients(head_gradients, edges, keep_graph), strict=True
        ):
            self._write(head_gradient.task, found[len(edges) :], add)
            given = iter(found)
            for factors in self._factors:
                factors.put(head_gradient.task, [next(given) for _ in factors.edges])

    def gramian(self) -> Tensor:
        """J Jᵀ (m, m), float64, on the device."""
        whole = gramian_of(self._jacobian)
        return sum((factors.gramian().double() for factors in self._factors), start=whole)

    def combine_rows(self, weights: Tensor) -> None:
        """Places weights @ J, where the rows are those of all shared parameters; factors are spent then."""
        weights = weights.to(self._jacobian)
        torch.mv(self._jacobian.T, weights, out=self._flat)
        self._attach()
        for factors in self._factors:
            factors.weight.grad = factors.combined(weights)
        self._factors = []  # the next pass ahead has better use for their memory

    def place(self, direction: Tensor) -> None:
        """Places a gradient (P,) in the order of the Jacobian's columns."""
        self._flat.copy_(direction)
        self._attach()

    def backward_once(self, head_gradients: Sequence[HeadGradient], weights: Tensor, add: bool = False) -> None:
        """Places Σ w_i ∂L_i/∂θ with one backward pass, for weights that are known without the rows."""
        scales = weights.tolist()
        self._receive(
            [head_gradient.z for head_gradient in head_gradients],
            [head_gradient.gradient * scales[head_gradient.task] for head_gradient in head_gradients],
            add,
        )

    def backward_whole(self, losses: Tensor, weights: Tensor) -> None:
        """The same from losses (m,) on a graph that isn't cut: the heads get their weighted gradients, too."""
        self._receive([losses], [weights.to(losses)], add=False)

    def _receive(self, outputs: Sequence[Tensor], gradients: Sequence[Tensor], add: bool) -> None:
        if not add:
            # What finds no gradient becomes it; what finds one is added to it, which costs a pass over memory.
            for parameter in self.parameters:
                parameter.grad = None
        self._factors = []
        torch.autograd.backward(outputs, gradients)
        for parameter in self.parameters:
            if parameter.grad is None:  # it had no part in any loss, which is no reason to leave out its decay
                parameter.grad = torch.zeros_like(parameter)

    def _gradients(
        self, head_gradients: Sequence[HeadGradient], edges: Sequence[GradientEdge], keep_graph: bool
    ) -> Iterator[tuple[Tensor | None, ...]]:
        """Of each boundary's loss, at the edges and then in the parameters that have columns of the Jacobian."""
        wanted: list[Any] = [*edges, *self._explicit]
        first = head_gradients[0].z
        if self.batched and all(head_gradient.z is first for head_gradient in head_gradients):
            several = torch.stack([head_gradient.gradient for head_gradient in head_gradients])
            found = torch.autograd.grad(
                first, wanted, several, retain_graph=keep_graph, allow_unused=True, is_grads_batched=True
            )
            for index in range(len(head_gradients)):
                yield tuple(None if gradient is None else gradient[index] for gradient in found)
            return
        for index, head_gradient in enumerate(head_gradients):
            keep = keep_graph or index + 1 < len(head_gradients)
            yield torch.autograd.grad(
                head_gradient.z, wanted, head_gradient.gradient, retain_graph=keep, allow_unused=True
            )

    def _write(self, task: int, gradients: Sequence[Tensor | None], add: bool) -> None:
        pieces = [_in_memory_order(p, g) for p, g in zip(self._explicit, gradients, strict=True)]
        if not pieces:
            return
        row = self._jacobian[task]
        if add:
            row += torch.cat(pieces)
        else:
            torch.cat(pieces, out=row)

    def _arrange(self, explicit: Sequence[nn.Parameter]) -> None:
        """Makes the buffers, where they aren't there yet for just these parameters."""
        size = sum(parameter.numel() for parameter in explicit)
        if self._jacobian.shape != (self.n_tasks, size):
            first = self.parameters[0]
            self._flat = torch.zeros(size, dtype=first.dtype, device=first.device)
            self._jacobian = self._flat.new_zeros(self.n_tasks, size)
        self._explicit = list(explicit)

    def _attach(self) -> None:
        """Makes every parameter's .grad a view of the one combination of rows."""
        sizes = [parameter.numel() for parameter in self._explicit]
        for parameter, piece in zip(self._explicit, self._flat.split(sizes), strict=True):
            parameter.grad = piece.as_strided(parameter.shape, parameter.stride(), piece.storage_offset())


def _in_memory_order(parameter: nn.Parameter, gradient: Tensor | None) -> Tensor:
    """The gradient (P_i,), zero where there is none, in the order in which the parameter lies in memory."""
    if gradient is None:
        return parameter.new_zeros(parameter.numel())
    if parameter.is_contiguous():
        return gradient.reshape(-1)
    outermost_first = sorted(range(parameter.dim()), key=parameter.stride, reverse=True)
    return gradient.permute(outermost_first).reshape(-1)
