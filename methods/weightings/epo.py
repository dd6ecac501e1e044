"""EPO: exact Pareto optimal search, towards the point where the losses are inversely proportional to preferences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import numpy as np
import torch

from methods.checks import require_at_least, require_one_of
from methods.contract import HeadRule, Needs, Signal, State, Update
from methods.weightings.fixed import one_per_task, require_all_positive
from methods.weightings.linear_program import maximise_over_simplex
from methods.weightings.simplex import Matrix, Vector

Descent = Literal["restricted", "relaxed"]


def adjustments(losses: Vector, preference: Vector) -> tuple[float, Vector]:
    """How far r_i L_i are from equal, μ ≥ 0, and how much each loss should fall to make them equal, a (m,).

    μ is the divergence of r_i L_i / Σ r L from the uniform distribution, and a_i = r_i (log(m r_i L_i / Σ r L) − μ).
    The losses are positive.

    Source: Mahapatra, Rajan (ICML 2020), non-uniformity and adjustments.
    """
    shares = preference * losses / (preference @ losses)
    logarithms = np.log(len(losses) * shares)
    divergence = float(shares @ logarithms)
    return divergence, preference * (logarithms - divergence)


def search_weights(
    gramian: Matrix, losses: Vector, preference: Vector, tolerance: float, descent: Descent = "restricted"
) -> Vector | None:
    """Weights (m,) on the simplex, from a linear program; None if it has no solution.

    With a and μ of `adjustments`, d = Jᵀw and b = G a, the slopes of the losses along the balancing direction Jᵀa:
    - balance, if μ > tolerance: maximises w·b. Losses whose slope b_j is positive are free, others may rise by no more
      than −b_j, and those with the largest r_i L_i may not rise. If no slope is positive, no loss may rise.
    - descent, otherwise: maximises Σ_j g_j·d. No loss may rise, and unless `descent` is "relaxed", w·b ≥ min(0, max b).

    Products may miss their bounds by the rounding of float32.

    Source: Mahapatra, Rajan (ICML 2020), the linear programs of the released code.
    """
    gram = gramian / max(float(gramian.diagonal().max()), np.finfo(np.float64).tiny)
    divergence, adjustment = adjustments(losses, preference)
    slopes = gram @ adjustment
    if divergence > tolerance:
        gain, rows = slopes, gram
        bounds = np.where(slopes > 0, -np.inf, slopes) if (slopes > 0).any() else np.zeros(len(gram))
        weighted = preference * losses
        bounds[weighted == weighted.max()] = 0.0
    else:
        gain, rows, bounds = gram.sum(axis=0), gram, np.zeros(len(gram))
        balanced = np.abs(adjustment).max() <= 4 * len(gram) * np.finfo(np.float64).eps * preference.max()
        if descent == "restricted" and not balanced:  # else b is rounding
            rows, bounds = np.vstack([gram, slopes]), np.append(bounds, min(float(slopes.max()), 0.0))
    return maximise_over_simplex(gain, rows, bounds, np.sqrt(gram.diagonal()))


@dataclass(frozen=True)
class EPO:
    """Exact Pareto optimal search, by a linear program per step.

    preference: r, all positive: the search ends where r_i L_i are equal, so a larger r_i means a smaller loss. One
        number for all tasks, or one per task. The released code sets no length of r; it scales the bounds.
    tolerance: the μ up to which r_i L_i count as equal, and the losses descend together.
    descent: "restricted" keeps the balance, as far as slopes say; "relaxed" may undo it.

    Task-specific heads get the gradients of their weighted losses, as in the released code, where weights sum to m.
    If there is no solution, a loss is not positive or all gradients are zero, weights are m r / Σ r, as in the released
    code, and the step is counted.
    Deviations: gradients in all shared parameters; the released code's are in all parameters, heads included.
    """

    preference: tuple[float, ...] = (1.0,)
    tolerance: float = 1e-4
    descent: Descent = "restricted"

    needs: ClassVar[Needs] = "gramian"
    heads: ClassVar[HeadRule] = "weighted"

    def __post_init__(self) -> None:
        require_all_positive("preference", self.preference)
        require_at_least("tolerance", self.tolerance, 0)
        require_one_of("descent", self.descent, get_args(Descent))

    def init(self, n_tasks: int) -> State:
        one_per_task("preference", self.preference, n_tasks)
        return State()

    def step(self, signal: Signal, state: State) -> Update:
        m, gramian, losses = len(signal.losses), signal.required_gramian().numpy(), signal.losses.numpy()
        preference = one_per_task("preference", self.preference, m).numpy()
        weights = None
        if (losses > 0).all() and gramian.any():
            weights = search_weights(gramian, losses, preference, self.tolerance, self.descent)
        if weights is None:
            return Update(torch.from_numpy(m * preference / preference.sum()), state, fallbacks=1)
        return Update(torch.from_numpy(m * weights), state)
