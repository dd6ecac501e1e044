"""Nash-MTL: the update as the Nash bargaining solution between tasks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from methods.checks import require_at_least
from methods.contract import Bound, HeadRule, Needs, Signal, State, Update
from methods.weightings.bargaining import bargain
from methods.weightings.clipping import clipped_weights
from methods.weightings.simplex import Matrix, Vector


def bargaining_weights(gramian: Matrix) -> tuple[Vector, bool]:
    """Weights α (m,) > 0 with G α = 1/α, from which ‖Σ α_i g_i‖ = √m.

    They are those of the unit gradients over the norms. A task without a gradient is left out and gets 0. Returns also
    whether that is so or there is no solution, as at Pareto-stationary points, where some combination of the gradients
    vanishes up to the rounding of float32; then the cosines get a ridge of 1e-6.

    Source: Navon et al. (ICML 2022), Eq. (2) and Claim 3.1; the convex-concave procedure there is not needed.
    """
    solution = bargain(gramian)
    weights = np.zeros(len(gramian))
    weights[solution.players] = solution.weights / solution.norms
    return weights, solution.fallback


@dataclass(frozen=True)
class NashMTL:
    """Multi-task learning as a bargaining game.

    max_norm: a longer shared gradient is clipped to this norm, as in the released code. 0 or ∞: no clipping, as in the
        paper; its norm is then √m.

    Task-specific heads get their gradients times α, unclipped.
    Deviations: solved exactly. The released convex-concave procedure seeks the same α, but fails on some inputs, and
    on all with gradient norms of 0.01 and less. It then mostly keeps its start, α = 1, while the exact α, by which
    gradients of heads are multiplied, is of the size of one over those norms.
    """

    max_norm: Bound = 1.0

    needs: ClassVar[Needs] = "gramian"
    heads: ClassVar[HeadRule] = "own"

    def __post_init__(self) -> None:
        require_at_least("max_norm", self.max_norm, 0)

    @property
    def clips_to(self) -> float:
        return self.max_norm or math.inf

    def init(self, n_tasks: int) -> State:
        del n_tasks
        return State()

    def step(self, signal: Signal, state: State) -> Update:
        gramian = signal.required_gramian().numpy()
        alpha, fallback = bargaining_weights(gramian)
        weights = torch.from_numpy(clipped_weights(alpha, gramian, self.max_norm, cancelling=fallback))
        unclipped = torch.from_numpy(alpha)
        return Update(weights, state, head_weights=unclipped, fallbacks=int(fallback), unclipped=unclipped)
