"""The two-task problem in the plane on which gradients conflict: losses, gradients and the Pareto front.

Above the axis θ2 = 0, each loss has a valley of its own, steep and one-sided; below lie two bowls with a smooth
Pareto front. A method must leave the valleys to get there.

Source: Liu et al., CAGrad (NeurIPS 2021), whose released `toy.py` fixes every sign and constant; Navon et al.,
Nash-MTL (ICML 2022), `experiments/toy`, from where the five starts and the scaling of L1 by 0.1 come.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]

STARTS: tuple[tuple[float, float], ...] = ((-8.5, 7.5), (0.0, 0.0), (9.0, 9.0), (-7.5, -0.5), (9.0, -1.0))
SCALINGS: tuple[tuple[float, float], ...] = ((1.0, 1.0), (0.1, 1.0))
# The valleys are cut off at log(FLOOR) + LEVEL.
FLOOR = 5e-6
LEVEL = 6.0
# θ1 of the least L1; L2's lies at its negative.
CENTRE = 7.0
DEPTH = 20.0
# θ2 that all points of the front lie between.
FRONT_LIMITS = (-9.0, -8.0)
HALVINGS = 60


def losses_and_gradients(points: Points) -> tuple[Points, Points]:
    """L (n, 2) and ∂L_i/∂θ_j (n, 2, 2) at points (n, 2).

    At θ2 = 0, the bound of both clamps, both halves pass their gradient: the published trajectories leave (0, 0).
    torch's clamp passes none there (as of 2.14). Elsewhere the gradient is torch's.
    """
    x, y = points[:, 0:1], points[:, 1:2]  # (n, 1)
    squashed = np.tanh(y)
    reach = np.concatenate((0.5 * (-x - 7) + squashed, 0.5 * (-x + 3) - squashed + 2), axis=1)  # (n, 2)
    depth = np.maximum(np.abs(reach), FLOOR)
    valley = np.log(depth) + LEVEL
    # d log|r| / dr, and nothing where the logarithm is cut off.
    slope = np.where(np.abs(reach) >= FLOOR, np.sign(reach) / depth, 0.0)
    valley_x = -0.5 * slope
    valley_y = slope * np.array([1.0, -1.0]) * (1 - squashed**2)

    offset = np.concatenate((CENTRE - x, -CENTRE - x), axis=1)  # (n, 2)
    bowl = (offset**2 + 0.1 * (y + 8) ** 2) / 10 - DEPTH
    bowl_x = -offset / 5
    bowl_y = 0.02 * (y + 8)

    half = np.tanh(0.5 * y)
    steepness = 0.5 * (1 - half**2)
    upper, lower = np.maximum(half, 0.0), np.maximum(-half, 0.0)
    upper_y, lower_y = np.where(half >= 0, steepness, 0.0), np.where(half <= 0, -steepness, 0.0)
    losses = upper * valley + lower * bowl
    along_x = upper * valley_x + lower * bowl_x
    along_y = upper_y * valley + upper * valley_y + lower_y * bowl + lower * bowl_y
    return losses, np.stack((along_x, along_y), axis=2)


def front_height(theta1: Points) -> Points:
    """θ2 of the Pareto front at each θ1 in [−7, 7].

    Along θ1 the two slopes are opposed with weights (7 + θ1)/14 on L1 and (7 − θ1)/14 on L2, whatever θ2; the front
    is where the same weights also cancel along θ2, found by bisection. Scaling a loss doesn't move the front.
    """
    low, high = (np.full_like(theta1, limit) for limit in FRONT_LIMITS)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        _, gradients = losses_and_gradients(np.stack((theta1, middle), axis=1))
        balance = balance_at(theta1)
        rising = balance * gradients[:, 0, 1] + (1 - balance) * gradients[:, 1, 1] > 0
        low, high = np.where(rising, low, middle), np.where(rising, middle, high)
    return (low + high) / 2


def front(n: int = 281) -> Points:
    """The Pareto front as a line of points (n, 2), from the least L2 (θ1 = −7) to the least L1 (θ1 = 7)."""
    theta1 = np.linspace(-CENTRE, CENTRE, n)
    return np.stack((theta1, front_height(theta1)), axis=1)


def distance_to_front(points: Points) -> Points:
    """Distance (n,) of points (n, 2) from the front in the plane of the unscaled losses.

    Measured to the front's point with the nearest θ1, so it is never less than the distance to the whole front. In
    the plane of θ a distance would mean little: along θ2 the bowls are so flat that a unit changes no loss by 0.1.
    """
    line = front()
    nearest = np.clip(points[:, 0], -CENTRE, CENTRE)
    height = np.interp(nearest, line[:, 0], line[:, 1])
    here, _ = losses_and_gradients(points)
    there, _ = losses_and_gradients(np.stack((nearest, height), axis=1))
    return np.asarray(np.hypot(*(here - there).T))


def balance_at(theta1: Points) -> Points:
    """Place along the front from 0 (least L2) to 1 (least L1): the share of L1, before any scaling of the losses, in
    the weighted sum that is stationary there.
    """
    return (np.clip(theta1, -CENTRE, CENTRE) + CENTRE) / (2 * CENTRE)
