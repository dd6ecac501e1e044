"""CAGrad: the direction near the mean gradient that maximises the descent of the worst task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from typing import ClassVar, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from methods.checks import require_at_least, require_one_of
from methods.contract import HeadRule, Needs, Signal, State, Update
from methods.weightings.rounding import FLOAT32_EPSILON
from methods.weightings.simplex import Matrix, Vector, minimise_over_simplex, solve_with_unit_sum

Rescale = Literal["none", "1+c^2", "1+c"]
Variant = Literal["released", "paper"]
_RESCALES: Mapping[Variant, Rescale] = {"released": "1+c^2", "paper": "none"}

# Below this, relative to its terms, ‖g_w‖² is rounding: Jacobians and their products are float32.
CANCELLED = 2 * FLOAT32_EPSILON
_TINY = float(np.finfo(np.float64).tiny)


def conflict_weights(gramian: Matrix, c: float) -> Vector:
    """argmin over the simplex of g_w·g_0 + c‖g_0‖‖g_w‖, (m,), exact up to rounding; g_0 is the mean gradient.

    On the hull of a support the minimiser is the hull's point nearest to 0 plus a multiple of one direction, both
    from a linear system; the active-set method does the rest. Where the slope along the direction exceeds c‖g_0‖
    there is no minimiser on the hull, and the direction leads to the boundary.

    Source: Liu et al. (NeurIPS 2021), Eq. (4), solved there by SLSQP.
    """
    m = len(gramian)
    gram = gramian / max(float(gramian.diagonal().max()), _TINY)
    products = gram.sum(axis=1) / m  # (m,) g_i·g_0
    radius = c * sqrt(max(float(products.sum()) / m, 0.0))
    present = (gram.diagonal() > 0).nonzero()[0]
    if len(present) == m:
        return linear_plus_norm_weights(gram, products, radius)
    # At a zero gradient the objective has a kink and is 0. The minimum over the other tasks may be lower.
    w = np.zeros(m)
    if len(present):
        among = gram[present[:, None], present]
        w[present] = linear_plus_norm_weights(among, products[present], radius)
        if w @ products + radius * sqrt(max(float(w @ gram @ w), 0.0)) < 0:
            return w
    return np.asarray(gram.diagonal() == 0, dtype=np.float64) / (m - len(present))


def linear_plus_norm_weights(gram: Matrix, products: Vector, radius: float) -> Vector:
    """argmin over the simplex of w·products + radius √(wᵀ gram w), (m,), with a positive diagonal of `gram`."""
    magnitudes, squared_radius = np.abs(gram), radius**2
    largest_product = float(np.abs(products).max())

    def gradient(w: Vector) -> tuple[Vector, float]:
        combined, sizes = gram @ w, magnitudes @ np.abs(w)
        norm = sqrt(max(float(w @ combined), 0.0))
        pull = radius / norm if norm > 0 else 0.0
        return products + pull * combined, largest_product + pull * float(sizes.max())

    def affine_minimiser(support: NDArray[np.intp], inside: Vector) -> Vector:
        local, slope = gram[support[:, None], support], products[support]
        right = np.zeros((len(support) + 1, 2))
        right[-1, 0] = 1.0
        right[:-1, 1] = -slope
        nearest, direction = solve_with_unit_sum(local, right).T
        squared_slope = -float(slope @ direction)
        if squared_radius > squared_slope:
            squared_distance = max(float(nearest @ local @ nearest), 0.0)
            return nearest + sqrt(squared_distance / (squared_radius - squared_slope)) * direction
        falling = direction < 0
        if not falling.any():
            return inside
        return inside + 2 * (inside[falling] / -direction[falling]).min() * direction

    objective = products + radius * np.sqrt(gram.diagonal())
    return minimise_over_simplex(gradient, affine_minimiser, int(np.argmin(objective)), len(gram))


def conflict_averse_weights(gramian: Matrix, c: float, rescale: Rescale) -> tuple[Vector, bool]:
    """Weights (m,) of g_0 + c‖g_0‖ g_w/‖g_w‖, over 1, 1 + c² or 1 + c.

    Returns also whether ‖g_w‖ = 0, up to the rounding of float32, while c‖g_0‖ > 0: the direction is undefined there,
    and the mean gradient is used.
    """
    m = len(gramian)
    scale = {"none": 1.0, "1+c^2": 1 + c**2, "1+c": 1 + c}[rescale]
    mean = np.full(m, 1 / m)
    radius = c * sqrt(max(float(gramian.sum()), 0.0)) / m
    if radius == 0:
        return mean / scale, False
    w = conflict_weights(gramian, c)
    squared_norm = float(w @ gramian @ w)
    if squared_norm <= CANCELLED * float(w @ np.abs(gramian) @ w):
        return mean / scale, True
    return (mean + radius / sqrt(squared_norm) * w) / scale, False


@dataclass(frozen=True)
class CAGrad:
    """Conflict-averse gradient descent.

    c: radius of the ball around the mean gradient g_0, in units of ‖g_0‖.
    variant: "released": the update is multiplied by m, so that it is as long as the gradient of the sum of the losses.
        "paper": it is not.
    rescale: what the update is divided by; "auto" is 1 + c² as released, and nothing as in the paper's Algorithm 1.

    Task-specific heads keep their plain gradients, as in the released code. If the worst combination of gradients
    vanishes, the mean gradient is used and the step is counted.
    Deviations: solved exactly. The released code uses SLSQP and adds 1e-8 to squared norms, which lengthens the ball's
    radius where the mean gradient is shorter than about 1e-3.
    """

    c: float = 0.4
    variant: Variant = "released"
    rescale: Rescale | Literal["auto"] = "auto"

    needs: ClassVar[Needs] = "gramian"
    heads: ClassVar[HeadRule] = "plain"

    def __post_init__(self) -> None:
        require_at_least("c", self.c, 0)
        require_one_of("variant", self.variant, get_args(Variant))
        require_one_of("rescale", self.rescale, ("auto", *get_args(Rescale)))

    def init(self, n_tasks: int) -> State:
        del n_tasks
        return State()

    def step(self, signal: Signal, state: State) -> Update:
        rescale = _RESCALES[self.variant] if self.rescale == "auto" else self.rescale
        weights, degenerate = conflict_averse_weights(signal.required_gramian().numpy(), self.c, rescale)
        factor = len(weights) if self.variant == "released" else 1
        return Update(torch.from_numpy(factor * weights), state, fallbacks=int(degenerate))
