"""How far weights are from the definition of their method; 0 is exact.

Each criterion takes a Gramian (m, m) and weights (m,) and has no unit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from methods.weightings.cagrad import CAGrad

Vector = NDArray[np.float64]

_CAGRAD_C = CAGrad().c


def kkt_gap(gramian: Vector, weights: Vector) -> float:
    """By how much a task's product with the combination falls short of its squared norm, over the largest ‖g_i‖²."""
    products = gramian @ weights
    return float((weights @ products - products.min()) / gramian.diagonal().max())


def bargain_gap(gramian: Vector, weights: Vector) -> float:
    """max |s²a(Ga) − 1| at the best scale s > 0, so that clipped weights may be exact."""
    gains = weights * (gramian @ weights)
    return float((gains.max() - gains.min()) / (gains.max() + gains.min())) if gains.max() + gains.min() > 0 else 1.0


def projection_spread(gramian: Vector, weights: Vector) -> float:
    """(largest − least projection on a unit gradient) / largest magnitude of one."""
    projections = gramian @ weights / np.sqrt(gramian.diagonal())
    return float((projections.max() - projections.min()) / np.abs(projections).max())


def dual_gap(gramian: Vector, weights: Vector) -> float:
    """Optimality gap of CAGrad's dual, over the largest ‖g_i‖², at the w of the weights, scaled to Σw = 1."""
    excess = weights - 1 / len(weights)
    w = np.maximum(excess / excess.sum(), 0.0) if excess.sum() > 0 else np.full(len(weights), 1 / len(weights))
    combined = gramian @ w
    slope = gramian.mean(axis=1) + _CAGRAD_C * np.sqrt(gramian.mean() / (w @ combined)) * combined
    return float((w @ slope - slope.min()) / gramian.diagonal().max())


def conflict(gramian: Vector, weights: Vector) -> float:
    """−(least cosine between the combination and a gradient), 0 without conflict."""
    products = gramian @ weights
    cosines = products / np.sqrt(gramian.diagonal() * max(float(weights @ products), np.finfo(np.float64).tiny))
    return float(max(-cosines.min(), 0.0))


CRITERIA: Mapping[str, Callable[[Vector, Vector], float]] = {
    "mgda": kkt_gap,
    "nash_mtl": bargain_gap,
    "imtl": projection_spread,
    "cagrad": dual_gap,
    "upgrad": conflict,
    "config": projection_spread,
}
