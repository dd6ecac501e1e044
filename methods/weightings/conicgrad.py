"""ConicGrad: the direction in a cone around the mean gradient that is best for the worst task."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import ClassVar

import numpy as np
import torch

from methods.contract import HeadRule, Needs, Signal, State, Update
from methods.weightings.cagrad import CANCELLED, linear_plus_norm_weights
from methods.weightings.mgda import min_norm_weights
from methods.weightings.rounding import FLOAT32_EPSILON
from methods.weightings.simplex import Matrix, Vector


def conic_weights(gramian: Matrix, c: float) -> tuple[Vector, bool]:
    """Weights (m,) of d = argmax min_i g_i·d over ‖d‖ = ‖g_0‖ with g_0·d ≥ c‖g_0‖‖d‖; g_0 is the mean gradient.

    If the shortest combination of the gradients is in the cone, d is its multiple. Otherwise d is on the rim: c g_0
    plus √(1 − c²)‖g_0‖ times a unit vector normal to g_0, which is that of the combination g_w, w on the simplex, with
    the least c g_w·g_0/‖g_0‖ + √(1 − c²)‖normal part of g_w‖. A zero gradient sets no condition on d.
    Returns also whether there is no such unit vector, up to the rounding of float32. Then weights are those of g_0.

    Source: Hassanpour et al. (2025), the constrained problem. It leaves the length of d open.
    """
    m = len(gramian)
    mean, weights = np.full(m, 1 / m), np.zeros(m)
    scaled = gramian / max(float(gramian.diagonal().max()), np.finfo(np.float64).tiny)
    squared_mean, rounding = float(scaled.sum()) / m**2, FLOAT32_EPSILON * float(np.abs(scaled).sum()) / m
    if squared_mean <= rounding:
        return mean, bool(gramian.any())
    present = (scaled.diagonal() > 0).nonzero()[0]
    gram = scaled[present[:, None], present]
    along = scaled[present].sum(axis=1) / (m * squared_mean)  # parts of g_i along g_0, in units of g_0
    shortest = min_norm_weights(gram)
    squared_length = float(shortest @ gram @ shortest)
    vanishes = squared_length <= CANCELLED * float(shortest @ np.abs(gram) @ shortest)
    length = sqrt(max(squared_length, 0.0) / squared_mean)
    if not vanishes and shortest @ along >= c * length:
        weights[present] = shortest / length
        return weights, False
    sine = sqrt(1 - c**2)
    normal = gram - squared_mean * np.outer(along, along)
    np.fill_diagonal(normal, np.maximum(normal.diagonal(), 0.0))
    w = linear_plus_norm_weights(normal, c * sqrt(squared_mean) * along, sine)
    squared_norm = float(w @ normal @ w)
    # The parts along g_0 are as uncertain as the products with it, whose terms cancel where g_0 is short.
    part = sqrt(squared_mean) * float(w @ np.abs(along))
    uncertainty = float(w @ np.abs(scaled)[present].sum(axis=1)) / (m * sqrt(squared_mean))
    relative = float(np.abs(scaled).sum()) / (m**2 * squared_mean)
    if squared_norm <= CANCELLED * (float(w @ np.abs(gram) @ w) + 2 * part * uncertainty + relative * part**2):
        return mean, True
    share = sine * sqrt(squared_mean / squared_norm)
    weights[present] = share * w
    return weights + (c - share * float(w @ along)) * mean, False


@dataclass(frozen=True)
class ConicGrad:
    """The best direction for the worst task in a cone around the mean gradient.

    c: the least cosine between the update and the mean gradient, from 0 to 1.

    The update is as long as the mean gradient. Task-specific heads keep their plain gradients, as in CAGrad's code. If
    the convex problem behind it has no unique direction, as at a Pareto-stationary point, the mean gradient is used and
    the step is counted; another direction in the cone may then be better for the worst task.
    Deviations: solved exactly, where the paper updates the weights of the worst case by a step per iteration. Without
    released code, the length, the heads and the default of `c` are ours.
    """

    c: float = 0.5

    needs: ClassVar[Needs] = "gramian"
    heads: ClassVar[HeadRule] = "plain"

    def __post_init__(self) -> None:
        if not 0 <= self.c <= 1:
            raise ValueError(f"`c` must be from 0 to 1, found {self.c}")

    def init(self, n_tasks: int) -> State:
        del n_tasks
        return State()

    def step(self, signal: Signal, state: State) -> Update:
        weights, undefined = conic_weights(signal.required_gramian().numpy(), self.c)
        return Update(torch.from_numpy(weights), state, fallbacks=int(undefined))
