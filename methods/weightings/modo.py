"""MoDo: weights moved step by step towards the shortest combination, by gradients of two independent batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from methods.checks import require_at_least, require_positive
from methods.contract import HeadRule, Needs, Signal, State, Update
from methods.weightings.simplex import project_onto_simplex


def moved_weights(weights: Tensor, cross_gramian: Tensor, gamma: float, rho: float) -> Tensor:
    """Π(λ − γ (J₁ J₂ᵀ λ + ρ λ)), (m,), for the projection Π onto the simplex.

    Two batches make J₁ J₂ᵀ λ an unbiased estimate of the slope of ½‖Jᵀλ‖², which one batch does not.
    Source: Chen, Fernando, Ying, Chen: Three-way trade-off in multi-objective learning (NeurIPS 2023), Eq. (6a).
    """
    moved = weights - gamma * (cross_gramian @ weights + rho * weights)
    return torch.from_numpy(project_onto_simplex(moved.numpy()))


@dataclass(frozen=True)
class MoDo:
    """Multi-objective gradient descent with double sampling.

    gamma: step size of the weights λ, from 1/m; the default is that of the released script for NYUv2.
    rho: pull of λ towards 1/m.

    Every step reads two batches, so an epoch reads the data twice. The update weights the mean of their gradients.
    Task-specific heads keep the mean of their plain gradients.
    Deviations: the released code adds the gradients of both batches, twice their mean.
    """

    gamma: float = 0.001
    rho: float = 0.1

    needs: ClassVar[Needs] = "cross_gramian"
    heads: ClassVar[HeadRule] = "plain"
    batches: ClassVar[int] = 2

    def __post_init__(self) -> None:
        require_positive("gamma", self.gamma)
        require_at_least("rho", self.rho, 0)

    def init(self, n_tasks: int) -> State:
        return State({"lambda": torch.full((n_tasks,), 1 / n_tasks, dtype=torch.float64)})

    def step(self, signal: Signal, state: State) -> Update:
        weights = moved_weights(state.memory["lambda"], signal.required_cross_gramian(), self.gamma, self.rho)
        return Update(weights, State({"lambda": weights}))
