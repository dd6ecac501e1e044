"""ConFIG: a direction with the same cosine to every task gradient, as long as their projections on it add up to."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import ClassVar

import numpy as np
import torch

from methods.contract import HeadRule, Needs, Signal, State, Update
from methods.weightings.fixed import one_per_task, require_weights
from methods.weightings.rounding import FLOAT32_EPSILON, above_rounding
from methods.weightings.simplex import Matrix, Vector


def conflict_free_weights(gramian: Matrix, cosines: Vector) -> tuple[Vector, bool]:
    """Weights (m,) of the update whose cosines to the gradients are in the ratio of `cosines`, all positive or 0.

    With unit gradients U, the direction is d = U⁺ cosines, the least-squares solution of least norm, and the length is
    Σ g_i·d/‖d‖. In terms of the Gramian C of the unit gradients, d = Uᵀ C⁺ cosines. Zero gradients are left out.
    Returns also whether C is singular up to the rounding of float32, where the eigenvalues that may be rounding count
    as 0. If d vanishes, too, there is no direction and the weights are 0.

    Source: Liu, Chu, Thuerey (ICLR 2025), Eq. (2) and (3).
    """
    weights = np.zeros(len(gramian))
    present = (gramian.diagonal() > 0).nonzero()[0]
    if not len(present):
        return weights, True
    norms = np.sqrt(gramian.diagonal()[present])
    units = gramian[present[:, None], present] / (norms[:, None] * norms)
    values, vectors = np.linalg.eigh((units + units.T) / 2)  # a product in float32 need not be symmetric
    kept = above_rounding(values)
    values, vectors = values[kept], vectors[:, kept]
    parts = vectors.T @ cosines[present]
    singular = not kept.all()
    if np.linalg.norm(parts) <= len(present) * FLOAT32_EPSILON * np.linalg.norm(cosines[present]):
        return weights, True
    norm = sqrt(float(parts @ (parts / values)))  # of d
    length = float(norms @ (vectors @ parts)) / norm
    weights[present] = length / norm * (vectors @ (parts / values)) / norms
    return weights, singular


@dataclass(frozen=True)
class ConFIG:
    """The conflict-free update.

    preference: the ratio of the cosines between update and gradients; one number for all tasks, or one per task.

    Task-specific heads keep their plain gradients, as in the released code. Zero gradients are left out. Dependent
    gradients are solved by least squares, and the step is counted; if no direction is left, the update is 0.
    Deviations: none. M-ConFIG, which updates a part of the gradients per step, is another method.
    """

    preference: tuple[float, ...] = (1.0,)

    needs: ClassVar[Needs] = "gramian"
    heads: ClassVar[HeadRule] = "plain"

    def __post_init__(self) -> None:
        require_weights("preference", self.preference)

    def init(self, n_tasks: int) -> State:
        one_per_task("preference", self.preference, n_tasks)
        return State()

    def step(self, signal: Signal, state: State) -> Update:
        preference = one_per_task("preference", self.preference, len(signal.losses))
        weights, singular = conflict_free_weights(signal.required_gramian().numpy(), preference.numpy())
        return Update(torch.from_numpy(weights), state, fallbacks=int(singular))
