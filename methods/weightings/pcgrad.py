"""PCGrad: gradient surgery, each task's gradient is projected onto the normal planes of those it conflicts with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from methods.contract import HeadRule, Needs, Signal, State, Update


def projected_weights(gramian: Tensor, orders: Tensor) -> Tensor:
    """Weights (m,) of the sum of the projected gradients.

    orders: (m, m) row i is the order in which task i is compared with all tasks.

    Each projected gradient is stored as its coefficients on the original ones, since every product that the projections
    need is an entry of coefficients @ G. The m tasks are independent, so their k-th projections are computed at once.

    Source: Yu et al. (NeurIPS 2020), Algorithm 1.
    """
    m = len(gramian)
    gram, met = gramian.numpy(), orders.numpy()
    coefficients, tasks = np.eye(m), np.arange(m)  # (m, m) row i: task i's gradient
    if m == 1 or gram.min() >= 0:
        return torch.from_numpy(coefficients.sum(axis=0))
    met = met[met != tasks[:, None]].reshape(m, m - 1).T  # (m - 1, m) column i: the other tasks, as task i meets them
    # Infinite for zero gradients, so that no projection takes place.
    squared_norms = np.where(gram.diagonal() > 0, gram.diagonal(), np.inf)
    for others in met:
        products = (coefficients * gram[others]).sum(axis=1)  # (m,) <g_i^PC, g_other>
        coefficients[tasks, others] -= np.minimum(products, 0.0) / squared_norms[others]
    return torch.from_numpy(coefficients.sum(axis=0))


@dataclass(frozen=True)
class PCGrad:
    """Projecting conflicting gradients, in an order drawn at every step from the run's generator.

    Task-specific heads keep their plain gradients. Deviations: none from the paper. The released optimizer meets the
    tasks in a fixed order, since it does not use the result of its shuffle, and projects the gradients of all variables
    that it is given, heads included.
    """

    needs: ClassVar[Needs] = "gramian"
    heads: ClassVar[HeadRule] = "plain"

    def init(self, n_tasks: int) -> State:
        del n_tasks
        return State()

    def step(self, signal: Signal, state: State) -> Update:
        gramian = signal.required_gramian()
        orders = torch.rand(gramian.shape, generator=signal.generator).argsort(dim=1)
        return Update(projected_weights(gramian, orders), state)
